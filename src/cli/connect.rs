//! How a command reaches the server, and how it says that something went wrong there.

use std::path::{Path, PathBuf};

use hallmark_client::{CONNECTION_VARIABLE, Client, Connection, Error, Options, Refusal};
use hallmark_core::diagnosis::printable;

use super::{Failure, hints::hint};

/// As whom a command asks, where the caller does not say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum As {
    Workload,
    Operator,
}

/// A client for one command: it says at once when there is no server.
pub(super) fn connect(named: Option<PathBuf>, who: As) -> Result<Client, Failure> {
    let path = choose(named, who, Path::is_file)?;
    let mut options = Options::default();
    options.wait_for_server = false;
    let client = Connection::from_file(&path).and_then(|connection| Client::connect_with(connection, options));
    client.map_err(|error| failure(&error, "CLIENT"))
}

/// The CAs that the connection names for authorization servers.
pub(super) fn token_endpoint_ca(named: Option<PathBuf>, who: As) -> Option<PathBuf> {
    let path = choose(named, who, Path::is_file).ok()?;
    Connection::from_file(path).ok()?.token_endpoint_ca
}

/// The connection file: the one named, else the one that `hallmark dev` made here.
fn choose(named: Option<PathBuf>, who: As, exists: impl Fn(&Path) -> bool) -> Result<PathBuf, Failure> {
    if let Some(path) = named.filter(|path| !path.as_os_str().is_empty()) {
        return Ok(path);
    }
    let usual = Path::new(match who {
        As::Workload => ".hallmark/workload.toml",
        As::Operator => ".hallmark/operator.toml",
    });
    if exists(usual) {
        return Ok(usual.to_owned());
    }
    let text = format!("no connection is named, and there is none here: `{}`", usual.display());
    let hint =
        format!("start a server with `hallmark dev`, or name one with --connection FILE or ${CONNECTION_VARIABLE}");
    Err(Failure::new(text).hint(hint))
}

/// What to show for an error of the client. `client` is the OAuth client that the command is about.
pub(super) fn failure(error: &Error, client: &str) -> Failure {
    let mut failure = Failure::new(error.message()).detail("reason", error.reason());
    if let Some(source) = std::error::Error::source(error) {
        failure = failure.caused_by(source);
    }
    if let Some(refusal) = error.refusal() {
        failure = with_refusal(failure, refusal);
    }
    if let Some(delay) = error.retry_after() {
        failure = failure.detail("retry_after", delay.as_secs_f64());
    }
    let oauth = error.refusal().and_then(|refusal| refusal.error.as_deref());
    match hint(error.reason(), oauth, client) {
        Some(hint) => failure.hint(hint),
        None => failure,
    }
}

/// What the authorization server said: its description, or the beginning of its answer where that is no OAuth error.
fn with_refusal(failure: Failure, refusal: &Refusal) -> Failure {
    let Refusal { status, error, error_description, body } = refusal;
    let clean = |text: &Option<String>| text.as_deref().map(|text| printable(text, MOST_SAID));
    let (error, error_description) = (clean(error), clean(error_description));
    let body = if error.is_none() { body.trim() } else { "" };
    let failure = failure.because(error_description.as_deref().unwrap_or(body)).detail("status", *status);
    failure.detail("error", error).detail("error_description", error_description)
}

/// Of an authorization server's words, in characters.
const MOST_SAID: usize = 2048;

#[cfg(test)]
mod tests {
    use hallmark_client::reason;

    use super::*;

    #[test]
    fn the_connection_is_the_one_named_or_the_usual_one() {
        let here = |path: &Path| path.starts_with(".hallmark");
        let nowhere = |_: &Path| false;
        assert_eq!(choose(Some("x.toml".into()), As::Operator, nowhere), Ok("x.toml".into()));
        assert_eq!(choose(None, As::Workload, here), Ok(".hallmark/workload.toml".into()));
        assert_eq!(choose(Some("".into()), As::Operator, here), Ok(".hallmark/operator.toml".into()));
        insta::assert_snapshot!(choose(None, As::Workload, nowhere).expect_err("nothing there").render(false), @r"
        error: no connection is named, and there is none here: `.hallmark/workload.toml`
        hint: start a server with `hallmark dev`, or name one with --connection FILE or $HALLMARK_CONNECTION
        ");
    }

    #[test]
    fn a_refusal_is_told_with_what_to_compare() {
        let (error, error_description) = (Some("invalid_client".to_owned()), Some("no matching key".to_owned()));
        let refusal = Refusal { status: 401, error, error_description, body: "{…}".to_owned() };
        let told = |refusal: &Refusal| {
            let failure = Failure::new("the authorization server at `https://as.example/token` answered");
            let hint = hint(reason::TOKEN_REFUSED, refusal.error.as_deref(), "clinic");
            let failure = with_refusal(failure, refusal);
            hint.map_or(failure.clone(), |hint| failure.hint(hint))
        };
        let page =
            Refusal { error: None, error_description: None, body: "<html>\nno such page\n".to_owned(), status: 404 };
        insta::assert_snapshot!(
            told(&refusal).render(false) + &told(&refusal).render(true) + &told(&page).render(false)
        );
    }
}
