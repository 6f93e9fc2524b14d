//! `hallmark token`: an access token from the client's authorization server.

use std::path::PathBuf;

use hallmark_client::{AccessToken, Client, Error, SignRequest};
use hallmark_core::diagnosis::printable;
use serde_json::{Value, json};

use super::{
    Failure,
    args::TokenArgs,
    connect::{As, connect, failure, token_endpoint_ca},
    diagnose::{self, Authorities},
    output::Output,
};

mod print;

pub(super) async fn run(args: TokenArgs, connection: Option<PathBuf>, json: bool) -> Result<u8, Failure> {
    let TokenArgs { client, scope, alg, print } = args;
    let request = SignRequest::new(&client).scope(scope.unwrap_or_default()).alg(alg.unwrap_or_default());
    let authorities = Authorities { jwks: None, token_endpoint: token_endpoint_ca(connection.clone(), As::Workload) };
    let hallmark = connect(connection, As::Workload)?;
    if let Some(form) = print {
        let signed = hallmark.sign_assertion(request).await.map_err(|error| failure(&error, &client))?;
        return print::output(&client, &signed, form, json).print();
    }
    match hallmark.token_for(request).await {
        Ok(token) => {
            let granted = Granted::from(token);
            if json { Output::json(&granted.as_json()) } else { granted.as_text(&client) }.print()
        }
        Err(error) => Err(refused(&hallmark, &client, &error, &authorities).await),
    }
}

/// The authorization server's answer, and what may have made it refuse.
async fn refused(hallmark: &Client, client: &str, error: &Error, authorities: &Authorities) -> Failure {
    let plain = failure(error, client);
    let (answer, causes) = match diagnose::refusal(hallmark, client, error, authorities).await {
        Ok(Some(found)) => found,
        Ok(None) => return plain,
        // The refusal itself is what the person must see.
        Err(why) => {
            return plain.note(format!("the causes can't be looked for: {why}", why = why.render(false).trim_end()));
        }
    };
    let body = diagnose::body(&answer.body);
    let said = format!("status {}\n{body}", answer.status);
    let plain = plain.detail("body", printable(&answer.body, 2048)).detail("causes", diagnose::as_json(&causes));
    let plain = match causes.first() {
        Some(first) => plain.hint(printable(&first.next, 1000)),
        None => plain,
    };
    plain.note(format!("{said}likely causes\n{}", diagnose::as_text(&causes)))
}

/// The answer, for printing.
struct Granted {
    status: u16,
    access_token: String,
    token_type: String,
    expires_in: Option<u64>,
    scope: Option<String>,
}

impl From<AccessToken> for Granted {
    fn from(token: AccessToken) -> Self {
        Self {
            status: token.status(),
            access_token: token.expose().to_owned(),
            token_type: token.token_type().to_owned(),
            expires_in: token.granted_for().map(|life| life.as_secs()),
            scope: token.scope().map(str::to_owned),
        }
    }
}

impl Granted {
    /// The access token alone on standard output, so that it can be piped.
    fn as_text(&self, client: &str) -> Output {
        let life = self.expires_in.map_or("no word of its end".to_owned(), |life| format!("good for {life} s"));
        let scope =
            self.scope.as_ref().map(|scope| format!(", scope `{}`", printable(scope, 2000))).unwrap_or_default();
        let (status, token_type) = (self.status, printable(&self.token_type, 80));
        let stderr = format!("status {status}: access token for `{client}`, {token_type}, {life}{scope}\n");
        Output { stdout: format!("{}\n", self.access_token), stderr }
    }

    fn as_json(&self) -> Value {
        let Self { status, access_token, token_type, expires_in, scope } = self;
        json!({
            "status": status,
            "access_token": access_token,
            "token_type": token_type,
            "expires_in": expires_in,
            "scope": scope,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn granted(expires_in: Option<u64>, scope: Option<&str>) -> Granted {
        let (access_token, token_type) = ("secret".to_owned(), "Bearer".to_owned());
        Granted { status: 200, access_token, token_type, expires_in, scope: scope.map(str::to_owned) }
    }

    #[test]
    fn for_people() {
        let whole = granted(Some(300), Some("system/Patient.rs")).as_text("clinic");
        assert_eq!(whole.stdout, "secret\n");
        insta::assert_snapshot!(whole.stderr + &granted(None, None).as_text("clinic").stderr, @r"
        status 200: access token for `clinic`, Bearer, good for 300 s, scope `system/Patient.rs`
        status 200: access token for `clinic`, Bearer, no word of its end
        ");
    }

    #[test]
    fn what_the_server_says_of_the_token_steers_no_terminal() {
        let mut hostile = granted(None, Some("a\u{1b}[2J\u{9b}\u{202e}b\nhint: type this"));
        hostile.token_type = "Bearer\u{9d}0;title\u{7}".to_owned();
        let shown = hostile.as_text("clinic").stderr;
        assert!(!shown.trim_end().contains(|char: char| char.is_control() || char == '\u{202e}'), "{shown:?}");
        let json = Output::json(&hostile.as_json()).stdout;
        assert!(!json.trim_end().contains(|char: char| char.is_control() || char == '\u{202e}'), "{json:?}");
    }

    #[test]
    fn for_programs() {
        let text = granted(Some(300), None).as_json().to_string();
        insta::assert_snapshot!(text, @r#"{"access_token":"secret","expires_in":300,"scope":null,"status":200,"token_type":"Bearer"}"#);
    }
}
