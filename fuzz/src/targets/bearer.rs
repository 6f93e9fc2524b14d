//! Bearer tokens, as anyone may send them.

use std::sync::{Arc, LazyLock};

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair},
};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use hallmark::transport::bearer::{IssuerSpec, KeySource, Naming, Offline};
use hallmark_core::{error::Reason, key::Alg, policy::Roles, ports::Clock, time::Timestamp};

/// What stands in an `authorization` header; or, where that begins with `{`, the claims of a token that is made of them,
/// and signed as it should be: nobody else comes as far as claims.
pub fn bearer(data: &[u8]) {
    let Issuers { offline, key } = &*ISSUERS;
    let own;
    let value = match data.first() {
        Some(b'{') => {
            own = signed(key, data);
            own.as_bytes()
        }
        _ => data,
    };
    match offline.identify(value) {
        Ok(caller) => {
            assert!(caller.roles.workload && !caller.roles.operator, "no issuer here vouches for operators");
            assert!(caller.not_after.is_some_and(|end| end > NOW), "its time is not over");
            // What is found can be written down in the configuration, and is the same there.
            assert_eq!(caller.identity.to_string().parse(), Ok(caller.identity));
        }
        Err(error) => {
            assert!(matches!(error.reason, Reason::TokenInvalid | Reason::TokenExpired), "{error}");
            let text = error.to_string();
            let is_repeated = std::str::from_utf8(value).is_ok_and(|token| token.len() > 40 && text.contains(token));
            assert!(!is_repeated, "no token is part of an error");
        }
    }
}

struct Issuers {
    offline: Offline,
    /// Of this process: nobody has it tomorrow.
    key: EcdsaKeyPair,
}

static ISSUERS: LazyLock<Issuers> = LazyLock::new(|| {
    let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).expect("random bytes");
    let point = key.public_key().as_ref();
    let [x, y] = [&point[1..33], &point[33..]].map(|part| BASE64_URL_SAFE_NO_PAD.encode(part));
    let own = format!(r#"{{"kty":"EC","crv":"P-256","x":"{x}","y":"{y}","kid":"own","alg":"ES256","use":"sig"}}"#);
    let set = format!(r#"{{"keys":[{own},{KEYS}]}}"#);
    let issuers = vec![(by_name(), set.as_bytes()), (by_trust_domain(), set.as_bytes())];
    Issuers { offline: Offline::new(issuers, Arc::new(Still)).expect("a JWK Set"), key }
});

/// As for service accounts of Kubernetes.
fn by_name() -> IssuerSpec {
    IssuerSpec {
        issuer: Some("https://issuer.example".into()),
        naming: Naming::Subject,
        audience: "hallmark".into(),
        algorithms: vec![Alg::ES256, Alg::RS256],
        keys: KeySource::File("unread".into()),
        roles: Roles { workload: true, operator: false },
        subjects: vec!["system:serviceaccount:prod:*".into(), "one".into()],
        require: [("kubernetes.io/namespace".to_owned(), "prod".to_owned())].into(),
    }
}

/// As for JWT-SVIDs.
fn by_trust_domain() -> IssuerSpec {
    let naming = Naming::Spiffe { trust_domain: "prod.example".into() };
    IssuerSpec { issuer: None, naming, subjects: vec![], require: [].into(), ..by_name() }
}

fn signed(key: &EcdsaKeyPair, claims: &[u8]) -> String {
    let [header, claims] =
        [&br#"{"alg":"ES256","kid":"own"}"#[..], claims].map(|part| BASE64_URL_SAFE_NO_PAD.encode(part));
    let input = format!("{header}.{claims}");
    let signature = key.sign(&SystemRandom::new(), input.as_bytes()).expect("a signature");
    format!("Bearer {input}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature.as_ref()))
}

#[derive(Debug)]
struct Still;

impl Clock for Still {
    fn now(&self) -> Timestamp {
        NOW
    }
}

const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);

/// Of which nobody has the private halves any more: they made what `corpus/` has.
const KEYS: &str = concat!(
    r#"{"kty":"EC","crv":"P-256","x":"_NYgrhB9_OxekGIX5TGFYkOfPCY6LTkSdRObHRDfZrc","y":"J0FpaGYPeEisJLYE3ot0OsgytxQjYx0Giy-g_eUwkmE","kid":"k1","alg":"ES256","use":"sig"},"#,
    r#"{"kty":"RSA","n":"vwhTv7KIMSeQ_5T3zt_Iq-jnZG1nF5VMykwI-wxMJ6qBKjCKoUDKFsLeGSuZ_WK7G0Y9Sm8BS2mHI0Vimkd7fiNLQ01NkwYrQ1zlfwDkJ991eFlzhUym5l4eDggkxXI0zuKDWfqRp7LH9Z87D2wYC9vrz-6af038GkhMC5v0_fhcnYvHtYtjxicGi1MfHGatdEc5d0FYfRxU2Me5sebvycNUiVuZqpFuP9nF2iE3CmUyMLrfn1pD2bw2aJZ63zlZ7IOv1asTtZO4dR71nNl0Vaga-_1RHN8zydNgZksA4TbDEFq0ZjEJs-vd8NdMdYTzlLJC6j02FJFI8eLbhenSJQ","e":"AQAB","kid":"k2","use":"sig"}"#,
);
