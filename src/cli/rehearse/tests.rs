use hallmark_client::KeyState;
use hallmark_core::public_key::PublicKey;
use serde_json::{Value, json};

use super::{
    check::{check, scheme},
    *,
};
use crate::{cli::fixture::sample_key, verifier::HttpAnswer};

fn public(number: u8) -> PublicKey {
    PublicKey::from_ed25519(&[number; 32]).expect("a point")
}

fn key(kid: &str, state: KeyState, number: u8) -> Key {
    Key {
        id: format!("id-{number}"),
        alg: "EdDSA".to_owned(),
        cka_id: vec![number],
        spki: public(number).spki().to_vec(),
        ..sample_key(kid, state)
    }
}

fn keys() -> Vec<Key> {
    vec![key("now", KeyState::Active, 1), key("next", KeyState::PreActive, 2), key("before", KeyState::Deactivated, 3)]
}

fn jwk(kid: &str, number: u8) -> Value {
    use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
    let x = BASE64_URL_SAFE_NO_PAD.encode([number; 32]);
    json!({ "kty": "OKP", "crv": "Ed25519", "x": x, "kid": kid, "use": "sig", "alg": "EdDSA" })
}

fn document() -> Value {
    json!({ "keys": [jwk("now", 1), jwk("next", 2), jwk("before", 3)] })
}

fn answer(document: &Value) -> HttpAnswer {
    let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let headers =
        vec![header("content-type", "application/json"), header("cache-control", "public, max-age=300, s-maxage=0")];
    HttpAnswer { status: 200, headers, body: Some(document.to_string().into_bytes()) }
}

fn with_header(name: &str, value: Option<&str>) -> HttpAnswer {
    let mut answer = answer(&document());
    answer.headers.retain(|(there, _)| there != name);
    answer.headers.extend(value.map(|value| (name.to_owned(), value.to_owned())));
    answer
}

/// What is wrong, without the hints, each of which must be there.
fn bad(keys: &[Key], answer: &HttpAnswer) -> String {
    let bad: Vec<_> = check(keys, answer).into_iter().filter(|finding| !finding.good).collect();
    assert!(bad.iter().all(|finding| finding.hint.is_some()), "{bad:?}");
    bad.into_iter().map(|finding| finding.what).collect::<Vec<_>>().join("\n")
}

fn bad_document(change: impl FnOnce(&mut Vec<Value>)) -> String {
    let mut document = document();
    change(document["keys"].as_array_mut().expect("keys"));
    bad(&keys(), &answer(&document))
}

fn rehearsal(findings: Vec<Finding>, confirmed: &[&str], dry_run: bool) -> Rehearsal {
    let url = "https://keys.example/clients/clinic/jwks.json".to_owned();
    let confirmed = confirmed.iter().map(|kid| (*kid).to_owned()).collect();
    Rehearsal { client: "clinic".to_owned(), url, findings, confirmed, dry_run }
}

fn whole(output: &Output) -> String {
    format!("{}--- stderr\n{}", output.stdout, output.stderr)
}

#[test]
fn all_is_well() {
    let findings = check(&keys(), &answer(&document()));
    assert!(findings.iter().all(|finding| finding.good), "{findings:?}");
    insta::assert_snapshot!(whole(&rehearsal(findings.clone(), &["next"], false).as_text()));
    insta::assert_snapshot!(rehearsal(findings[..1].to_vec(), &["next"], false).as_json().to_string());
    insta::assert_snapshot!(rehearsal(findings, &[], true).as_text().stderr);
}

#[test]
fn what_is_wrong_is_told_with_what_to_do() {
    let mut late = document();
    late["keys"].as_array_mut().expect("keys").remove(1);
    let mut answer = answer(&late);
    answer.headers.push(("set-cookie".to_owned(), "id=1".to_owned()));
    insta::assert_snapshot!(whole(&rehearsal(check(&keys(), &answer), &[], false).as_text()));
}

#[test]
fn the_answer_must_be_a_plain_200() {
    let status = |status| bad(&keys(), &HttpAnswer { status, ..with_header("location", Some("/new")) });
    assert_eq!([404, 503, 403].map(status), ["status 404", "status 503", "status 403"]);
    assert_eq!(status(302), "status 302, a redirect to `/new`");
}

