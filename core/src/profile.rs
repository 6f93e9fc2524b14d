//! Profiles: what one kind of authorization server demands, as data.
//!
//! [`Makes`] is what Hallmark sends, and a client may override single fields of it; [`Accepts`] is what the system takes,
//! each rule with how that is known. `inspect`, the warnings about overrides and the pages of `docs/profiles/` read these
//! same tables: nothing else in Hallmark knows a system by its name.

use std::time::Duration;

use crate::key::Alg;

mod accepts;
mod certificates;
mod clouds;
mod ehr;
mod epic;
mod generic;
mod handouts;
mod hydra;
mod makes;
mod objections;
mod openemr;
mod registration;
mod servers;
mod smart;
mod strict;

pub use accepts::{Accepts, Certificate, Evidence, Jti, Need, Rule};
pub use handouts::{Handout, HandoutBody};
pub use makes::{Audience, Iss, Makes, Typ};
pub use objections::Objection;
pub use registration::{Field, Handover, How, Registration};

/// What one kind of authorization server demands of an assertion, a token request and a JWKS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Profile {
    /// As configuration names it.
    pub name: &'static str,
    /// The system, as its users call it.
    pub system: &'static str,
    pub makes: Makes,
    pub accepts: Accepts,
    pub token_request: FormRules,
    pub registration: Registration,
    pub jwks: JwksRules,
    pub binding: Binding,
    /// What an operator must do at the authorization server when a key is compromised: to remove it from the JWKS is not
    /// enough with most of them.
    pub on_revocation: &'static [&'static str],
    /// What nobody could find out: questions to ask the site.
    pub unverified: &'static [&'static str],
    pub refusals: &'static [Refusal],
}

/// Form fields of the token request beside those of RFC 6749 §4.4 and RFC 7523 §2.2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FormRules {
    /// `client_id` is sent although the assertion says it.
    pub client_id: bool,
    /// Always sent, in this order.
    pub fixed: &'static [(&'static str, &'static str)],
    /// Names that a client's `form` may add here, each with when it is wanted.
    pub optional: &'static [(&'static str, &'static str)],
}

/// What the system does with a JWKS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct JwksRules {
    /// It takes the first RSA key of the set, whatever the `kid` says.
    pub first_rsa_key: bool,
    /// It wants the active key as a PEM of its own.
    pub pem: bool,
    /// For how long it may keep a key set against what the headers say, as far as anyone knows.
    pub lead: Duration,
    /// How it caches, in a sentence.
    pub caching: Rule<&'static str>,
    /// What the set and its keys must be like beside what every JWKS of Hallmark is, each in a sentence.
    pub demands: &'static [Rule<&'static str>],
}

/// What holds a client's key at the authorization server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Binding {
    /// It reads the JWKS.
    Jwks,
    /// A certificate, a key or a thumbprint, that was registered by hand.
    RegisteredCert,
    /// Any certificate of a chain that it trusts.
    CertChain,
}

/// An answer of the system, and what it means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// A part of the answer's body, as the system writes it; empty for what every refusal may mean.
    pub says: &'static str,
    pub means: &'static str,
    pub remedy: &'static str,
}

/// Where nobody knows how a verifier caches. Epic keeps a set for up to 29 hours, but looks again for a `kid` that it
/// lacks.
const UNKNOWN_CACHING: Duration = Duration::from_secs(24 * 3600);

/// The limit of SMART App Launch 2 (client-confidential-asymmetric), Epic, UDAP and Auth0.
const FIVE_MINUTES: Duration = Duration::from_secs(300);

const PROFILES: &[&Profile] = &[
    &generic::GENERIC,
    &smart::SMART_V2,
    &smart::SMART_2018,
    &smart::SMART_BULK_DATA_SERVER,
    &epic::EPIC,
    &ehr::ORACLE_HEALTH,
    &ehr::ECW_HEALOW,
    &ehr::WEBCHART,
    &openemr::OPENEMR_7,
    &openemr::OPENEMR_8,
    &certificates::CAREEVOLUTION,
    &certificates::CERNER_CAREQUALITY_2019,
    &certificates::UDAP_B2B,
    &clouds::ENTRA,
    &clouds::AUTH0,
    &clouds::OKTA,
    &servers::KEYCLOAK,
    &servers::OIDC_PROVIDER,
    &hydra::HYDRA,
    &strict::RFC7523BIS,
    &strict::FAPI2,
];

impl Profile {
    /// The profile of a client that names none.
    pub const DEFAULT: &'static str = "generic";

    /// The profile of that name.
    pub fn find(name: &str) -> Option<&'static Self> {
        Self::all().find(|profile| profile.name == name)
    }

    /// That of a client that names none.
    pub fn generic() -> &'static Self {
        &generic::GENERIC
    }

    /// All of them, in the order of the documentation.
    pub fn all() -> impl Iterator<Item = &'static Self> {
        PROFILES.iter().copied()
    }

    /// All names, for the hint to a wrong one.
    pub fn names() -> impl Iterator<Item = &'static str> {
        Self::all().map(|profile| profile.name)
    }

    /// The algorithm of a client that names none.
    pub fn default_alg(&self) -> Alg {
        self.accepts.algs.is.first().copied().unwrap_or(Alg::RS384)
    }
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

#[cfg(test)]
mod tests;
