use aws_lc_rs::{
    encoding::AsDer,
    rand::SystemRandom,
    signature::{self, Ed25519KeyPair, KeyPair},
};
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde_json::{Value, json};

use super::*;
use crate::public_key::{Numbers, PublicKey};

mod certificates;
mod hostile;
mod keys;

const NOW: i64 = 1_800_000_007;
const TOKEN_ENDPOINT: &str = "https://as.example/oauth2/token";

fn part(json: &Value) -> String {
    URL_SAFE_NO_PAD.encode(json.to_string())
}

fn header() -> Value {
    json!({"alg": "RS384", "kid": "k1", "typ": "JWT"})
}

fn claims() -> Value {
    json!({
        "iss": "app", "sub": "app", "aud": TOKEN_ENDPOINT, "jti": "0b9d6ff8-7b3d-4b5e-9b0a-2f5c2f1c8a11",
        "iat": NOW - 5, "exp": NOW + 295,
    })
}

fn unsigned(header: &Value, claims: &Value) -> String {
    format!("{}.{}.{}", part(header), part(claims), URL_SAFE_NO_PAD.encode([7; 256]))
}

fn expectations() -> Expectations {
    Expectations {
        client_id: Some("app".to_owned()),
        audiences: vec![TOKEN_ENDPOINT.to_owned()],
        elsewhere: vec![
            ("issuer".to_owned(), "https://as.example".to_owned()),
            ("FHIR base".to_owned(), "https://as.example/fhir/r4".to_owned()),
        ],
        ..Expectations::default()
    }
}

fn ask(text: &str, profile: &str, keys: Option<&KeySet>, expect: &Expectations) -> Inspection {
    let now = Timestamp::from_secs(NOW);
    let profile = Some(Profile::find(profile).unwrap());
    inspect(text, Question { profile, keys, expect, now }).unwrap()
}

/// As lines `severity about: what`.
fn said(inspection: &Inspection) -> Vec<String> {
    let line = |finding: &Finding| format!("{} {}: {}", finding.severity.as_str(), finding.about, finding.what);
    inspection.findings.iter().map(line).collect()
}

fn look(header: &Value, claims: &Value) -> Vec<String> {
    said(&ask(&unsigned(header, claims), "smart-v2", None, &expectations()))
}

/// `json` with `member` set, or taken away where it is null.
fn with(mut json: Value, member: &str, value: Value) -> Value {
    let object = json.as_object_mut().unwrap();
    object.remove(member);
    if !value.is_null() {
        object.insert(member.to_owned(), value);
    }
    json
}

#[test]
fn nothing_is_wrong_with_a_good_one() {
    assert_eq!(look(&header(), &claims()), [] as [&str; 0]);
}

#[test]
fn each_pitfall_of_the_header_is_found() {
    let cases = [
        ("alg", json!("none"), "error alg: `alg` is none"),
        ("alg", json!("None"), "error alg: `alg` is none"),
        ("alg", Value::Null, "error alg: `alg` is missing: the JOSE header was lost"),
        ("alg", json!(384), "error alg: `alg` is a number, not a string"),
        ("alg", json!("HS256"), "error alg: `alg` is `HS256`: a shared secret"),
        ("alg", json!("rs384"), "error alg: `alg` is `rs384`: names of algorithms are case-sensitive, it is RS384"),
        ("alg", json!("EC384"), "error alg: `alg` is `EC384`, which is no signature algorithm"),
        ("alg", json!("RS256"), "error alg: `alg` is RS256, and SMART App Launch 2"),
        ("typ", Value::Null, "error typ: `typ` is missing"),
        ("typ", json!("client-authentication+jwt"), "error typ: `typ` is `client-authentication+jwt`"),
        ("typ", json!("jwt"), "error typ: `typ` is `jwt`"),
        ("kid", Value::Null, "error kid: `kid` is missing"),
        ("kid", json!(7), "error kid: `kid` is a number, not a string"),
        ("crit", json!(["x"]), "error crit: `crit` asks for extensions"),
        ("jwk", json!({}), "warning jwk: `jwk` is there"),
        ("exp", json!(1), "warning exp: `exp` is in the header"),
        ("x5t", json!("kd_Uob1ueoByiUFZQaiS8tPdto4="), "error x5t: everybody has the private key of this certificate"),
        ("x5t", json!("91dfd4a1bd6e7a807289415941a892f2d3ddb68e"), "error x5t: `x5t` is in hexadecimal"),
    ];
    for (member, value, expected) in cases {
        let found = look(&with(header(), member, value), &claims());
        assert!(found.iter().any(|line| line.starts_with(expected)), "{expected}: {found:#?}");
    }
}