#[test]
fn headers_are_as_verifiers_want_them() {
    let of = |name: &str, value| bad(&keys(), &with_header(name, value));
    assert_eq!(of("content-type", Some("Application/JSON; charset=utf-8")), "");
    assert_eq!(of("content-type", Some("application/jwk-set+json")), "Content-Type `application/jwk-set+json`");
    assert_eq!(of("content-type", None), "no Content-Type");
    assert_eq!(of("set-cookie", Some("a=b")), "it sets a cookie");
    assert_eq!(of("cache-control", None), "no Cache-Control");
    for good in ["no-store", "no-cache", "max-age=86400", "public, MAX-AGE=0"] {
        assert_eq!(of("cache-control", Some(good)), "", "{good}");
    }
    for wrong in ["public", "max-age=86401", "max-age=soon", "max-age=300, immutable", "max-age=-1"] {
        assert_eq!(of("cache-control", Some(wrong)), format!("Cache-Control `{wrong}`"));
    }
}

#[test]
fn the_body_must_be_a_jwk_set() {
    let of = |body: Option<&str>| bad(&keys(), &HttpAnswer { body: body.map(Into::into), ..answer(&document()) });
    assert_eq!(of(None), "the document is larger than 1 MiB");
    assert!(of(Some("<html>")).starts_with("the document is no JSON: "));
    for no_set in ["[]", "{}", r#"{"keys":{}}"#, r#"{"keys":[1]}"#] {
        assert_eq!(of(Some(no_set)), "the document is no JWK Set: it has no `keys`", "{no_set}");
    }
}

#[test]
fn a_private_member_is_an_alarm() {
    assert_eq!(bad_document(|keys| keys[2]["d"] = "secret".into()), "private members: `d`");
    let oct = json!({ "kty": "oct", "k": "c2VjcmV0", "kid": "before" });
    let said = bad_document(|keys| keys[2] = oct);
    assert!(said.contains("private members: `k`") && !said.contains("c2VjcmV0"), "{said}");
}

#[test]
fn every_published_key_must_be_there() {
    assert_eq!(bad_document(|keys| drop(keys.remove(0))), "the active key `now` is not there");
    assert_eq!(bad_document(|keys| drop(keys.remove(2))), "the deactivated key `before` is not there");
    assert_eq!(bad_document(|keys| drop(keys.remove(1))), "the next key `next` is not there");
}

#[test]
fn a_key_must_have_the_numbers_of_the_record() {
    assert_eq!(
        bad_document(|keys| keys[1] = jwk("next", 9)),
        "the next key `next` has another `x` than Hallmark's record"
    );
    assert_eq!(
        bad_document(|keys| keys[0]["alg"] = "ES256".into()),
        "the active key `now` is there with another `alg` than EdDSA"
    );
    let rsa = json!({ "kty": "RSA", "n": "AQ", "e": "AQAB", "kid": "next" });
    assert_eq!(bad_document(|keys| keys[1] = rsa), "the next key `next` has another `kty` than Hallmark's record");
}

#[test]
fn what_should_not_be_there_is_found() {
    let evil = "evil\u{1b}[2J";
    assert_eq!(
        bad_document(|keys| keys.push(jwk(evil, 7))),
        "`evil[2J` is there, and Hallmark has no such key",
        "and it does not get to write on the terminal"
    );
    assert_eq!(bad_document(|keys| keys.push(jwk("now", 1))), "two keys with kid `now`");
    assert_eq!(
        bad_document(|keys| drop(keys[2].as_object_mut().expect("a key").remove("kid"))),
        "a key without `kid`\nthe deactivated key `before` is not there"
    );
    let mut ours = keys();
    ours[2].state = KeyState::Compromised;
    assert_eq!(bad(&ours, &answer(&document())), "`before` is still there, and is compromised");
}

#[test]
fn there_must_be_a_next_key_in_each_line() {
    let without = |keys: &[Key]| bad(keys, &answer(&json!({ "keys": [jwk("now", 1)] })));
    let mut ours = keys();
    ours.truncate(1);
    assert_eq!(without(&ours), "no next key for EdDSA on softhsm");
    // Not yet in the JWKS: nobody can know it.
    ours.push(Key { published_at: None, ..key("next", KeyState::PreActive, 2) });
    assert_eq!(without(&ours), "no next key for EdDSA on softhsm");
    ours[1] = Key { hsm: "other".to_owned(), ..key("next", KeyState::PreActive, 2) };
    assert_eq!(without(&ours), "no next key for EdDSA on softhsm\nthe next key `next` is not there");
    assert_eq!(bad(&[], &answer(&json!({ "keys": [] }))), "there is no next key");
}

#[test]
fn verifiers_come_by_https() {
    let good = |url: &str| scheme(url).good;
    assert!(
        ["https://keys.example/a", "http://127.0.0.1:8080/a", "http://localhost/a", "http://[::1]:1/a"].map(good)
            == [true; 4]
    );
    assert!(!["http://keys.example/a", "ftp://keys.example", "keys.example", ""].into_iter().any(good));
}
