//! Keys in a list, what is on the HSMs beside them, and what happens next.

use std::time::SystemTime;

use hallmark_proto::v1;

use super::Key;
use crate::given;

/// Keys, and how they agree with what is on the HSMs.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KeyList {
    pub keys: Vec<Key>,
    /// Keys on the HSMs that no record names; not where the list is of one client.
    pub strays: Vec<Stray>,
    /// HSMs that are down or could not be looked at: [`Key::absent`] and `strays` say nothing of these, or what an earlier
    /// look has shown.
    pub unanswered_hsms: Vec<String>,
    /// As of when the HSMs are told of, for each that was looked at.
    pub looks: Vec<HsmLook>,
}

/// A key on an HSM that no record names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stray {
    pub hsm: String,
    pub cka_id: Vec<u8>,
    pub label: String,
    /// Its thumbprint, where the public key can be read.
    pub kid: Option<String>,
}

/// When an HSM was last looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HsmLook {
    pub hsm: String,
    pub at: SystemTime,
}

/// A step that Hallmark is going to take by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UpcomingStep {
    pub at: SystemTime,
    pub client: String,
    /// The key line's.
    pub alg: String,
    pub hsm: String,
    /// `None` where the key does not exist yet.
    pub key_id: Option<String>,
    pub kid: Option<String>,
    /// `generate`, `publish`, `activate`, `deactivate`, `retire` or `destroy`.
    pub what: String,
    /// Why then.
    pub reason: String,
    /// What it waits for beside the time.
    pub blocked: Option<String>,
}

impl From<v1::Stray> for Stray {
    fn from(stray: v1::Stray) -> Self {
        let v1::Stray { hsm, cka_id, label, kid } = stray;
        Self { hsm, cka_id, label, kid: given::text(kid) }
    }
}

impl HsmLook {
    /// `None` where it has no time.
    pub(super) fn read(look: v1::HsmLook) -> Option<Self> {
        let v1::HsmLook { hsm, at } = look;
        Some(Self { hsm, at: at?.try_into().ok()? })
    }
}

impl UpcomingStep {
    /// `None` where it has no time.
    pub(super) fn read(step: v1::UpcomingStep) -> Option<Self> {
        let v1::UpcomingStep { at, client, alg, hsm, key_id, kid, what, reason, blocked } = step;
        let at = at?.try_into().ok()?;
        let (key_id, kid, blocked) = (given::text(key_id), given::text(kid), given::text(blocked));
        Some(Self { at, client, alg, hsm, key_id, kid, what, reason, blocked })
    }
}
