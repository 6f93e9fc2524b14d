//! Profiles: what one kind of authorization server demands, as data.

use std::time::Duration;

use crate::key::Alg;

/// What one kind of authorization server demands of an assertion and a token request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    pub name: &'static str,
    /// What it accepts; the first is the default.
    pub algs: &'static [Alg],
    /// The `typ` header member, where one is sent.
    pub typ: Option<&'static str>,
    /// The longest `exp` − `iat` that it accepts.
    pub max_lifetime: Duration,
    /// How far `iat` lies in the past, for verifiers whose clock is behind ours.
    pub backdate: Duration,
}

/// Five minutes is the limit of SMART App Launch 2 (client-confidential-asymmetric), Epic, UDAP and Auth0.
const FIVE_MINUTES: Duration = Duration::from_secs(300);

const PROFILES: &[Profile] = &[
    Profile {
        name: "generic",
        algs: &[
            Alg::RS384,
            Alg::ES384,
            Alg::RS256,
            Alg::RS512,
            Alg::PS256,
            Alg::PS384,
            Alg::PS512,
            Alg::ES256,
            Alg::EdDSA,
        ],
        typ: Some("JWT"),
        max_lifetime: FIVE_MINUTES,
        backdate: Duration::from_secs(5),
    },
    Profile {
        name: "smart-v2",
        algs: &[Alg::RS384, Alg::ES384],
        typ: Some("JWT"),
        max_lifetime: FIVE_MINUTES,
        backdate: Duration::from_secs(5),
    },
];

impl Profile {
    /// The profile of a client that names none.
    pub const DEFAULT: &'static str = "generic";

    /// The profile of that name.
    pub fn find(name: &str) -> Option<&'static Self> {
        PROFILES.iter().find(|profile| profile.name == name)
    }

    /// All names, for the hint to a wrong one.
    pub fn names() -> impl Iterator<Item = &'static str> {
        PROFILES.iter().map(|profile| profile.name)
    }
}
