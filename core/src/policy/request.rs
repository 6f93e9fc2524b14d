//! What a workload asks for.

use std::time::Duration;

use serde_json::value::RawValue;

use crate::key::{Alg, ClientName};

/// What a workload asks to have signed; what is `None` is as the client has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AssertionRequest {
    pub client: ClientName,
    pub alg: Option<Alg>,
    pub audience: Option<String>,
    pub lifetime: Option<Duration>,
    pub scope: Option<String>,
    pub claims: Claims,
}

/// Extra claims, each value kept byte for byte: a round trip through a float would change integers.
#[derive(Clone, Debug, Default)]
pub struct Claims(pub Vec<(String, Box<RawValue>)>);

impl PartialEq for Claims {
    fn eq(&self, other: &Self) -> bool {
        let pair = |(name, value): &(String, Box<RawValue>)| (name.clone(), value.get().to_owned());
        self.0.iter().map(pair).eq(other.0.iter().map(pair))
    }
}

impl Eq for Claims {}

/// Whether no workload may add this claim, whatever the configuration says.
///
/// Some verifiers look names up whatever their case, and fold what is not ASCII: `Sub` and `iſs` would be `sub` and `iss`.
pub fn is_reserved_claim(name: &str) -> bool {
    !name.is_ascii() || RESERVED.iter().any(|reserved| reserved.eq_ignore_ascii_case(name))
}

/// Claims that Hallmark sets itself, or that would change what verifiers check (RFC 7519 §4.1, RFC 7800).
pub(super) const RESERVED: [&str; 8] = ["iss", "sub", "aud", "exp", "nbf", "iat", "jti", "cnf"];
