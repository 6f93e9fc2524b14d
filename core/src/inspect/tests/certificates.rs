//! `x5c`, `x5t`, `x5t#S256`. The certificates are of P-256 keys that nobody has any more.

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use base64::engine::general_purpose::STANDARD;

use super::*;

/// `CN=leaf`, issued by [`CA`], until 2102.
const LEAF: &[u8] = include_bytes!("leaf.der");
const CA: &[u8] = include_bytes!("ca.der");
/// `CN=test`, expired in 2020.
const EXPIRED: &[u8] = include_bytes!("self-signed.der");

fn b64(der: &[u8]) -> String {
    STANDARD.encode(der)
}

fn look(members: &[(&str, Value)], expect: &Expectations) -> Vec<String> {
    let header = json!({"alg": "ES256", "kid": "k1", "typ": "JWT"});
    let header = members.iter().fold(header, |header, (name, value)| with(header, name, value.clone()));
    said(&ask(&unsigned(&header, &claims()), "generic", None, expect))
}

#[test]
fn each_pitfall_of_certificates_is_found() {
    let pem = format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----", b64(LEAF));
    let with_plus = [LEAF, CA, EXPIRED].into_iter().map(b64).find(|text| text.contains(['+', '/'])).unwrap();
    let cases = [
        (json!([b64(EXPIRED)]), "error x5c: the certificate expired "),
        (json!([b64(CA), b64(LEAF)]), "error x5c: the chain in `x5c` is the wrong way round"),
        (json!([b64(LEAF), b64(EXPIRED)]), "error x5c: the chain in `x5c` is out of order"),
        (json!([pem]), "error x5c: `x5c` has PEM headers in it"),
        (json!([format!("{}\n", b64(LEAF))]), "error x5c: `x5c` has line breaks or blanks in it"),
        (json!([with_plus.replace('+', "-").replace('/', "_")]), "error x5c: `x5c` is in base64url"),
        (json!(["AAAA"]), "error x5c: an element of `x5c` is no certificate"),
        (json!(b64(LEAF)), "error x5c: `x5c` is a string, and not an array of certificates"),
        (json!([7]), "error x5c: an element of `x5c` is no string"),
    ];
    for (x5c, expected) in cases {
        let found = look(&[("x5c", x5c)], &expectations());
        assert!(found.iter().any(|line| line.starts_with(expected)), "{expected}: {found:#?}");
    }
}

#[test]
fn thumbprints_are_those_of_the_leaf() {
    let x5c = || ("x5c", json!([b64(LEAF), b64(CA)]));
    let sha1 = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA1_FOR_LEGACY_USE_ONLY, LEAF);
    let sha256 = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, LEAF);
    let right = [("x5t", json!(URL_SAFE_NO_PAD.encode(sha1))), ("x5t#S256", json!(URL_SAFE_NO_PAD.encode(sha256)))];
    let only_the_signature = [
        "error signature: the signature has 256 bytes, and ES256 has 64",
        "error signature: the signature does not verify: not with the certificate in `x5c`",
    ];
    assert_eq!(look(&[x5c(), right[0].clone(), right[1].clone()], &expectations()), only_the_signature);
    let found = look(&[x5c(), ("x5t", right[1].1.clone())], &expectations());
    assert!(found.iter().any(|line| line.starts_with("error x5t: `x5t` is `")), "{found:#?}");
    // Without `x5c` it is compared with what is registered.
    let registered = Expectations { chain: vec![CA.to_vec()], ..expectations() };
    let found = look(&[right[0].clone()], &registered);
    assert!(found.iter().any(|line| line.starts_with("error x5t: `x5t` is `")), "{found:#?}");
    let found = look(&[x5c()], &registered);
    assert!(
        found.contains(&"error x5c: the certificate in `x5c` is not the one that is registered".to_owned()),
        "{found:#?}"
    );
}

#[test]
fn the_leafs_key_verifies_and_must_be_that_of_the_kid() {
    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
    // Its public point in place of the leaf's: nobody checks the issuer's signature here.
    let at = LEAF.windows(4).position(|window| window == [0x03, 0x42, 0x00, 0x04]).unwrap() + 3;
    let leaf = [&LEAF[..at], pair.public_key().as_ref(), &LEAF[at + 65..]].concat();
    let header = json!({"alg": "ES256", "typ": "JWT", "kid": "k1", "x5c": [b64(&leaf), b64(CA)]});
    let signed = format!("{}.{}", part(&header), part(&claims()));
    let signature = pair.sign(&SystemRandom::new(), signed.as_bytes()).unwrap();
    let jwt = format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature));
    let seen = ask(&jwt, "generic", None, &expectations());
    assert_eq!(seen.signature, Signature::Verified("the certificate in `x5c`".to_owned()));
    assert_eq!(said(&seen), [] as [&str; 0]);

    let other = set(&[with(signer().jwk("k1"), "alg", json!("EdDSA"))]);
    let found = said(&ask(&jwt, "generic", Some(&other), &expectations()));
    let expected = "error x5c: the certificate in `x5c` is for another key than `k1` of the JWKS";
    assert!(found.iter().any(|line| line == expected), "{found:#?}");
}

#[test]
fn an_ecdsa_signature_in_der_is_recognised() {
    let header = json!({"alg": "ES256", "typ": "JWT", "kid": "k1"});
    let der = [&[0x30, 0x45, 0x02][..], &[1; 68]].concat();
    let jwt = format!("{}.{}.{}", part(&header), part(&claims()), URL_SAFE_NO_PAD.encode(der));
    let found = said(&ask(&jwt, "generic", Some(&set(&[signer().jwk("k1")])), &expectations()));
    assert!(
        found.contains(&"error signature: the ECDSA signature is in DER, and JOSE has r and s side by side".to_owned())
    );
}
