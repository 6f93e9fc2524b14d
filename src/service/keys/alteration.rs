//! What can be asked of keys that are there, and what each asks for: a role, a name, and when it is done.

use hallmark_core::{
    key::{Alg, ClientName, KeyRecord, KeyState, Kid},
    policy::Act,
};
use serde::{Deserialize, Serialize};

/// What is to become of which keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case")]
pub enum Alteration {
    /// Switches a client's lines, or those with that algorithm, to their standbys.
    Rotate {
        client: ClientName,
        alg: Option<Alg>,
    },
    Activate {
        kid: Kid,
    },
    Deactivate {
        kid: Kid,
    },
    Revoke {
        kid: Kid,
    },
    Retire {
        kid: Kid,
    },
    Destroy {
        kid: Kid,
    },
    /// The verifier has this key registered: where its binding is not `jwks`.
    ConfirmRegistered {
        kid: Kid,
    },
    /// The public URL was seen to have this key.
    ConfirmRehearsed {
        kid: Kid,
    },
}

impl Alteration {
    /// The key that it is about, where it is about one.
    pub fn kid(&self) -> Option<&Kid> {
        match self {
            Self::Rotate { .. } => None,
            Self::Activate { kid }
            | Self::Deactivate { kid }
            | Self::Revoke { kid }
            | Self::Retire { kid }
            | Self::Destroy { kid }
            | Self::ConfirmRegistered { kid }
            | Self::ConfirmRehearsed { kid } => Some(kid),
        }
    }

    pub(super) fn confirms(&self) -> bool {
        matches!(self, Self::ConfirmRegistered { .. } | Self::ConfirmRehearsed { .. })
    }

    pub(super) fn verb(&self) -> &'static str {
        match self {
            Self::Rotate { .. } => "rotate",
            Self::Activate { .. } => "activate",
            Self::Deactivate { .. } => "deactivate",
            Self::Revoke { .. } => "revoke",
            Self::Retire { .. } => "retire",
            Self::Destroy { .. } => "destroy",
            Self::ConfirmRegistered { .. } => "confirm-registered",
            Self::ConfirmRehearsed { .. } => "confirm-rehearsed",
        }
    }

    pub(super) fn act(&self) -> Act {
        match self {
            Self::Rotate { .. } => Act::Rotate,
            Self::Activate { .. } => Act::Activate,
            Self::Deactivate { .. } => Act::Deactivate,
            Self::Revoke { .. } => Act::Revoke,
            Self::Retire { .. } => Act::Retire,
            Self::Destroy { .. } => Act::Destroy,
            Self::ConfirmRegistered { .. } | Self::ConfirmRehearsed { .. } => Act::Confirm,
        }
    }

    /// Tells a repeated request from another one with the same id.
    pub(super) fn describe(&self, force: bool) -> String {
        let of = match self {
            Self::Rotate { client, alg } => format!("{client} {}", alg.map_or("all", Alg::as_str)),
            _ => self.kid().map(ToString::to_string).unwrap_or_default(),
        };
        format!("{} {of}{}", self.verb(), if force { " force" } else { "" })
    }

    /// What a repeated request finds where it was done and nobody wrote down that it was.
    pub(super) fn is_done(&self, record: &KeyRecord) -> bool {
        match self {
            // Both keys of a switch are on record before it is made.
            Self::Rotate { .. } => record.state != KeyState::PreActive,
            Self::Activate { .. } => record.state == KeyState::Active,
            Self::Deactivate { .. } => !matches!(record.state, KeyState::PreActive | KeyState::Active),
            Self::Revoke { .. } => record.state == KeyState::Compromised,
            Self::Retire { .. } => matches!(record.state, KeyState::Retired | KeyState::Destroyed),
            Self::Destroy { .. } => record.state == KeyState::Destroyed,
            Self::ConfirmRegistered { .. } => record.times.registered.is_some(),
            Self::ConfirmRehearsed { .. } => record.times.rehearsed.is_some(),
        }
    }
}
