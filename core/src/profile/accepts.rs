//! What a system takes, and how that is known.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Audience, Iss, Typ};
use crate::key::Alg;

/// What the verifier checks of an assertion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Accepts {
    /// The first is the default.
    pub algs: Rule<&'static [Alg]>,
    pub typ: Rule<&'static [Typ]>,
    pub kid: Rule<Need>,
    pub jku: Rule<Need>,
    pub certificate: Rule<Certificate>,
    pub iss: Rule<Iss>,
    pub aud: Rule<&'static [Audience]>,
    /// Whether `aud` may be an array that holds the right value.
    pub aud_array: Rule<bool>,
    /// The longest `exp` − `iat`, and `exp` from now; `None`: no limit was found.
    pub lifetime: Rule<Option<Duration>>,
    pub iat: Rule<Need>,
    /// The oldest `iat`; `None`: no limit was found.
    pub iat_age: Rule<Option<Duration>>,
    pub nbf: Rule<Need>,
    /// By how much clocks may differ.
    pub skew: Rule<Duration>,
    pub jti: Rule<Jti>,
    /// Claims that must be there beside the registered ones.
    pub claims: Rule<&'static [&'static str]>,
}

/// One thing that a system checks, and how that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rule<T> {
    pub is: T,
    pub evidence: Evidence,
    /// Where it can be read: a document and its section, a file and its class.
    pub source: &'static str,
}

/// How a rule is known, strongest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Evidence {
    /// Seen on the running verifier.
    Measured,
    /// Read in its source.
    Source,
    /// A specification says so.
    Specification,
    /// Its vendor or operator says so.
    Documentation,
    /// A forum or another third party says so.
    Hearsay,
    /// Nobody was found who says so: ask the site.
    Unverified,
}

/// Whether a member must be there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Need {
    Required,
    Optional,
    /// Taken and not looked at.
    Ignored,
    /// Better left out.
    Unwanted,
}

/// Which header members must show the certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Certificate {
    /// None; one that is there is not looked at.
    None,
    X5c,
    /// `x5t`; `x5c` instead is taken too.
    X5t,
    X5tS256,
}

/// What is checked of `jti`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Jti {
    pub need: Need,
    /// The longest, in characters; `None`: no limit was found.
    pub longest: Option<usize>,
    /// A second use is refused.
    pub once: bool,
}

impl Evidence {
    /// In texts.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Measured => "measured",
            Self::Source => "source",
            Self::Specification => "specification",
            Self::Documentation => "documentation",
            Self::Hearsay => "hearsay",
            Self::Unverified => "unverified",
        }
    }
}

impl<T> Rule<T> {
    pub(super) const fn measured(is: T, source: &'static str) -> Self {
        Self { is, evidence: Evidence::Measured, source }
    }

    pub(super) const fn in_source(is: T, source: &'static str) -> Self {
        Self { is, evidence: Evidence::Source, source }
    }

    pub(super) const fn specified(is: T, source: &'static str) -> Self {
        Self { is, evidence: Evidence::Specification, source }
    }

    pub(super) const fn documented(is: T, source: &'static str) -> Self {
        Self { is, evidence: Evidence::Documentation, source }
    }

    pub(super) const fn hearsay(is: T, source: &'static str) -> Self {
        Self { is, evidence: Evidence::Hearsay, source }
    }

    pub(super) const fn unverified(is: T, source: &'static str) -> Self {
        Self { is, evidence: Evidence::Unverified, source }
    }
}