#[test]
fn each_pitfall_of_the_claims_is_found() {
    let cases = [
        ("iss", json!("other"), "error sub: `iss` and `sub` differ: `other` and `app`"),
        ("iss", Value::Null, "error iss: `iss` is missing"),
        (
            "sub",
            json!("0b9d6ff8-7b3d-4b5e-9b0a-2f5c2f1c8a11"),
            "error sub: `sub` is `0b9d6ff8-7b3d-4b5e-9b0a-2f5c2f1c8a11`, and the client_id is `app`; it looks like a user's id",
        ),
        ("sub", json!(" app"), "error sub: `sub` is empty, or has blanks around it"),
        ("sub", json!(7), "error sub: `sub` is a number, not a string"),
        ("jti", Value::Null, "error jti: `jti` is missing"),
        ("jti", json!(17), "error jti: `jti` is a number, not a string: `17`"),
        ("jti", json!("x"), "note jti: `jti` has 1 characters"),
        ("exp", Value::Null, "error exp: `exp` is missing"),
        ("exp", json!("1800000302"), "error exp: `exp` is a string"),
        ("exp", json!(1_800_000_302.5), "warning exp: `exp` is no integer: `1800000302.5`"),
        ("exp", json!(1_800_000_302_000_i64), "error exp: `exp` is 1800000302000: that is milliseconds"),
        ("exp", json!([1]), "error exp: `exp` is an array, not a number"),
        ("exp", json!(NOW - 1), "error exp: it expired 1 s ago"),
        ("exp", json!(NOW - 5), "error exp: `exp` equals `iat`"),
        ("exp", json!(NOW - 50), "error exp: `exp` is before `iat`"),
        ("exp", json!(NOW + 3600), "error exp: `exp` is 3605 s after `iat`, and 300 s are taken"),
        ("nbf", json!(NOW + 295), "error nbf: `nbf` equals `exp`: it is valid at no instant"),
        ("nbf", json!(NOW + 30), "error nbf: `nbf` is 30 s in the future"),
        ("nbf", json!(NOW + 300), "error nbf: `nbf` is after `exp`"),
        ("iat", json!(NOW + 60), "warning iat: `iat` is 60 s in the future"),
        ("aud", Value::Null, "error aud: `aud` is missing"),
        ("aud", json!([TOKEN_ENDPOINT]), "error aud: `aud` is an array of 1"),
        ("aud", json!(["https://x.example"]), "error aud: `aud` is not the audience: the host differs"),
        ("aud", json!({}), "error aud: `aud` is an object, not a string"),
    ];
    for (member, value, expected) in cases {
        let found = look(&header(), &with(claims(), member, value));
        assert!(found.iter().any(|line| line.starts_with(expected)), "{expected}: {found:#?}");
    }
}

