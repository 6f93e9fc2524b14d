//! Whatever comes: no panic, and an answer in time.

use proptest::{collection::vec, prelude::*};

use super::*;

fn survive(jwt: &str, jwks: &[u8]) {
    let keys = KeySet::parse(jwks).ok();
    for profile in Profile::all() {
        let expect = expectations();
        let now = Timestamp::from_secs(NOW);
        let seen = inspect(jwt, Question { profile: Some(profile), keys: keys.as_ref(), expect: &expect, now });
        if let Ok(seen) = seen {
            assert!(seen.findings.is_sorted_by_key(|finding| finding.severity));
            serde_json::to_string(&seen).unwrap();
        }
    }
}

/// JSON of any shape, with the names that the checks look for.
fn member() -> impl Strategy<Value = (String, Value)> {
    const NAMES: &[&str] =
        &["alg", "typ", "kid", "jku", "crit", "x5c", "x5t", "iss", "sub", "aud", "jti", "iat", "nbf", "exp"];
    let value = prop_oneof![
        any::<i64>().prop_map(|number| json!(number)),
        any::<u64>().prop_map(|number| json!(number)),
        any::<f64>().prop_map(|number| json!(number)),
        ".{0,40}".prop_map(|text| json!(text)),
        vec(".{0,20}", 0..4).prop_map(|texts| json!(texts)),
        Just(json!(null)),
        Just(json!({"a": [{}]})),
        Just(json!("RS384")),
        Just(json!("ES256")),
    ];
    (prop::sample::select(NAMES), value).prop_map(|(name, value)| (name.to_owned(), value))
}

proptest! {
    #[test]
    fn any_text_is_looked_at(jwt in ".{0,400}", jwks: Vec<u8>) {
        survive(&jwt, &jwks);
    }

    #[test]
    fn any_json_is_looked_at(
        header in vec(member(), 0..8),
        claims in vec(member(), 0..10),
        signature: Vec<u8>,
    ) {
        let object = |members: Vec<(String, Value)>| Value::Object(members.into_iter().collect());
        let (header, claims) = (object(header), object(claims));
        survive(&format!("{}.{}.{}", part(&header), part(&claims), URL_SAFE_NO_PAD.encode(signature)), b"{}");
    }

    #[test]
    fn any_key_set_is_looked_at(
        keys in vec(vec(("(kty|crv|n|e|x|y|kid|alg|use|key_ops|d)", "(RSA|EC|OKP|P-256|AQAB|Ed25519|sig|[A-Za-z0-9_-]{0,90})"), 0..9), 0..4),
    ) {
        let keys: Vec<Value> =
            keys.into_iter().map(|members| members.into_iter().map(|(name, value)| (name, json!(value))).collect()).collect();
        survive(&unsigned(&header(), &claims()), json!({ "keys": keys }).to_string().as_bytes());
    }

    #[test]
    fn a_changed_certificate_is_looked_at(flips in vec((any::<prop::sample::Index>(), any::<u8>()), 0..6)) {
        let mut der = CERTIFICATE.to_vec();
        for (at, byte) in flips {
            let at = at.index(der.len());
            der[at] ^= byte;
        }
        let x5c = json!([base64::engine::general_purpose::STANDARD.encode(der)]);
        survive(&unsigned(&with(header(), "x5c", x5c), &claims()), b"");
    }
}

/// Each took quadratic time or the stack in one parser or another.
#[test]
fn what_is_made_to_take_long_does_not() {
    let deep = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
    let nested = format!(r#"{{"aud":{}}}"#, deep(20_000));
    let jwt = |claims: &str| format!("{}.{}.AAAA", part(&header()), URL_SAFE_NO_PAD.encode(claims));
    let digits = format!(r#"{{"exp":{}}}"#, "9".repeat(40_000));
    let names = format!("{{{}}}", (0..5_000).map(|n| format!(r#""{}":1"#, n % 7)).collect::<Vec<_>>().join(","));
    let key = r#"{"kty":"EC","kid":"k1","crv":"P-256","x":"AA","y":"AA"},"#;
    let keys = format!(r#"{{"keys":[{}{{}}]}}"#, key.repeat(15_000));
    let modulus = format!(r#"{{"keys":[{{"kty":"RSA","kid":"k1","e":"AQAB","n":"{}"}}]}}"#, "w".repeat(900_000));
    for jwks in [deep(100_000), keys, modulus, "{".repeat(1 << 20)] {
        survive(&unsigned(&header(), &claims()), jwks.as_bytes());
    }
    for text in [
        jwt(&nested),
        jwt(&digits),
        jwt(&names),
        ".".repeat(LONGEST_JWT),
        " ".repeat(LONGEST_JWT),
        "\"".repeat(LONGEST_JWT),
    ] {
        survive(&text, b"{}");
    }
    assert!(
        inspect(
            &".".repeat(4 << 20),
            Question { profile: None, keys: None, expect: &Expectations::default(), now: Timestamp::from_secs(0) }
        )
        .is_err()
    );
}

/// A self-signed P-256 certificate for `CN=test`, long expired.
const CERTIFICATE: &[u8] = include_bytes!("self-signed.der");
