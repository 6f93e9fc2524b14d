//! One function for each thing that is parsed from outside: whatever comes, it returns.
//!
//! `fuzz_targets/` hands them to libFuzzer; the test suite replays `corpus/` through them.

#[path = "targets/audit.rs"]
mod audit;
#[path = "targets/bearer.rs"]
mod bearer;

use hallmark_core::{
    certificate::{Certificate, Thumbprints, chain},
    discovery::{Discovery, Kind},
    inspect::{Expectations, KeySet, Question, inspect},
    profile::Profile,
    public_key::PublicKey,
    time::Timestamp,
};

pub use self::{
    audit::{audit_files, audit_line},
    bearer::bearer,
};

/// Takes whatever comes.
pub type Target = fn(&[u8]);

/// Each by the name of its target and of its folder in `corpus/`.
pub const ALL: &[(&str, Target)] = &[
    ("jwt", jwt),
    ("jwks", jwks),
    ("discovery", discovery),
    ("capability_statement", capability_statement),
    ("certificate", certificate),
    ("pkcs12", pkcs12),
    ("message", message),
    ("identity", identity),
    ("configuration", configuration),
    ("bearer", bearer),
    ("audit_line", audit_line),
    ("audit_files", audit_files),
];

/// A JWT as somebody pasted it, for each profile.
pub fn jwt(data: &[u8]) {
    look(&String::from_utf8_lossy(data), None);
}

/// A JWK Set as some URL answered it, for a JWT whose `kid` may be in it.
pub fn jwks(data: &[u8]) {
    let Ok(keys) = KeySet::parse(data) else { return };
    keys.known().count();
    look(JWT, Some(&keys));
}

/// A metadata document as some server answered it; the kinds differ in where they are, not in what they hold.
pub fn discovery(data: &[u8]) {
    guess(Kind::Smart, data);
}

/// A FHIR CapabilityStatement.
pub fn capability_statement(data: &[u8]) {
    guess(Kind::Capability, data);
}

/// A file with certificates, as a CA sent it.
pub fn certificate(data: &[u8]) {
    let Ok(chain) = chain::read(data) else { return };
    for der in &chain {
        let _ = Certificate::parse(der).map(|certificate| format!("{certificate:?}"));
    }
    let _ = Thumbprints::of(&chain[0]);
    let Ok(key) = PublicKey::from_spki(SPKI) else { return };
    let _ = chain::check(&chain, &key, Timestamp::from_secs(1_800_000_007));
}

/// A key file that somebody was sent. All in `corpus/` that open have this passphrase.
pub fn pkcs12(data: &[u8]) {
    let _ = hallmark::cli::try_pkcs12(data, "correct horse");
}

/// A message of a caller, up to the use case that takes it.
pub fn message(data: &[u8]) {
    let _ = hallmark::transport::grpc::try_message(data);
}

/// The certificate of a caller for which an authority has vouched.
pub fn identity(data: &[u8]) {
    let Ok(identity) = hallmark::transport::identity::try_certificate(data) else { return };
    // What is found can be written down in the configuration, and is the same there.
    assert_eq!(identity.to_string().parse(), Ok(identity));
}

/// A configuration, as somebody wrote it.
pub fn configuration(data: &[u8]) {
    let Ok(text) = String::from_utf8(data.to_vec()) else { return };
    if let Err(problems) = hallmark::config::try_text(text) {
        assert!(!problems.to_string().is_empty(), "it says what is wrong");
    }
}

fn guess(kind: Kind, data: &[u8]) {
    let Ok(document) = kind.read(data) else { return };
    let discovery = Discovery { url: "https://ehr.example/fhir".to_owned(), documents: vec![(kind, document)] };
    assert!(!discovery.guesses().is_empty(), "there is always a guess");
    discovery.other_token_endpoints().count();
}

fn look(text: &str, keys: Option<&KeySet>) {
    let expect = Expectations {
        client_id: Some("app".to_owned()),
        audiences: vec!["https://as.example/token".to_owned()],
        ..Expectations::default()
    };
    for profile in Profile::all() {
        let now = Timestamp::from_secs(1_800_000_007);
        let question = Question { profile: Some(profile), keys, expect: &expect, now };
        let Ok(seen) = inspect(text, question) else { return };
        assert!(seen.findings.is_sorted_by_key(|finding| finding.severity), "worst first");
    }
}

/// `{"alg":"RS384","kid":"k1","typ":"JWT"}`, `{"iss":"app","sub":"app"}`, and no signature of anybody's.
const JWT: &str = "eyJhbGciOiJSUzM4NCIsImtpZCI6ImsxIiwidHlwIjoiSldUIn0.eyJpc3MiOiJhcHAiLCJzdWIiOiJhcHAifQ.AAAAAAAAAAAA";

/// An Ed25519 key of nobody's (RFC 8410 §4).
const SPKI: &[u8] = &[
    0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13,
    14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31, 32,
];