#[test]
fn an_audience_is_told_apart_by_its_pitfall_and_first_byte() {
    let cases = [
        (
            "https://as.example/oauth2/token/",
            "there is a trailing slash too many; from byte 31 on it has `/` instead of nothing",
        ),
        (
            "https://as.example//oauth2/token",
            "a slash is doubled, or lost; from byte 19 on it has `/oauth2/toke` instead of `oauth2/token`",
        ),
        ("http://as.example/oauth2/token", "http and https are mixed up; from byte 4 on"),
        ("https://AS.example/oauth2/token", "upper and lower case differ; from byte 8 on"),
        ("https://as.example:8443/oauth2/token", "the port differs"),
        (
            "https://as2.example/oauth2/token",
            "the host differs; from byte 10 on it has `2.example/oa` instead of `.example/oau`",
        ),
        ("https://as.example/oauth2/tenant/token", "the path differs"),
        ("https://as.example/oauth2/token ", "there are blanks around it"),
        ("token", "it is another text"),
        ("https://as.example/", "`aud` is the issuer, and not `https://as.example/oauth2/token`"),
        ("https://as.example/fhir/r4", "`aud` is the FHIR base, and not"),
    ];
    for (aud, expected) in cases {
        let found = look(&header(), &with(claims(), "aud", json!(aud)));
        assert!(found.iter().any(|line| line.contains(expected)), "{expected}: {found:#?}");
    }
    let without = Expectations::default();
    let looks =
        |aud: &str| said(&ask(&unsigned(&header(), &with(claims(), "aud", json!(aud))), "smart-v2", None, &without));
    assert_eq!(looks(TOKEN_ENDPOINT), [] as [&str; 0]);
    for (aud, expected) in [
        ("https://as.example/fhir/R4/", "looks like a FHIR base"),
        ("http://as.example/token", "is http"),
        ("https://as.example//token", "double slash"),
        ("as", "is no URL"),
    ] {
        assert!(looks(aud)[0].contains(expected), "{aud}: {:?}", looks(aud));
    }
}

#[test]
fn the_rules_are_those_of_the_profile() {
    let look = |profile: &str, header: &Value, claims: &Value| {
        said(&ask(&unsigned(header, claims), profile, None, &expectations()))
    };
    let long = with(claims(), "jti", json!("j".repeat(101)));
    assert_eq!(look("openemr-7", &header(), &long), ["error jti: `jti` has 101 characters, and 100 are taken"]);
    assert_eq!(look("smart-v2", &header(), &long), [] as [&str; 0]);
    let array = with(claims(), "aud", json!([TOKEN_ENDPOINT]));
    assert_eq!(
        look("openemr-7", &header(), &array),
        ["note aud: `aud` is an array of 1: taken here, and refused by many"]
    );
    let es384 = with(header(), "alg", json!("ES384"));
    assert_eq!(look("openemr-7", &es384, &claims())[0], "error alg: `alg` is ES384, and OpenEMR 7 takes RS384");
    // Within the tolerance of clocks that this system has.
    let late = with(with(claims(), "iat", json!(NOW - 310)), "exp", json!(NOW - 10));
    let late = look("openemr-7", &header(), &late);
    assert_eq!(late, ["warning exp: it expired 10 s ago, which only the server's tolerance of clocks forgives"]);
    // Nobody vouches for this limit.
    let hour = with(claims(), "exp", json!(NOW + 3595));
    let hour = look("generic", &header(), &hour);
    assert_eq!(hour, ["warning exp: `exp` is 3600 s after `iat`, and 300 s are taken"]);
}

#[test]
fn local_time_and_lost_seconds_are_recognised() {
    let ahead = with(with(claims(), "iat", json!(NOW + 7200 - 5)), "exp", json!(NOW + 7200 + 295));
    let found = look(&header(), &ahead);
    assert_eq!(found, ["error iat: the dates are 2 h 0 min ahead: that is local time, not UTC"]);
    let behind = with(with(claims(), "iat", json!(NOW - 19_800)), "exp", json!(NOW - 19_500));
    let found = look(&header(), &behind);
    assert_eq!(found[0], "error exp: it expired 5 h 25 min ago");
    assert_eq!(
        found[1],
        "note iat: the dates are 5 h 30 min behind: it is that old, or made in local time and not UTC"
    );
    let minutes = with(with(claims(), "iat", json!(NOW - 7)), "exp", json!(NOW - 7 + 240));
    assert_eq!(look(&header(), &minutes), ["note exp: all dates are whole minutes: were the seconds lost on the way?"]);
}

