//! Reads a JWKS URL once, as an authorization server would, and says what kept it away.

use std::path::Path;

use super::check::Finding;
use crate::{
    cli::Failure,
    verifier::{HttpAnswer, Unreached, Unseen, Verifier},
};

/// The answer, whatever it is; or what kept it away, which is a finding too. A [`Failure`] is one of this machine.
pub(super) async fn fetch(url: &str, ca: Option<&Path>) -> Result<Result<HttpAnswer, Finding>, Failure> {
    let verifier = Verifier::new(ca).map_err(unusable)?;
    match verifier.ask(url).await {
        Ok(answer) => Ok(Ok(answer)),
        Err(Unseen::Failed(unreached)) => Ok(Err(unreachable(&unreached))),
        Err(Unseen::NoUrl(why)) => Err(Failure::new(format!("this is no URL: `{url}`")).because(why)),
        Err(error) => Err(unusable(error)),
    }
}

fn unusable(error: Unseen) -> Failure {
    let ca = |path: String| Failure::new(format!("can't use --ca: `{path}`"));
    match error {
        Unseen::Ca(path, why) => ca(path).because(why),
        Unseen::NoCa(path) => {
            ca(path).because("there is no certificate in it").hint("it must be PEM: -----BEGIN CERTIFICATE-----")
        }
        error => Failure::new("can't set up HTTPS").caused_by(&error),
    }
}

fn unreachable(unreached: &Unreached) -> Finding {
    let Unreached { without_url: text, timed_out, .. } = unreached;
    Finding::bad(format!("it can't be read: {text}"), reading_hint(text, *timed_out))
}

/// By what the libraries say, for they do not sort it.
fn reading_hint(text: &str, timeout: bool) -> &'static str {
    let lower = text.to_lowercase();
    if lower.contains("certificate") || lower.contains("tls") {
        return "its certificate must be for this name, valid, and from an authority that verifiers trust; --ca FILE for one of your own";
    }
    if lower.contains("dns") || lower.contains("lookup") {
        return "does the name exist outside of your network? try: getent hosts NAME";
    }
    if timeout {
        return "nothing answered in time: a firewall, or an address that is reachable from inside only";
    }
    "is the JWKS listener, or the proxy before it, up? try: curl -v URL"
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn what_keeps_it_away_is_told_apart() {
        let hints = [
            ("client error (Connect): invalid peer certificate: UnknownIssuer", false),
            ("client error (Connect): dns error: failed to lookup address information", false),
            ("operation timed out", true),
            ("client error (Connect): tcp connect error: Connection refused", false),
        ]
        .map(|(text, timeout)| reading_hint(text, timeout).split([':', ';']).next().unwrap_or_default());
        insta::assert_snapshot!(hints.join("\n"), @r"
        its certificate must be for this name, valid, and from an authority that verifiers trust
        does the name exist outside of your network? try
        nothing answered in time
        is the JWKS listener, or the proxy before it, up? try
        ");
    }

    #[tokio::test]
    async fn nobody_there_is_a_finding_and_no_failure() {
        // A port that was free a moment ago, on an address of this test's own.
        let free = std::net::TcpListener::bind("127.0.0.9:0").unwrap().local_addr().unwrap();
        let finding = fetch(&format!("http://{free}/jwks.json"), None).await.unwrap().unwrap_err();
        assert!(!finding.good && finding.what.starts_with("it can't be read: "), "{finding:?}");
        assert!(finding.hint.is_some());
    }

    #[tokio::test]
    async fn what_is_wrong_here_is_a_failure() {
        let folder = tempfile::tempdir().unwrap();
        let empty = folder.path().join("ca.pem");
        fs::write(&empty, "").unwrap();
        let text = async |url: &str, ca: Option<&Path>| fetch(url, ca).await.unwrap_err().render(false);
        assert!(text("https://a.example", Some(&empty)).await.contains("no certificate in it"));
        assert!(text("https://a.example", Some(&folder.path().join("none"))).await.contains("can't use --ca"));
        assert!(text("not a url", None).await.contains("this is no URL"));
    }
}
