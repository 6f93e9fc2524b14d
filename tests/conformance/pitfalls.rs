//! What people have got wrong, each as a change to what Hallmark makes, with who refuses it and who does not.

use base64::{
    Engine,
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD},
};
use serde_json::json;

use super::{
    keys::OWN,
    presented::Presented,
    rules::{Iss, Keys, System},
};
use crate::support::pki::Authority;

/// A changed request, and what becomes of it.
pub(super) struct Case {
    pub(super) pitfall: u8,
    pub(super) what: &'static str,
    pub(super) change: fn(&mut Presented, &System, &Authority),
    /// The rule that it breaks; `None`: it is taken.
    pub(super) breaks: Option<&'static str>,
    pub(super) at: At,
}

/// At which systems.
pub(super) enum At {
    These(&'static [&'static str]),
    /// Everywhere where this holds and the rule is more than a guess.
    Every(fn(&System) -> bool),
}

use At::{Every, These};

/// What no assertion can show, and where it is seen to instead.
pub(super) const ELSEWHERE: &[(u8, &str)] = &[
    (15, "an assertion is used twice: a test of its own"),
    (20, "what is registered, and how: `hallmark register`"),
    (23, "keys that are public: `hallmark inspect`, `keys adopt`"),
    (24, "keys that are pasted into web pages: they can't leave the HSM"),
    (25, "long client_ids: `smart-bulk-data-server` has one of 1000 bytes here"),
    (26, "errors at the JWKS URL: `tests/published.rs`"),
    (27, "removing is not revoking: what `keys revoke` says"),
];

const fn refused(
    pitfall: u8,
    breaks: &'static str,
    what: &'static str,
    at: At,
    change: fn(&mut Presented, &System, &Authority),
) -> Case {
    Case { pitfall, what, change, breaks: Some(breaks), at }
}

const fn taken(
    pitfall: u8,
    what: &'static str,
    at: &'static [&'static str],
    change: fn(&mut Presented, &System, &Authority),
) -> Case {
    Case { pitfall, what, change, breaks: None, at: These(at) }
}

fn everywhere(_: &System) -> bool {
    true
}

fn reads_set(system: &System) -> bool {
    matches!(system.keys, Keys::Set | Keys::FirstRsa)
}

fn by_kid(system: &System) -> bool {
    system.kid == super::rules::Kid::Required
}

fn wants_token_endpoint(system: &System) -> bool {
    system.aud.token_endpoint
}

fn knows_by_client_id(system: &System) -> bool {
    system.iss == Iss::ClientId
}

const LEAF: At = These(&["udap-b2b", "cerner-carequality-2019"]);

fn without_slash(request: &mut Presented, _: &System, _: &Authority) {
    let aud = request.registered.token_endpoint.trim_end_matches('/').to_owned();
    request.claim("aud", aud);
}

fn as_array(request: &mut Presented, _: &System, _: &Authority) {
    let aud = request.claims["aud"].clone();
    request.claim("aud", json!([aud]));
}

fn foreign_first(request: &mut Presented, _: &System, _: &Authority) {
    let next = OWN.rsa(1, "next", request.alg());
    request.jwks.as_mut().unwrap()["keys"].as_array_mut().unwrap().insert(0, next);
}

fn es384(request: &mut Presented, _: &System, _: &Authority) {
    let kid = request.header.get("kid").and_then(|kid| kid.as_str()).unwrap_or("k").to_owned();
    request.head("alg", "ES384");
    request.jwks = Some(json!({"keys": [OWN.ec(&kid)]}));
}

fn issuer(request: &mut Presented, _: &System, _: &Authority) {
    request.claim("aud", request.registered.issuer.clone());
}

fn strict_typ(request: &mut Presented, _: &System, _: &Authority) {
    request.head("typ", "client-authentication+jwt");
}

fn other_kid(request: &mut Presented, _: &System, _: &Authority) {
    request.head("kid", "nosuch");
}

fn long_jti<const N: usize>(request: &mut Presented, _: &System, _: &Authority) {
    request.claim("jti", "j".repeat(N));
}

