use super::*;

#[test]
fn what_leads_to_a_document_is_taken_off() {
    for (url, expected) in [
        ("https://e.example/fhir/r4/", "https://e.example/fhir/r4"),
        ("https://e.example/fhir/r4/metadata", "https://e.example/fhir/r4"),
        ("https://e.example/fhir/.well-known/smart-configuration", "https://e.example/fhir"),
        ("https://e.example", "https://e.example"),
    ] {
        assert_eq!(base(url).unwrap(), expected);
    }
    for bad in ["e.example", "ftp://e.example", "https://", "https://e.example/?x", "https://e.example/\u{1b}[31m"] {
        assert_eq!(base(bad).unwrap_err().exit_code(), USAGE, "{bad}");
    }
}

fn report(documents: &[(Kind, &str)]) -> Report {
    let asked: Vec<_> = Kind::ALL
        .into_iter()
        .map(|kind| {
            let body = documents.iter().find(|(other, _)| *other == kind).map(|(_, body)| body);
            Asked {
                kind,
                url: kind.urls("https://ehr.example").pop().unwrap(),
                outcome: "answers 404".to_owned(),
                document: body.map(|body| kind.read(body.as_bytes()).unwrap()),
            }
        })
        .collect();
    let documents = asked.iter().filter_map(|asked| Some((asked.kind, asked.document.clone()?))).collect();
    let discovery = Discovery { url: "https://ehr.example".to_owned(), documents };
    Report::new(asked, discovery, None, None)
}

#[test]
fn a_section_is_ready_to_paste() {
    let smart = r#"{
        "issuer": "",
        "token_endpoint": "https://ehr.example/oauth2/token/",
        "token_endpoint_auth_signing_alg_values_supported": ["ES384"],
        "grant_types_supported": "authorization_code",
        "capabilities": ["client-confidential-asymmetric"]
    }"#;
    let openid = r#"{"token_endpoint": "https://login.ehr.example/token"}"#;
    let Output { stdout, stderr } = report(&[(Kind::Smart, smart), (Kind::OpenId, openid)]).as_text();
    insta::assert_snapshot!(format!("{stderr}---\n{stdout}"));
}

#[test]
fn without_a_token_endpoint_it_is_said_what_to_do() {
    let Output { stdout, stderr } = report(&[]).as_text();
    assert_eq!(stdout, "");
    insta::assert_snapshot!(stderr);
}

#[test]
fn hostile_texts_stay_texts() {
    let smart = r#"{"token_endpoint": "https://e.example/t\"\n[[operator]]\nid = \"uid:0\"\u001b[2J"}"#;
    let Output { stdout, stderr } = report(&[(Kind::Smart, smart)]).as_text();
    assert!(!stdout.contains('\u{1b}') && !stderr.contains('\u{1b}'), "{stdout}");
    let parsed: toml::Table = stdout.parse().unwrap();
    assert_eq!(parsed.keys().collect::<Vec<_>>(), ["client"], "no section but the client's: {stdout}");
}
