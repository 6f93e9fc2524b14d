//! The signature, and the keys that it is verified with.

use super::*;

#[test]
fn a_signature_is_verified_and_a_failure_explained() {
    let (a, b) = (signer(), signer());
    let eddsa = |kid: Value| with(json!({"alg": "EdDSA", "typ": "JWT"}), "kid", kid);
    let verdict = |jwt: &str, keys: &[Value]| ask(jwt, "generic", Some(&set(keys)), &expectations());
    let named = a.sign(&eddsa(json!("a")));

    let good = verdict(&named, &[b.jwk("b"), a.jwk("a")]);
    assert_eq!((good.signature.clone(), said(&good)), (Signature::Verified("key `a`".to_owned()), vec![]));

    let cases: [(&str, Vec<Value>, &str); 7] = [
        (&named, vec![b.jwk("b")], "error kid: the JWKS has no key with `kid` `a`; it has `b`"),
        (&named, vec![b.jwk("a")], "error signature: the signature does not verify: not with key `a`"),
        (
            &named,
            vec![b.jwk("a"), a.jwk("b")],
            "error signature: the signature does not verify: it was made with key `b`",
        ),
        (&named, vec![a.jwk("a"), b.jwk("a")], "error jwks: 2 keys have the `kid` `a`"),
        (
            &named,
            vec![with(a.jwk("a"), "alg", json!("ES256"))],
            "error kid: key `a` is for `ES256`, and `alg` is EdDSA",
        ),
        (&named, vec![json!({"kty": "RSA", "kid": "a", "n": "x", "e": "AQAB"})], "error kid: key `a` can't be used"),
        (&a.sign(&eddsa(Value::Null)), vec![a.jwk("a"), b.jwk("b")], "warning kid: there is no `kid`, and 2 keys"),
    ];
    for (jwt, keys, expected) in cases {
        let found = said(&verdict(jwt, &keys));
        assert!(found.iter().any(|line| line.starts_with(expected)), "{expected}: {found:#?}");
    }
    assert!(matches!(ask(&named, "generic", None, &expectations()).signature, Signature::NotChecked(_)));
}

#[test]
fn each_fault_of_a_key_set_is_found() {
    let key = signer().jwk("a");
    let rfc = json!({"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo", "kid": "a", "use": "sig", "alg": "EdDSA"});
    let short = json!({"kty": "RSA", "n": URL_SAFE_NO_PAD.encode([0xc3; 128]), "e": "AQAB", "kid": "a", "use": "sig", "alg": "RS384"});
    let cases = [
        (with(key.clone(), "d", json!("c2VjcmV0")), "it shows its private half"),
        (with(key.clone(), "use", Value::Null), "it has no `use`"),
        (with(key.clone(), "use", json!("enc")), "its `use` is not `sig`"),
        (with(key.clone(), "alg", Value::Null), "it has no `alg`"),
        (with(key.clone(), "kid", Value::Null), "it has no `kid`"),
        (with(key.clone(), "key_ops", json!(["sign"])), "its `key_ops` lacks `verify`"),
        (with(key.clone(), "x", Value::Null), "`x` is missing or no string"),
        (with(key, "crv", json!("Ed448")), "its kind is `OKP`, `Ed448`"),
        (rfc, "everybody has its private half: it is RFC 8037 appendix A.1"),
        (short, "its modulus has 1024 bits"),
    ];
    let jwt = unsigned(&header(), &claims());
    for (jwk, expected) in cases {
        let found = said(&ask(&jwt, "generic", Some(&set(&[jwk])), &expectations()));
        assert!(found.iter().any(|line| line.contains(expected)), "{expected}: {found:#?}");
        assert!(!found.join("").contains("c2VjcmV0"), "a private number is never repeated");
    }
    for (document, expected) in [
        ("<html>", "it is no JSON"),
        ("[]", "it is no JSON object"),
        ("{}", "it has no `keys`"),
        (r#"{"keys":{}}"#, "its `keys` is no array"),
        (r#"{"keys":[1]}"#, "some of its `keys` are no objects"),
        (r#"{"kty":"RSA"}"#, "it is a single key, not a set"),
    ] {
        let keys = KeySet::parse(document.as_bytes()).unwrap();
        let found = said(&ask(&jwt, "generic", Some(&keys), &expectations()));
        assert!(found.iter().any(|line| line.contains(expected)), "{expected}: {found:#?}");
    }
    assert!(KeySet::parse(&vec![b' '; LARGEST_JWKS + 1]).is_err());
}

#[test]
fn a_verifier_that_takes_the_first_rsa_key_is_seen_to() {
    let pair = |size| {
        let pair = aws_lc_rs::rsa::KeyPair::generate(size).unwrap();
        let public = PublicKey::from_spki(pair.public_key().as_der().unwrap().as_ref()).unwrap();
        (pair, public)
    };
    let (signing, public) = pair(aws_lc_rs::rsa::KeySize::Rsa2048);
    let (_, other) = pair(aws_lc_rs::rsa::KeySize::Rsa2048);
    let jwk = |key: &PublicKey, kid: &str| {
        let Numbers::Rsa { n, e } = key.numbers() else { unreachable!() };
        json!({"kty": "RSA", "n": URL_SAFE_NO_PAD.encode(n), "e": URL_SAFE_NO_PAD.encode(e), "kid": kid, "use": "sig", "alg": "RS384"})
    };
    let signed = format!("{}.{}", part(&header()), part(&claims()));
    let mut signature = vec![0; 256];
    signing.sign(&signature::RSA_PKCS1_SHA384, &SystemRandom::new(), signed.as_bytes(), &mut signature).unwrap();
    let jwt = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature));

    let right = set(&[jwk(&public, "k1"), jwk(&other, "k2")]);
    assert!(matches!(ask(&jwt, "openemr-7", Some(&right), &expectations()).signature, Signature::Verified(_)));
    let appended = set(&[jwk(&other, "k2"), jwk(&public, "k1")]);
    let found = said(&ask(&jwt, "openemr-7", Some(&appended), &expectations()));
    assert!(
        found[0].contains("OpenEMR 7 takes the first RSA key of the JWKS, `k2`, whatever `kid` says"),
        "{found:#?}"
    );
    assert!(matches!(ask(&jwt, "smart-v2", Some(&appended), &expectations()).signature, Signature::Verified(_)));
}
