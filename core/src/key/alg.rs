//! The algorithms of keys.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::InvalidName;

/// A JWS algorithm (RFC 7518 §3.1, RFC 8037 §3.1). A key has one for life.
///
/// The order is that of the JWKS: RSA before elliptic curves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Alg {
    RS256,
    RS384,
    RS512,
    PS256,
    PS384,
    PS512,
    ES256,
    ES384,
    EdDSA,
}

impl Alg {
    /// In the order of a JWKS: RSA first.
    pub const ALL: [Self; 9] = [
        Self::RS256,
        Self::RS384,
        Self::RS512,
        Self::PS256,
        Self::PS384,
        Self::PS512,
        Self::ES256,
        Self::ES384,
        Self::EdDSA,
    ];

    /// The JWS name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RS256 => "RS256",
            Self::RS384 => "RS384",
            Self::RS512 => "RS512",
            Self::PS256 => "PS256",
            Self::PS384 => "PS384",
            Self::PS512 => "PS512",
            Self::ES256 => "ES256",
            Self::ES384 => "ES384",
            Self::EdDSA => "EdDSA",
        }
    }

    /// Whether it takes an RSA key.
    pub fn is_rsa(self) -> bool {
        self <= Self::PS512
    }
}

impl fmt::Display for Alg {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Alg {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let found = Self::ALL.into_iter().find(|alg| alg.as_str() == text);
        found.ok_or_else(|| {
            InvalidName::new("algorithm", text, "RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384 or EdDSA")
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rsa_sorts_before_elliptic_curves() {
        let mut algs = vec![Alg::EdDSA, Alg::ES256, Alg::PS512, Alg::RS256];
        algs.sort();
        assert_eq!(algs, [Alg::RS256, Alg::PS512, Alg::ES256, Alg::EdDSA]);
    }
}
