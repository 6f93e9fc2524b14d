//! What operators ask for, and what they are told.

use std::{fmt, time::SystemTime};

use hallmark_proto::v1;
use uuid::Uuid;

/// A key's record. It holds nothing secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    pub id: String,
    /// `None` for a custody key.
    pub client: Option<String>,
    pub alg: String,
    pub hsm: String,
    /// `None` until the key is generated.
    pub kid: Option<String>,
    pub state: KeyState,
    /// `assertion` or `custody`.
    pub purpose: String,
    /// `generated`, `adopted` or `imported`.
    pub origin: String,
    pub cka_id: Vec<u8>,
    pub label: String,
    /// SubjectPublicKeyInfo, DER; empty until the key is generated.
    pub spki: Vec<u8>,
    pub created_at: Option<SystemTime>,
    pub published_at: Option<SystemTime>,
    pub activated_at: Option<SystemTime>,
    pub deactivated_at: Option<SystemTime>,
    pub retired_at: Option<SystemTime>,
    pub compromised_at: Option<SystemTime>,
    pub destroyed_at: Option<SystemTime>,
    /// Its objects are not on the HSM as they should be, as of when that was last looked at. Only a listing says so.
    pub absent: bool,
    /// What happens to it next by itself.
    pub next_step: Option<UpcomingStep>,
    /// X.509, DER, leaf first; empty where it has none.
    pub certificate_chain: Vec<Vec<u8>>,
    /// What the first of these says.
    pub certificate: Option<Certificate>,
    /// Assertions of its client must show a certificate, and it has none that is valid now.
    pub certificate_missing: bool,
}

/// What a certificate says of itself. Its texts are those of whoever issued it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// RFC 4514.
    pub subject: String,
    /// RFC 4514.
    pub issuer: String,
    /// In hexadecimal.
    pub serial: String,
    pub not_before: Option<SystemTime>,
    pub not_after: Option<SystemTime>,
    /// Of the subject's alternative names.
    pub san_uris: Vec<String>,
    pub san_dns: Vec<String>,
    /// Digests of its DER.
    pub sha1: Vec<u8>,
    pub sha256: Vec<u8>,
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

/// A key on an HSM that no record names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stray {
    pub hsm: String,
    pub cka_id: Vec<u8>,
    pub label: String,
    /// Its thumbprint, where the public key can be read.
    pub kid: Option<String>,
}

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

/// When an HSM was last looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HsmLook {
    pub hsm: String,
    pub at: SystemTime,
}

/// What every change of keys is asked for with. Made from a reason alone, it has a new request id and forces nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Order {
    /// The same id again, after a failure for example, does nothing twice.
    pub request_id: String,
    /// The audit log keeps it.
    pub reason: String,
    /// Past a gate that is shut; for operators with role `destroy`. Where nothing is to be forced it has no effect.
    pub force: bool,
}

/// What an operator saw to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Confirmation {
    /// The authorization server has the key registered.
    Registered,
    /// The public JWKS URL was read from outside, and had the key.
    Rehearsed,
}

/// What to do with one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum KeyAction {
    /// Makes it active, and deactivates the one that was.
    Activate,
    /// Stops signing with it; it stays published.
    Deactivate,
    /// Takes it out of the JWKS at once, for good.
    Revoke,
    /// Takes it out of the JWKS, once nothing that it signed can matter any more.
    Retire,
    /// Destroys it on the HSM.
    Destroy,
    /// Says that it may become active, as far as someone had to look.
    Confirm(Confirmation),
}

/// A key to be taken in: one that is on an HSM and has no record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Adoption {
    /// Whose key it becomes.
    pub client: String,
    /// `None`: the one of the client's key lines that it suits.
    pub alg: Option<String>,
    /// `None`: the client's HSM, if it has one only.
    pub hsm: Option<String>,
    pub object: ObjectRef,
    /// The `kid` that it has at the authorization server already. `None`: its thumbprint.
    pub kid: Option<String>,
}

/// Names the objects of a key on an HSM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ObjectRef {
    CkaId(Vec<u8>),
    Label(String),
}

/// NIST SP 800-57 states, and `retired`: deactivated and no longer published.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum KeyState {
    PreActive,
    Active,
    Deactivated,
    Compromised,
    Retired,
    Destroyed,
    /// A state that this version of the client does not know.
    Unknown,
}

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

