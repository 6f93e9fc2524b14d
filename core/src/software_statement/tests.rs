use std::time::Duration;

use serde_json::{Value, json};

use super::*;
use crate::{key::Alg, key::Kid, policy::Workload, profile::Profile};

const NOW: Timestamp = Timestamp::from_millis(1_800_000_000_789);
const ENDPOINT: &str = "https://as.example/register";

fn client() -> Client {
    let profile = Profile::find("udap-b2b").unwrap();
    let mut client = Client::new("clinic".parse().unwrap(), profile, "https://as.example/token/");
    // Without a certificate, but where the test is about one.
    client.makes = Profile::generic().makes;
    client.issuer = Some("https://as.example".into());
    client
}

/// May name another audience for the client's assertions.
fn workload() -> Workload {
    Workload {
        id: "dns:w.example".parse().unwrap(),
        clients: vec!["clinic".parse().unwrap()],
        audiences: vec!["https://other.example/token".into()],
        claims: Vec::new(),
        rate: None,
        concurrency: None,
    }
}

fn claims(json: &Value) -> Claims {
    let raw = |value: &Value| serde_json::value::RawValue::from_string(value.to_string()).unwrap();
    Claims(json.as_object().unwrap().iter().map(|(name, value)| (name.clone(), raw(value))).collect())
}

fn statement() -> Statement {
    let claims = claims(&json!({ "client_name": "Clinic", "contacts": ["mailto:it@clinic.example"] }));
    Statement { registration_endpoint: ENDPOINT.into(), issuer: Some("https://clinic.example/".into()), claims }
}

fn made(statement: Statement, client: &Client) -> Result<(Value, Value, Stamp), Error> {
    let kid: Kid = "k1".parse().unwrap();
    let policy = Policy::new([workload()], []);
    let input = prepare(statement, client, &policy, HeaderKey { alg: Alg::RS256, kid: &kid, certificates: &[] })?;
    assert_eq!(input.kind(), "software-statement");
    let signed = input.encode(NOW, [7; 16])?;
    let (compact, stamp) = signed.into_compact(b"signature")?;
    let parts: Vec<_> = compact.split('.').map(|part| URL_SAFE_NO_PAD.decode(part).unwrap()).collect();
    assert_eq!(parts[2], b"signature");
    Ok((serde_json::from_slice(&parts[0]).unwrap(), serde_json::from_slice(&parts[1]).unwrap(), stamp))
}

#[test]
fn it_says_what_was_asked_for_and_how_the_client_authenticates() {
    let (header, claims, stamp) = made(statement(), &client()).unwrap();
    assert_eq!(header, json!({ "typ": "JWT", "alg": "RS256", "kid": "k1" }));
    assert_eq!(stamp.expires_at.since(stamp.issued_at), Duration::from_secs(300));
    assert_eq!(
        claims,
        json!({
            "iss": "https://clinic.example/", "sub": "https://clinic.example/", "aud": ENDPOINT,
            "iat": 1_800_000_000, "exp": 1_800_000_300, "jti": stamp.jti,
            "client_name": "Clinic", "contacts": ["mailto:it@clinic.example"],
            "grant_types": ["client_credentials"], "token_endpoint_auth_method": "private_key_jwt",
        })
    );
}

#[test]
fn who_signs_assertions_issues_no_statement() {
    let registered = Client { client_id: Some("https://clinic.example/".into()), ..client() };
    assert_eq!(made(statement(), &registered).unwrap_err().reason, Reason::InvalidRequest);
    let other = Client { profile: Profile::generic(), ..client() };
    let refused = made(statement(), &other).unwrap_err();
    assert!(refused.message.contains("registers without a software statement"), "{refused}");
}

#[test]
fn no_spelling_of_a_claim_of_ours_gets_through() {
    for name in ["Sub", "AUD", "i\u{17f}s", "cnf"] {
        let claims = claims(&json!({ "client_name": "Clinic", name: "x" }));
        let refused = made(Statement { claims, ..statement() }, &client()).unwrap_err();
        assert_eq!(refused.reason, Reason::ReservedClaim, "{name}");
    }
}

#[test]
fn it_can_not_pass_for_an_assertion() {
    for audience in [
        "https://as.example/token/",
        "https://as.example/token",
        "http://AS.example//token?x",
        "https://as.example",
        "https://as.example/",
        "https://other.example/token?x",
        "as.example/register",
        "",
    ] {
        let asked = Statement { registration_endpoint: audience.into(), ..statement() };
        assert_eq!(made(asked, &client()).unwrap_err().reason, Reason::InvalidRequest, "{audience}");
    }
}

#[test]
fn what_hallmark_sets_is_not_taken_from_the_request() {
    for name in ["iss", "sub", "aud", "exp", "iat", "jti", "nbf"] {
        let asked = Statement { claims: claims(&json!({ "client_name": "x", name: 1 })), ..statement() };
        assert_eq!(made(asked, &client()).unwrap_err().reason, Reason::ReservedClaim, "{name}");
    }
    let asked = Statement { claims: claims(&json!({ "scope": "system/*.rs" })), ..statement() };
    assert_eq!(made(asked, &client()).unwrap_err().reason, Reason::InvalidClaims);
}

#[test]
fn where_a_certificate_is_shown_it_must_be_there() {
    let mut client = client();
    client.makes.x5c = true;
    assert_eq!(made(statement(), &client).unwrap_err().reason, Reason::NoCertificate);
    let asked = Statement { issuer: None, ..statement() };
    client.makes.x5c = false;
    assert!(made(asked, &client).unwrap_err().message.contains("names no URI"));
}
