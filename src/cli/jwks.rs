//! `hallmark jwks`: a client's public keys, as they are, as they are seen, and as files.

use std::path::PathBuf;

use hallmark_client::Jwks;
use serde_json::{Value, json};

use super::{
    Failure, USAGE,
    args::{JwksArgs, JwksCommand},
    connect::{As, connect, failure},
    output::Output,
};

mod check;
mod export;

pub(super) async fn run(args: JwksArgs, connection: Option<PathBuf>, json: bool) -> Result<u8, Failure> {
    match (args.command, args.client) {
        (Some(JwksCommand::Check(args)), _) => check::run(args, connection, json).await,
        (Some(JwksCommand::Export(args)), _) => export::run(args, connection, json).await,
        (Some(JwksCommand::Show(args)), _) => show(args.client, connection, json).await,
        (None, Some(client)) => show(client, connection, json).await,
        // The command line wants one of them.
        (None, None) => Err(Failure::new("no client is named").hint("hallmark jwks CLIENT").with_exit_code(USAGE)),
    }
}

async fn show(client: String, connection: Option<PathBuf>, json: bool) -> Result<u8, Failure> {
    let jwks = connect(connection, As::Workload)?.jwks(&client).await;
    let jwks = jwks.map_err(|error| failure(&error, &client))?;
    render(&client, &jwks, json)?.print()
}

fn render(client: &str, jwks: &Jwks, json: bool) -> Result<Output, Failure> {
    if jwks.document.is_empty() {
        let text = format!("`{client}` has no key yet, so its JWKS URL answers 404: `{}`", jwks.url);
        let hint = format!("make its first keys: hallmark keys create {client} --reason TEXT");
        return Err(Failure::new(text).hint(hint));
    }
    let document: Value = serde_json::from_slice(&jwks.document)
        .map_err(|error| Failure::new("the server sent a JWKS that is not JSON").caused_by(&error))?;
    if json {
        return Ok(Output::json(&json!({ "url": jwks.url, "etag": jwks.etag, "jwks": document })));
    }
    Ok(Output { stdout: format!("{document:#}\n"), stderr: format!("{}\n", jwks.url) })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn jwks(document: &str) -> Jwks {
        let url = "https://keys.example/clients/clinic/jwks.json".to_owned();
        Jwks { document: document.into(), url, etag: "\"e\"".to_owned() }
    }

    #[test]
    fn the_document_or_what_to_do_about_it() {
        let text = render("clinic", &jwks(r#"{"keys":[]}"#), false).expect("a document");
        insta::assert_snapshot!(format!("{}--- stderr\n{}", text.stdout, text.stderr), @r#"
        {
          "keys": []
        }
        --- stderr
        https://keys.example/clients/clinic/jwks.json
        "#);
        let json = render("clinic", &jwks(r#"{"keys":[]}"#), true).expect("a document");
        insta::assert_snapshot!(json.stdout, @r#"{"etag":"\"e\"","jwks":{"keys":[]},"url":"https://keys.example/clients/clinic/jwks.json"}"#);
        let none = render("clinic", &jwks(""), false).expect_err("no key");
        insta::assert_snapshot!(none.render(false), @r"
        error: `clinic` has no key yet, so its JWKS URL answers 404: `https://keys.example/clients/clinic/jwks.json`
        hint: make its first keys: hallmark keys create clinic --reason TEXT
        ");
    }
}