/// A client's JWK Set as authorization servers see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Jwks {
    /// The document, byte for byte; empty where the client has no key yet.
    pub document: Vec<u8>,
    /// Where authorization servers find it.
    pub url: String,
    /// The strong entity tag, with its quotes.
    pub etag: String,
}

impl Order {
    /// With a new request id.
    pub fn new(reason: impl Into<String>) -> Self {
        Self { request_id: Uuid::new_v4().to_string(), reason: reason.into(), force: false }
    }

    /// Past a gate that is shut.
    #[must_use]
    pub fn force(mut self) -> Self {
        self.force = true;
        self
    }
}

impl From<&str> for Order {
    fn from(reason: &str) -> Self {
        Self::new(reason)
    }
}

impl From<String> for Order {
    fn from(reason: String) -> Self {
        Self::new(reason)
    }
}

impl KeyState {
    /// The name in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::PreActive => "pre-active",
            Self::Active => "active",
            Self::Deactivated => "deactivated",
            Self::Compromised => "compromised",
            Self::Retired => "retired",
            Self::Destroyed => "destroyed",
            Self::Unknown => "unknown",
        }
    }
}

impl fmt::Display for KeyState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
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

impl From<v1::Key> for Key {
    fn from(key: v1::Key) -> Self {
        let state = match key.state() {
            v1::KeyState::PreActive => KeyState::PreActive,
            v1::KeyState::Active => KeyState::Active,
            v1::KeyState::Deactivated => KeyState::Deactivated,
            v1::KeyState::Compromised => KeyState::Compromised,
            v1::KeyState::Retired => KeyState::Retired,
            v1::KeyState::Destroyed => KeyState::Destroyed,
            v1::KeyState::Unspecified => KeyState::Unknown,
        };
        Self {
            id: key.id,
            client: given(key.client),
            alg: key.alg,
            hsm: key.hsm,
            kid: given(key.kid),
            state,
            purpose: key.purpose,
            origin: key.origin,
            cka_id: key.cka_id,
            label: key.label,
            spki: key.spki,
            created_at: key.created_at.and_then(|time| time.try_into().ok()),
            published_at: key.published_at.and_then(|time| time.try_into().ok()),
            activated_at: key.activated_at.and_then(|time| time.try_into().ok()),
            deactivated_at: key.deactivated_at.and_then(|time| time.try_into().ok()),
            retired_at: key.retired_at.and_then(|time| time.try_into().ok()),
            compromised_at: key.compromised_at.and_then(|time| time.try_into().ok()),
            destroyed_at: key.destroyed_at.and_then(|time| time.try_into().ok()),
            absent: key.absent,
            next_step: key.next_step.and_then(UpcomingStep::read),
            certificate_chain: key.certificate_chain,
            certificate: key.certificate.map(Certificate::from),
            certificate_missing: key.certificate_missing,
        }
    }
}

impl From<v1::Certificate> for Certificate {
    fn from(shown: v1::Certificate) -> Self {
        let v1::Certificate { subject, issuer, serial, not_before, not_after, san_uris, san_dns, sha1, sha256 } = shown;
        let not_before = not_before.and_then(|time| time.try_into().ok());
        let not_after = not_after.and_then(|time| time.try_into().ok());
        Self { subject, issuer, serial, not_before, not_after, san_uris, san_dns, sha1, sha256 }
    }
}

impl From<v1::Stray> for Stray {
    fn from(stray: v1::Stray) -> Self {
        let v1::Stray { hsm, cka_id, label, kid } = stray;
        Self { hsm, cka_id, label, kid: given(kid) }
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
        let (key_id, kid, blocked) = (given(key_id), given(kid), given(blocked));
        Some(Self { at, client, alg, hsm, key_id, kid, what, reason, blocked })
    }
}

fn given(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}

impl From<Confirmation> for v1::Confirmation {
    fn from(confirmation: Confirmation) -> Self {
        match confirmation {
            Confirmation::Registered => Self::Registered,
            Confirmation::Rehearsed => Self::Rehearsed,
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
        let in_force_everywhere_at = change.in_force_everywhere_at.and_then(|time| time.try_into().ok());
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
            proposed_at: approval.proposed_at.and_then(|time| time.try_into().ok()),
            expires_at: approval.expires_at.and_then(|time| time.try_into().ok()),
            decided_by: given(approval.decided_by),
            decision_reason: given(approval.decision_reason),
        }
    }
}
