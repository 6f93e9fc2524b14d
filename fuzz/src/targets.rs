//! One function for each thing that is parsed from outside: whatever comes, it returns.
//!
//! `fuzz_targets/` hands them to libFuzzer; the test suite replays `corpus/` through them.

use hallmark_core::{
    inspect::{Expectations, KeySet, Question, inspect},
    profile::Profile,
    time::Timestamp,
};

/// Takes whatever comes.
pub type Target = fn(&[u8]);

/// Each by the name of its target and of its folder in `corpus/`.
pub const ALL: &[(&str, Target)] = &[("jwt", jwt), ("jwks", jwks)];

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