pub(super) const CASES: &[Case] = &[
    refused(1, "alg", "no signature", Every(everywhere), |r, _, _| r.head("alg", "none")),
    refused(2, "exp", "dates as strings", These(&["oidc-provider", "smart-v2", "udap-b2b"]), |r, _, _| {
        let exp = r.claims["exp"].to_string();
        r.claim("exp", exp);
    }),
    refused(3, "exp", "local time, two hours ahead", These(&["smart-v2", "epic"]), |r, _, _| {
        ["iat", "exp"].into_iter().for_each(|date| r.shift(date, 7200));
    }),
    refused(3, "iat", "local time, two hours ahead", These(&["openemr-7", "keycloak", "oidc-provider"]), |r, _, _| {
        ["iat", "exp"].into_iter().for_each(|date| r.shift(date, 7200));
    }),
    refused(3, "exp", "local time, two hours behind", Every(everywhere), |r, _, _| {
        ["iat", "nbf", "exp"].into_iter().for_each(|date| r.shift(date, -7200));
    }),
    refused(
        4,
        "nbf",
        "`nbf` in two minutes",
        These(&["openemr-7", "smart-bulk-data-server", "epic", "oidc-provider", "keycloak", "fapi2"]),
        |r, _, _| r.claim("nbf", r.now + 120),
    ),
    refused(4, "nbf", "`nbf` is `exp`", These(&["openemr-7", "smart-bulk-data-server", "epic"]), |r, _, _| {
        ["nbf", "exp"].into_iter().for_each(|date| r.claim(date, r.now + 240));
    }),
    refused(5, "sub", "a user's id as `sub`", Every(everywhere), |r, _, _| r.claim("sub", "5c17409c")),
    refused(5, "iss", "`iss` is not the client_id", Every(knows_by_client_id), |r, _, _| r.claim("iss", "me")),
    refused(5, "iss", "`iss` is the client_id", These(&["smart-2018"]), |r, _, _| {
        r.claim("iss", r.registered.client_id.clone());
    }),
    refused(6, "aud", "the slash at the end is gone", Every(wants_token_endpoint), without_slash),
    refused(6, "aud", "in lower case", Every(wants_token_endpoint), |r, _, _| {
        r.claim("aud", r.registered.token_endpoint.to_lowercase());
    }),
    refused(6, "aud", "a double slash", Every(wants_token_endpoint), |r, _, _| {
        r.claim("aud", r.registered.token_endpoint.replace("/token", "//token"));
    }),
    refused(6, "aud", "the FHIR base", These(&["openemr-7"]), |r, _, _| {
        r.claim("aud", "https://openemr-7.example/fhir")
    }),
    refused(
        6,
        "aud",
        "the issuer, not the token endpoint",
        These(&["smart-v2", "smart-bulk-data-server", "careevolution", "openemr-7"]),
        issuer,
    ),
    taken(6, "the issuer, not the token endpoint", &["keycloak", "oidc-provider"], issuer),
    refused(6, "aud", "the token endpoint, not the issuer", These(&["rfc7523bis", "fapi2"]), |r, _, _| {
        r.claim("aud", r.registered.token_endpoint.clone());
    }),
    refused(
        7,
        "aud",
        "an array",
        These(&["smart-bulk-data-server", "keycloak", "rfc7523bis", "fapi2", "udap-b2b"]),
        as_array,
    ),
    taken(7, "an array", &["openemr-7"], as_array),
    refused(8, "x5t", "no thumbprint", These(&["careevolution"]), |r, _, _| _ = r.header.remove("x5t")),
    refused(8, "x5t#S256", "no thumbprint", These(&["entra"]), |r, _, _| _ = r.header.remove("x5t#S256")),
    refused(8, "x5t#S256", "the SHA-1 one in its place", These(&["entra"]), |r, _, _| {
        r.head("x5t#S256", r.registered.certificate.as_ref().unwrap().thumbprint("x5t"));
    }),
    refused(9, "x5c", "no certificate", LEAF, |r, _, _| _ = r.header.remove("x5c")),
    refused(9, "x5c", "base64url", LEAF, |r, _, _| {
        let der = BASE64_STANDARD.decode(r.header["x5c"][0].as_str().unwrap()).unwrap();
        r.head("x5c", json!([BASE64_URL_SAFE_NO_PAD.encode(der)]));
    }),
    refused(9, "x5c", "as PEM", LEAF, |r, _, _| {
        let pem = format!("-----BEGIN CERTIFICATE-----\n{}\n", r.header["x5c"][0].as_str().unwrap());
        r.head("x5c", json!([pem]));
    }),
    refused(9, "x5c", "expired", LEAF, |r, s, ca| r.show_certificate(s, &ca.expired_leaf_for(&OWN.to_certify(0)))),
    refused(9, "x5c", "of another authority", LEAF, |r, s, _| {
        r.show_certificate(s, &Authority::new().leaf_for(&OWN.to_certify(0)));
    }),
    refused(9, "signature", "for another key", LEAF, |r, s, ca| {
        r.show_certificate(s, &ca.leaf_for(&OWN.to_certify(1)));
    }),
    refused(10, "kid", "a `kid` that the set lacks", Every(by_kid), other_kid),
    refused(10, "kid", "no `kid`", Every(by_kid), |r, _, _| _ = r.header.remove("kid")),
    refused(10, "kid", "two keys of one `kid`", Every(by_kid), |r, _, _| {
        let twin = OWN.rsa(1, r.header["kid"].as_str().unwrap(), r.alg());
        r.jwks.as_mut().unwrap()["keys"].as_array_mut().unwrap().push(twin);
    }),
    refused(10, "kid", "no `kid`, and two keys", These(&["keycloak"]), |r, s, ca| {
        r.header.remove("kid");
        foreign_first(r, s, ca);
    }),
    taken(10, "a `kid` that the set lacks", &["openemr-7"], other_kid),
    refused(11, "signature", "the next key before the one that signs", These(&["openemr-7"]), foreign_first),
    taken(11, "the next key before the one that signs", &["smart-v2", "openemr-8", "keycloak", "epic"], foreign_first),
    taken(11, "an EC key before the one that signs", &["openemr-7"], |r, _, _| {
        r.jwks.as_mut().unwrap()["keys"].as_array_mut().unwrap().insert(0, OWN.ec("ec"));
    }),
    refused(12, "jwks", "the JWKS URL can't be reached", Every(reads_set), |r, _, _| r.jwks = None),
    refused(13, "jwks", "no `use`", These(&["hydra", "keycloak"]), |r, _, _| _ = r.jwk().remove("use")),
    refused(13, "jwks", "a private member", These(&["oidc-provider"]), |r, _, _| {
        r.jwk().insert("d".to_owned(), "AQAB".into());
    }),
    refused(13, "jwks", "`key_ops` to sign", These(&["smart-bulk-data-server", "oidc-provider"]), |r, _, _| {
        r.jwk().insert("key_ops".to_owned(), json!(["sign"]));
    }),
    refused(13, "jwks", "`use` is enc", These(&["openemr-8"]), |r, _, _| {
        r.jwk().insert("use".to_owned(), "enc".into());
    }),
    refused(13, "jwks", "no `kid`", These(&["smart-v2", "openemr-8"]), |r, _, _| _ = r.jwk().remove("kid")),
    refused(14, "alg", "ES384", These(&["openemr-7", "openemr-8", "ecw-healow", "careevolution"]), es384),
    taken(14, "ES384", &["smart-v2", "oracle-health", "smart-bulk-data-server", "epic"], es384),
    refused(
        16,
        "exp",
        "valid for half a minute more",
        These(&["smart-v2", "smart-2018", "epic", "udap-b2b", "auth0"]),
        |r, _, _| r.shift("exp", 30),
    ),
    refused(16, "exp", "five minutes, and no `iat`", These(&["keycloak"]), |r, _, _| {
        r.claims.remove("iat");
        r.claim("exp", r.now + 300);
    }),
    refused(16, "iat", "six minutes old", These(&["openemr-8"]), |r, _, _| r.shift("iat", -360)),
    refused(16, "iat", "no `iat`", These(&["udap-b2b"]), |r, _, _| _ = r.claims.remove("iat")),
    refused(17, "jti", "101 characters", These(&["openemr-7", "openemr-8"]), long_jti::<101>),
    taken(17, "100 characters", &["openemr-7", "openemr-8"], long_jti::<100>),
    taken(17, "151 characters", &["epic"], long_jti::<151>),
    refused(17, "jti", "152 characters", These(&["epic"]), long_jti::<152>),
    refused(17, "jti", "none", These(&["smart-v2", "openemr-7", "epic", "udap-b2b", "keycloak"]), |r, _, _| {
        r.claims.remove("jti");
    }),
    refused(18, "form", "no `client_assertion_type`", Every(everywhere), |r, _, _| {
        r.form.retain(|(name, _)| name != "client_assertion_type");
    }),
    refused(18, "form", "the JWT in another place", Every(everywhere), |r, _, _| {
        r.form.retain(|(name, _)| name != "client_assertion");
    }),
    refused(18, "form", "a secret too", Every(everywhere), |r, _, _| {
        r.form.push(("client_secret".to_owned(), "s".to_owned()));
    }),
    refused(18, "form", "no `udap=1`", These(&["udap-b2b"]), |r, _, _| r.form.retain(|(name, _)| name != "udap")),
    refused(18, "form", "no `client_id`", These(&["entra", "hydra"]), |r, _, _| {
        r.form.retain(|(name, _)| name != "client_id");
    }),
    refused(18, "form", "another's `client_id`", These(&["keycloak", "oidc-provider"]), |r, _, _| {
        r.form.push(("client_id".to_owned(), "other".to_owned()));
    }),
    refused(19, "iss", "the sandbox's client_id", These(&["epic", "smart-v2", "oracle-health"]), |r, _, _| {
        r.registered.client_id = "production".to_owned();
    }),
    refused(
        21,
        "typ",
        "`client-authentication+jwt`",
        These(&["smart-v2", "smart-bulk-data-server", "epic", "oracle-health"]),
        strict_typ,
    ),
    taken(21, "`client-authentication+jwt`", &["openemr-7", "keycloak", "oidc-provider", "hydra"], strict_typ),
    refused(21, "typ", "`JWT`, where another is wanted", These(&["rfc7523bis"]), |r, _, _| r.head("typ", "JWT")),
    refused(21, "typ", "none", These(&["smart-v2", "smart-bulk-data-server", "rfc7523bis"]), |r, _, _| {
        r.header.remove("typ");
    }),
    refused(22, "alg", "another than the registered one", These(&["oidc-provider", "keycloak", "hydra"]), |r, _, _| {
        r.head("alg", if r.alg() == "RS256" { "RS384" } else { "RS256" });
    }),
    refused(22, "alg", "RS256", These(&["openemr-7", "openemr-8", "ecw-healow", "smart-v2", "fapi2"]), |r, _, _| {
        r.head("alg", "RS256");
    }),
    refused(0, "extensions", "no `hl7-b2b`", These(&["udap-b2b"]), |r, _, _| _ = r.claims.remove("extensions")),
    refused(0, "jku", "another JWKS URL", These(&["smart-v2", "epic", "smart-bulk-data-server"]), |r, _, _| {
        r.head("jku", "https://elsewhere.example/jwks.json");
    }),
    refused(0, "signature", "another's key", Every(everywhere), |r, s, ca| {
        r.registered.key = OWN.public(1);
        r.jwks = Some(
            json!({"keys": [OWN.rsa(1, r.header.get("kid").and_then(|kid| kid.as_str()).unwrap_or("k"), "RS384")]}),
        );
        r.show_certificate(s, &ca.leaf_for(&OWN.to_certify(1)));
    }),
];
