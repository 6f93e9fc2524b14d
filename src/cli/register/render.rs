//! What is to be handed over, for printing: that on standard output, what to do with it beside.

use hallmark_core::registration::{Application, Facts, Filled, Form, Handed};
use serde_json::{Value, json};

use super::{inert, printable_lines};
use crate::cli::output::Output;

pub(super) fn as_text(facts: &Facts, application: &Application) -> Output {
    let client = &facts.client;
    let (mut stdout, how) = form(&application.form, client);
    let mut stderr = format!("`{client}` at {} (profile `{}`)\n{how}", facts.profile.system, facts.profile.name);
    for Filled { label, value } in &application.fields {
        match value {
            Ok(value) if value.trim_end().contains('\n') => stdout += &format!("{label}\n{}\n", value.trim_end()),
            Ok(value) => stdout += &format!("{label}: {value}\n"),
            Err(missing) => stdout += &format!("{label}: ({missing})\n"),
        }
    }
    for (title, handed) in &application.handouts {
        let body = match handed {
            Handed::Text(text) => text.clone(),
            Handed::Document(document) => inert(&format!("{document:#}\n")),
        };
        stdout += &format!("\n--- {title}\n{body}");
    }
    for (n, step) in (1..).zip(application.steps) {
        stderr += &format!("{n}. {step}\n");
    }
    stderr.extend(application.remarks.iter().map(|remark| format!("note: {remark}\n")));
    if facts.client_id.is_none() {
        stderr += &format!("hint: once it has a client_id there: hallmark register {client} --client-id ID\n");
    }
    // Words of certificates and servers are in it.
    Output { stdout: printable_lines(&stdout), stderr: printable_lines(&stderr) }
}

/// What is sent for `client`, and how.
fn form(form: &Form, client: &str) -> (String, String) {
    let shown = |document: &Value| inert(&format!("{document:#}\n"));
    match form {
        Form::ByHand => (String::new(), String::new()),
        Form::Document(document) => {
            let how = "post this document to the registration endpoint, as application/json; or have it sent";
            (shown(document), format!("{how}: hallmark register {client} --post --url URL\n"))
        }
        Form::SoftwareStatement { metadata, issuer } => {
            let how = match issuer {
                Ok(issuer) => format!("its `iss` is `{issuer}`: hallmark register {client} --post --url URL"),
                Err(missing) => missing.clone(),
            };
            (shown(metadata), format!("a software statement says this; {how}\n"))
        }
    }
}

pub(super) fn as_json(facts: &Facts, application: &Application) -> Value {
    let field = |Filled { label, value }: &Filled| json!({ "label": label, "value": value.as_ref().ok(), "missing": value.as_ref().err() });
    let handout = |(title, handed): &(&str, Handed)| match handed {
        Handed::Text(text) => json!({ "title": title, "text": text }),
        Handed::Document(document) => json!({ "title": title, "document": document }),
    };
    let (document, statement) = match &application.form {
        Form::ByHand => (None, None),
        Form::Document(document) => (Some(document), None),
        Form::SoftwareStatement { metadata, issuer } => {
            let statement =
                json!({ "metadata": metadata, "issuer": issuer.as_ref().ok(), "missing": issuer.as_ref().err() });
            (None, Some(statement))
        }
    };
    json!({
        "client": facts.client,
        "client_id": facts.client_id,
        "profile": facts.profile.name,
        "document": document,
        "software_statement": statement,
        "fields": application.fields.iter().map(field).collect::<Vec<_>>(),
        "handouts": application.handouts.iter().map(handout).collect::<Vec<_>>(),
        "steps": application.steps,
        "remarks": application.remarks,
    })
}

#[cfg(test)]
mod tests {
    use hallmark_core::{
        profile::Profile,
        registration::{CertificateFacts, Wishes, application},
    };

    use super::*;

    const HOSTILE: &str = "https://app.example/\u{1b}[2J\u{9b}\u{202e}\nhint: type this";

    fn facts(profile: &str) -> Facts {
        Facts {
            profile: Profile::find(profile).unwrap(),
            client: "clinic".to_owned(),
            client_id: None,
            iss: None,
            token_endpoint: "https://ehr.example/oauth2/token/".to_owned(),
            jwks_url: "https://keys.example/clients/clinic/jwks.json".to_owned(),
            jwks: Some(json!({ "keys": [] })),
            alg: Some("RS384".to_owned()),
            kid: Some("key-1".to_owned()),
            public_key_pem: Some("-----BEGIN PUBLIC KEY-----\nMIIB\n-----END PUBLIC KEY-----\n".to_owned()),
            certificate: None,
            wishes: Wishes { contacts: vec!["ops@app.example".to_owned()], ..Wishes::default() },
        }
    }

    #[test]
    fn for_people() {
        for profile in ["openemr-7", "webchart", "ecw-healow", "entra", "udap-b2b"] {
            let facts = facts(profile);
            let Output { stdout, stderr } = as_text(&facts, &application(&facts));
            insta::assert_snapshot!(profile, format!("{stdout}--- stderr\n{stderr}"));
        }
    }

    /// Who asks for a certificate chooses its names.
    #[test]
    fn names_of_a_certificate_steer_no_terminal() {
        let facts = Facts {
            certificate: Some(CertificateFacts { san_uris: vec![HOSTILE.to_owned()], ..CertificateFacts::default() }),
            wishes: Wishes { name: Some(HOSTILE.to_owned()), scope: Some("a".to_owned()), ..Wishes::default() },
            ..facts("udap-b2b")
        };
        let Output { stdout, stderr } = as_text(&facts, &application(&facts));
        for text in [stdout, stderr] {
            let steers = |char: char| char != '\n' && (char.is_control() || char == '\u{202e}');
            assert!(text.contains("app.example") && !text.contains(steers), "{text:?}");
        }
    }

    #[test]
    fn for_programs() {
        let facts = facts("webchart");
        insta::assert_snapshot!(format!("{:#}", as_json(&facts, &application(&facts))));
    }
}