/// The developer's attempt that this command was made for: what a good signer would have said.
#[test]
fn many_mistakes_come_worst_first() {
    let exp = (NOW + 240).to_string();
    let claims = json!({
        "iss": "https://ehr.example", "sub": "7d9a4b52-04b0-4f4e-8ed5-0f61c24fd8a3", "aud": "https://as.example",
        "nbf": exp, "exp": exp, "jti": "1",
    });
    let text = format!("{}.{}.", part(&json!({"alg": "none"})), part(&claims));
    let inspection = ask(&text, "smart-v2", None, &expectations());
    assert!(inspection.has_errors());
    assert!(inspection.findings.is_sorted_by_key(|finding| finding.severity));
    let found = said(&inspection).join("\n");
    for expected in [
        "the signature is empty",
        "`alg` is none",
        "`typ` is missing",
        "`iss` and `sub` differ",
        "it looks like a user's id",
        "`exp` is a string",
        "`nbf` equals `exp`",
        "`aud` is the issuer",
    ] {
        assert!(found.contains(expected), "{expected} is not in:\n{found}");
    }
    assert!(inspection.findings.iter().all(|finding| !finding.hint.is_empty() && !finding.rule.source.is_empty()));
}

#[test]
fn what_is_no_jwt_is_told_what_it_is() {
    let (header, claims) = (part(&header()), part(&claims()));
    let signature = URL_SAFE_NO_PAD.encode([7; 256]);
    let good = format!("{header}.{claims}.{signature}");
    let cases = [
        (String::new(), "it has one part between dots"),
        ("a.b.c.d".to_owned(), "it has 4 parts between dots"),
        (".".repeat(60_000), "it has more than five parts"),
        (format!("{header}.{claims}"), "it has two parts: the signature is missing"),
        (format!("{header}.a.b.c.d"), "five parts: this is a JWE"),
        (format!("{header}==.{claims}.{signature}"), "the header part is in standard base64 or has padding"),
        (format!("{header}.*.{signature}"), "the claims part is no base64url"),
        (format!("{}.{claims}.{signature}", URL_SAFE_NO_PAD.encode("hello")), "the header part is no JSON object"),
        (format!("{header}.{}.{signature}", URL_SAFE_NO_PAD.encode(r#"{"sub":"a","sub":"b"}"#)), "`sub` stands twice"),
        (format!("Authorization: Bearer {good}"), "does not go into an `Authorization` header"),
        (format!("{}\n{}", &good[..40], &good[40..]), "there are line breaks or blanks inside it"),
    ];
    for (text, expected) in cases {
        let found = said(&ask(&text, "smart-v2", None, &expectations()));
        assert!(found.iter().any(|line| line.contains(expected)), "{expected}: {found:#?}");
    }
    assert_eq!(said(&ask(&format!("  client_assertion={good}\n"), "smart-v2", None, &expectations())), [] as [&str; 0]);
    assert!(
        inspect(
            &"a".repeat(LONGEST_JWT + 1),
            Question { profile: None, keys: None, expect: &Expectations::default(), now: Timestamp::from_secs(0) }
        )
        .is_err()
    );
}

struct Signer {
    pair: Ed25519KeyPair,
    public: PublicKey,
}

fn signer() -> Signer {
    let pair = Ed25519KeyPair::generate().unwrap();
    let public = PublicKey::from_ed25519(pair.public_key().as_ref()).unwrap();
    Signer { pair, public }
}

impl Signer {
    fn jwk(&self, kid: &str) -> Value {
        let Numbers::Ed25519 { x } = self.public.numbers() else { unreachable!() };
        json!({"kty": "OKP", "crv": "Ed25519", "x": URL_SAFE_NO_PAD.encode(x), "kid": kid, "use": "sig", "alg": "EdDSA"})
    }

    fn sign(&self, header: &Value) -> String {
        let signed = format!("{}.{}", part(header), part(&claims()));
        let signature = self.pair.sign(signed.as_bytes());
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}

fn set(keys: &[Value]) -> KeySet {
    KeySet::parse(json!({ "keys": keys }).to_string().as_bytes()).unwrap()
}

#[test]
fn what_would_move_a_cursor_is_escaped() {
    let found = look(&header(), &with(claims(), "sub", json!("a\u{1b}[2Jb\u{202e}c\u{9b}")));
    let text = found.join("");
    assert!(text.contains(r"a\u{1b}[2Jb\u{202e}c\u{9b}"), "{text}");
}
