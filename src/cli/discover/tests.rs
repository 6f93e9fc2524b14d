use hallmark_core::profile::Audience;

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
                unreached: None,
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

/// A server that is away is no server without documents.
#[tokio::test]
async fn where_nothing_answers_that_is_all_there_is_to_say() {
    // An address of this test's own: nobody else takes the port.
    let free = std::net::TcpListener::bind("127.0.0.78:0").unwrap().local_addr().unwrap();
    let url = format!("http://{free}/fhir/r4");
    let verifier = Verifier::new(None).unwrap();
    let asked = join_all(Kind::ALL.map(|kind| ask(&verifier, kind, &url))).await;
    let report = Report::new(asked.clone(), Discovery { url: url.clone(), documents: Vec::new() }, None, None);
    let Output { stdout, stderr } = report.as_text();
    let said = format!("`http://{free}` can't be reached from here: Connection refused (os error 111)");
    let hint = format!(
        "hint: is it up, is the port right, and does a firewall let this machine through? try: curl -v http://{free}"
    );
    assert_eq!((stdout.as_str(), stderr), ("", format!("{said}\n{hint}\n")));
    assert_eq!(report.as_json()["unreached"], said);
    // One answer makes it another story.
    let mut asked = asked;
    asked[0] = Asked { outcome: "answers 404".to_owned(), ..Asked::of(Kind::Smart) };
    let report = Report::new(asked, Discovery { url, documents: Vec::new() }, None, None);
    assert!(report.as_text().stderr.contains("no document names a token endpoint"), "{}", report.as_text().stderr);
    assert_eq!(report.as_json()["unreached"], serde_json::Value::Null);
}

#[test]
fn a_password_is_not_repeated() {
    for url in ["https://me:s3cret@e.example/fhir", "ftp://me:s3cret@e.example", "https://me:s3cret@e.example/?x"] {
        let failure = base(url).unwrap_err();
        assert!(failure.exit_code() == USAGE && !failure.render(false).contains("s3cret"), "{}", failure.render(false));
    }
}

#[test]
fn hostile_texts_stay_texts() {
    let smart = r#"{"token_endpoint": "https://e.example/t\"\\n[[operator]]#\""}"#;
    let Output { stdout, .. } = report(&[(Kind::Smart, smart)]).as_text();
    let parsed: toml::Table = stdout.parse().unwrap();
    assert_eq!(parsed.keys().collect::<Vec<_>>(), ["client"], "no section but the client's: {stdout}");
}

#[test]
fn what_no_url_has_is_not_pasted() {
    for hostile in [r#"\"\n[[operator]]\nid = \"uid:0\"\u001b[2J"#, r"\u202e", r"\u009b2J", "ü", "a b"] {
        let smart = format!(r#"{{"token_endpoint": "https://e.example/t{hostile}"}}"#);
        let report = report(&[(Kind::Smart, &smart)]);
        let Output { stdout, stderr } = report.as_text();
        assert!(stdout.is_empty() && !report.has_section(), "{stdout}");
        assert!(stderr.contains("no section: the token endpoint `https://e.example/t"), "{stderr}");
        assert!(!stderr.contains(['\u{1b}', '\u{9b}', '\u{202e}']), "{stderr:?}");
    }
    let issuer = r#"{"token_endpoint": "https://e.example/t", "issuer": "https://e.example/\u202e"}"#;
    let documents = vec![(Kind::Smart, Kind::Smart.read(issuer.as_bytes()).unwrap())];
    let discovery = Discovery { url: "https://e.example".to_owned(), documents };
    let wants = |audience| Profile::all().find(|profile| profile.makes.aud == audience).unwrap();
    let with = |audience| Report::new(Vec::new(), discovery.clone(), Some(wants(audience)), None).as_text();
    let refused = with(Audience::Issuer);
    assert!(refused.stdout.is_empty() && refused.stderr.contains("no section: the issuer"), "{refused:?}");
    assert!(with(Audience::TokenEndpoint).stdout.contains("[[client]]"), "an issuer that is not used does no harm");
}

#[test]
fn a_name_is_one_of_a_client() {
    let smart = r#"{"token_endpoint": "https://e.example/t"}"#;
    for bad in ["Clinic", "", "a\"b", &format!("{}ü-and-more", "a".repeat(59)), &"a".repeat(64)] {
        assert_eq!(client_name(bad).unwrap_err().exit_code(), USAGE, "{bad}");
    }
    let name = client_name(&"a".repeat(63)).unwrap();
    let mut document = Kind::Smart.read(smart.as_bytes()).unwrap();
    document.carequality_token_endpoint = Some("https://e.example/cq".to_owned());
    let discovery = Discovery { url: "https://e.example".to_owned(), documents: vec![(Kind::Smart, document)] };
    let stdout = Report::new(Vec::new(), discovery, None, Some(&name)).as_text().stdout;
    let parsed: toml::Table = stdout.parse().unwrap();
    let names = parsed["client"].as_array().unwrap().iter().map(|client| client["name"].as_str().unwrap());
    assert!(names.clone().all(|name| name.parse::<ClientName>().is_ok()) && names.count() == 2, "{stdout}");
}
