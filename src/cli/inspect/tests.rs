use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use hallmark_core::inspect::Expectations;
use serde_json::{Value, json};

use super::*;

const AT: &str = "2027-01-15T08:00:07Z";

fn jwt_of(header: &Value, claims: &Value) -> String {
    let part = |json: &Value| BASE64_URL_SAFE_NO_PAD.encode(json.to_string());
    format!("{}.{}.{}", part(header), part(claims), BASE64_URL_SAFE_NO_PAD.encode([7; 64]))
}

fn shown(text: &str, profile_name: &str, expect: &Expectations, json: bool) -> String {
    let (profile, now) = (profile(profile_name).unwrap(), at(Some(AT)).unwrap());
    let question = Question { profile: Some(profile), keys: None, expect, now: timestamp(now) };
    let inspection = inspect(text, question).unwrap();
    let output = render::output(&inspection, profile, now, json).stdout;
    format!("{output}exit code {}\n", u8::from(inspection.has_errors()))
}

fn good() -> String {
    let header = json!({"alg": "ES384", "kid": "k1", "typ": "JWT"});
    let claims = json!({
        "iss": "app", "sub": "app", "aud": "https://as.example/token", "jti": "0b9d6ff8-7b3d-4b5e-9b0a-2f5c2f1c8a11",
        "iat": 1_800_000_002, "exp": 1_800_000_302, "scope\u{9b}": "x".repeat(300),
    });
    jwt_of(&header, &claims)
}

fn bad() -> String {
    let claims = json!({
        "iss": "https://ehr.example", "sub": "7d9a4b52-04b0-4f4e-8ed5-0f61c24fd8a3", "aud": "https://as.example/token/",
        "nbf": "1800000240", "exp": "1800000240", "jti": "1",
    });
    jwt_of(&json!({"alg": "none"}), &claims)
}

fn expect() -> Expectations {
    Expectations { audiences: vec!["https://as.example/token".to_owned()], ..Expectations::default() }
}

#[test]
fn one_that_is_well() {
    let text = good().replace(&BASE64_URL_SAFE_NO_PAD.encode([7; 64]), &BASE64_URL_SAFE_NO_PAD.encode([7; 96]));
    insta::assert_snapshot!(shown(&text, "smart-v2", &expect(), false));
}

#[test]
fn one_with_many_mistakes() {
    insta::assert_snapshot!(shown(&bad(), "smart-v2", &expect(), false));
}

#[test]
fn for_programs() {
    insta::assert_snapshot!(shown(&jwt_of(&json!({"alg": "none"}), &json!({"sub": 1})), "openemr-7", &expect(), true));
}

#[test]
fn no_jwt_at_all() {
    insta::assert_snapshot!(shown("hello", "generic", &Expectations::default(), false));
}

#[test]
fn what_is_mistyped_is_told() {
    let failure = profile("epicc").unwrap_err();
    assert_eq!(failure.exit_code(), USAGE);
    assert!(failure.render(false).starts_with("error: there is no such profile: `epicc`\nhint: one of: generic, "));
    insta::assert_snapshot!(at(Some("soon")).unwrap_err().render(false), @r"
    error: this is no time: `soon`
    hint: write it as 2026-11-22T05:00:00Z, or as seconds since 1970
    ");
    assert_eq!(at(Some("1800000007")).unwrap(), at(Some(AT)).unwrap());
}

#[tokio::test]
async fn keys_come_from_a_file_or_a_url_that_may_be_away() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("jwks.json");
    std::fs::write(&path, r#"{"keys":[]}"#).unwrap();
    let (keys_of_file, findings) = keys(path.to_str().unwrap(), None).await.unwrap();
    assert!(keys_of_file.unwrap().is_empty() && findings.is_empty());
    // A port that was free a moment ago, on an address of this test's own.
    let free = std::net::TcpListener::bind("127.0.0.11:0").unwrap().local_addr().unwrap();
    let (none, findings) = keys(&format!("http://{free}/jwks.json"), None).await.unwrap();
    assert!(none.is_none() && findings[0].what.starts_with("the JWKS URL can't be fetched"), "{findings:?}");
    assert!(keys("/nonexistent", None).await.is_err());
}
