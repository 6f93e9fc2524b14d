use super::*;
use crate::profile::Rule;

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
        public_key_pem: Some("-----BEGIN PUBLIC KEY-----\n…\n-----END PUBLIC KEY-----\n".to_owned()),
        certificate: None,
        wishes: Wishes { scope: Some("system/Patient.rs".to_owned()), ..Wishes::default() },
    }
}

fn sent(profile: &str) -> Value {
    match application(&facts(profile)).form {
        Form::Document(document) => document,
        form => panic!("{profile}: {form:?}"),
    }
}

/// It refuses `private_key_jwt` as a method, and wants redirect URIs.
#[test]
fn openemr_gets_what_it_takes() {
    let expected = json!({
        "application_type": "private",
        "client_name": "clinic",
        "jwks_uri": "https://keys.example/clients/clinic/jwks.json",
        "redirect_uris": [PLACEHOLDER],
        "scope": "system/Patient.rs",
    });
    assert_eq!(sent("openemr-7"), expected);
    assert_eq!(sent("openemr-8"), expected);
}

/// Servers that expect RS256 where nothing is said must be told.
#[test]
fn others_get_rfc_7591() {
    let document = sent("generic");
    let expected = json!({
        "client_name": "clinic",
        "grant_types": ["client_credentials"],
        "jwks_uri": "https://keys.example/clients/clinic/jwks.json",
        "response_types": [],
        "scope": "system/Patient.rs",
        "token_endpoint_auth_method": "private_key_jwt",
        "token_endpoint_auth_signing_alg": "RS384",
    });
    assert_eq!(document, expected);
    let mut wishing = facts("generic");
    wishing.wishes = Wishes {
        name: Some("The Clinic".to_owned()),
        scope: None,
        redirect_uris: vec!["https://app.example/r".to_owned()],
        contacts: vec!["ops@app.example".to_owned()],
    };
    let told = application(&wishing);
    let Form::Document(document) = &told.form else { panic!("{told:?}") };
    assert_eq!(document["client_name"], "The Clinic");
    assert_eq!(document["redirect_uris"], json!(["https://app.example/r"]));
    assert_eq!((document.get("response_types"), document.get("scope")), (None, None));
    assert_eq!(document["contacts"], json!(["ops@app.example"]));
    assert!(told.remarks.iter().any(|remark| remark.contains("--scope")), "{told:?}");
}

#[test]
fn webchart_gets_a_login_trust_and_its_other_ways() {
    let mut registered = facts("webchart");
    registered.client_id = Some("it's {jwks_url}".to_owned());
    let told = application(&registered);
    assert_eq!(told.form, Form::ByHand);
    let value = |label: &str| told.fields.iter().find(|field| field.label == label).unwrap().value.clone().unwrap();
    assert_eq!(value("Domain"), "it's {jwks_url}");
    assert_eq!((value("Key Format"), value("Digest")), ("PEM".to_owned(), "SHA1".to_owned()));
    assert!(value("Public Key").starts_with("-----BEGIN PUBLIC KEY-----"));
    let [(_, Handed::Document(document)), (_, Handed::Text(row))] = &told.handouts[..] else { panic!("{told:?}") };
    assert_eq!(document["token_endpoint_auth_method"], "private_key_jwt");
    assert_eq!(document["grant_types"], json!(["client_credentials"]));
    assert!(row.contains("login_fail_url   https://keys.example/clients/clinic/jwks.json"), "{row}");
    assert!(row.contains("domain           it's {jwks_url}"), "a value is no template: {row}");
    assert!(!format!("{told:?}").contains("PRIVATE"));
}

#[test]
fn the_mail_to_the_support_is_ready() {
    let mut known = facts("ecw-healow");
    known.client_id = Some("app-7".to_owned());
    let told = application(&known);
    let [(_, Handed::Text(mail))] = &told.handouts[..] else { panic!("{told:?}") };
    for text in
        ["Client ID:       app-7\n", "clinic/jwks.json\n", "key-1 (", "RS384", "system/Patient.rs", "(name and mail"]
    {
        assert!(mail.contains(text), "{text}: {mail}");
    }
    assert!(!mail.contains('{'), "{mail}");
}

#[test]
fn what_is_not_there_yet_is_said_with_what_to_type() {
    let mut bare = facts("entra");
    (bare.jwks, bare.public_key_pem, bare.kid) = (None, None, None);
    let told = application(&bare);
    assert!(!told.fields.is_empty());
    for field in &told.fields {
        assert!(field.value.as_ref().is_err_and(|missing| missing.contains("hallmark csr clinic")), "{field:?}");
    }
    bare.certificate = Some(CertificateFacts { sha1: "AB".to_owned(), sha256: "CD".to_owned(), ..Default::default() });
    let values: Vec<_> = application(&bare).fields.into_iter().map(|field| field.value).collect();
    assert!(values.contains(&Ok("AB".to_owned())) && values.contains(&Ok("CD".to_owned())), "{values:?}");
}

#[test]
fn a_software_statement_needs_a_uri_of_the_certificate() {
    let mut udap = facts("udap-b2b");
    udap.wishes.contacts = vec!["ops@app.example".to_owned()];
    let issuer = |facts: &Facts| match application(facts).form {
        Form::SoftwareStatement { metadata, issuer } => (metadata, issuer),
        form => panic!("{form:?}"),
    };
    assert!(issuer(&udap).1.is_err_and(|missing| missing.contains("hallmark csr")));
    udap.certificate = Some(CertificateFacts::default());
    assert!(issuer(&udap).1.is_err_and(|missing| missing.contains("--san-uri")));
    udap.certificate =
        Some(CertificateFacts { san_uris: vec!["https://app.example/".to_owned()], ..Default::default() });
    let (metadata, issuer) = issuer(&udap);
    assert_eq!(issuer, Ok("https://app.example/".to_owned()));
    assert_eq!(metadata["contacts"], json!(["mailto:ops@app.example"]));
    assert_eq!(udap_request("a.b.c")["udap"], "1");
}

#[test]
fn what_will_be_refused_is_said_beforehand() {
    let mut plain = facts("webchart");
    plain.jwks_url = "http://keys.example/jwks.json".to_owned();
    plain.alg = Some("ES384".to_owned());
    let remarks = application(&plain).remarks.join("\n");
    let Some(Rule { source, .. }) = plain.profile.registration.uploaded_algs else { panic!("no rule") };
    assert!(remarks.contains("not https") && remarks.contains("ES384") && remarks.contains(source), "{remarks}");
    assert_eq!(application(&facts("epic")).remarks, [] as [&str; 0]);
}

#[test]
fn every_profile_says_what_to_hand_over() {
    for profile in Profile::all() {
        let told = application(&facts(profile.name));
        let says_something = !told.fields.is_empty() || told.form != Form::ByHand;
        assert!(says_something && !told.steps.iter().any(|step| step.is_empty()), "{}", profile.name);
    }
    assert!(Profile::with_handouts().all(|name| Profile::find(name).is_some()));
}
