//! What is to be handed over, for printing: that on standard output, what to do with it beside.

use hallmark_core::registration::{Application, Facts, Filled, Form, Handed};
use serde_json::{Value, json};

use crate::cli::output::Output;

pub(super) fn as_text(facts: &Facts, application: &Application) -> Output {
    let client = &facts.client;
    let mut stdout = String::new();
    let mut stderr = format!("`{client}` at {} (profile `{}`)\n", facts.profile.system, facts.profile.name);
    match &application.form {
        Form::ByHand => {}
        Form::Document(document) => {
            stdout += &format!("{document:#}\n");
            stderr += "post this document to the registration endpoint, as application/json; ";
            stderr += &format!("or have it sent: hallmark register {client} --post --url URL\n");
        }
        Form::SoftwareStatement { metadata, issuer } => {
            stdout += &format!("{metadata:#}\n");
            stderr += "a software statement says this; ";
            stderr += &match issuer {
                Ok(issuer) => format!("its `iss` is `{issuer}`: hallmark register {client} --post --url URL\n"),
                Err(missing) => format!("{missing}\n"),
            };
        }
    }
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
            Handed::Document(document) => format!("{document:#}\n"),
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
    Output { stdout, stderr }
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
        registration::{Wishes, application},
    };

    use super::*;

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

    #[test]
    fn for_programs() {
        let facts = facts("webchart");
        insta::assert_snapshot!(format!("{:#}", as_json(&facts, &application(&facts))));
    }
}
