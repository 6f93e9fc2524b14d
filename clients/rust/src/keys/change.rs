//! What becomes of a change that an operator asked for.

use std::time::SystemTime;

use hallmark_proto::v1;

use super::Key;
use crate::given;

/// A change to keys that an operator asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyChange {
    pub id: String,
    pub state: ChangeState,
    /// The keys that it made or moved.
    pub keys: Vec<Key>,
    /// When the last verifier that obeys the JWKS's headers acts by it.
    pub in_force_everywhere_at: Option<SystemTime>,
    /// What else there is to do, a sentence each.
    pub advice: Vec<String>,
    /// Of a change that waits for a second operator, or waited.
    pub approval: Option<Approval>,
}

/// How far a change has got.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ChangeState {
    Applied,
    AwaitingApproval,
    Running,
    /// A second operator said no.
    Denied,
    /// Nobody approved it in time.
    Expired,
    /// It was approved, and failed.
    Failed,
    /// A state that this version of the client does not know.
    Unknown,
}

/// What a second operator has to know of a change, and what became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Approval {
    /// Such as `destroy KID`.
    pub what: String,
    pub client: String,
    /// An operator's identity.
    pub proposed_by: String,
    pub reason: String,
    /// What it was going to do when it was proposed, a sentence each.
    pub plan: Vec<String>,
    pub proposed_at: Option<SystemTime>,
    pub expires_at: Option<SystemTime>,
    /// `None` until somebody decides.
    pub decided_by: Option<String>,
    pub decision_reason: Option<String>,
}

impl ChangeState {
    /// The name in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::AwaitingApproval => "awaiting-approval",
            Self::Running => "running",
            Self::Denied => "denied",
            Self::Expired => "expired",
            Self::Failed => "failed",
            Self::Unknown => "unknown",
        }
    }
}

impl From<v1::KeyChange> for KeyChange {
    fn from(change: v1::KeyChange) -> Self {
        let state = match change.state() {
            v1::key_change::State::Applied => ChangeState::Applied,
            v1::key_change::State::AwaitingApproval => ChangeState::AwaitingApproval,
            v1::key_change::State::Running => ChangeState::Running,
            v1::key_change::State::Denied => ChangeState::Denied,
            v1::key_change::State::Expired => ChangeState::Expired,
            v1::key_change::State::Failed => ChangeState::Failed,
            v1::key_change::State::Unspecified => ChangeState::Unknown,
        };
        let in_force_everywhere_at = given::value(change.in_force_everywhere_at);
        let keys = change.keys.into_iter().map(Key::from).collect();
        let approval = change.approval.map(Approval::from);
        Self { id: change.id, state, keys, in_force_everywhere_at, advice: change.advice, approval }
    }
}

impl From<v1::Approval> for Approval {
    fn from(approval: v1::Approval) -> Self {
        Self {
            what: approval.what,
            client: approval.client,
            proposed_by: approval.proposed_by,
            reason: approval.reason,
            plan: approval.plan,
            proposed_at: given::value(approval.proposed_at),
            expires_at: given::value(approval.expires_at),
            decided_by: given::text(approval.decided_by),
            decision_reason: given::text(approval.decision_reason),
        }
    }
}
