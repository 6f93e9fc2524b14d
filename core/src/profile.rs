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
    /// For how long it may keep a key set against what the headers say, as far as anyone knows.
    pub lead: Duration,
    pub binding: Binding,
    /// It takes the first RSA key of the set, whatever the `kid` says.
    pub first_rsa_key: bool,
}

/// What holds a client's key at the authorization server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Binding {
    /// It reads the JWKS.
    Jwks,
    /// A certificate, or its thumbprint, that was registered by hand.
    RegisteredCert,
    /// Any certificate of a chain that it trusts.
    CertChain,
}

impl Binding {
    /// The name in texts.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Jwks => "jwks",
            Self::RegisteredCert => "registered-cert",
            Self::CertChain => "cert-chain",
        }
    }
}

/// Five minutes is the limit of SMART App Launch 2 (client-confidential-asymmetric), Epic, UDAP and Auth0.
const FIVE_MINUTES: Duration = Duration::from_secs(300);

/// Where nobody knows how a verifier caches. Epic keeps a set for up to 29 hours, but looks again for a `kid` that it
/// lacks.
const UNKNOWN_CACHING: Duration = Duration::from_secs(24 * 3600);

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
        lead: UNKNOWN_CACHING,
        binding: Binding::Jwks,
        first_rsa_key: false,
    },
    Profile {
        name: "smart-v2",
        algs: &[Alg::RS384, Alg::ES384],
        typ: Some("JWT"),
        max_lifetime: FIVE_MINUTES,
        backdate: Duration::from_secs(5),
        // The specification forbids to keep a set for longer than the headers say.
        lead: Duration::ZERO,
        binding: Binding::Jwks,
        first_rsa_key: false,
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
