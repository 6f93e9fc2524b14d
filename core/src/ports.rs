//! What the world must provide. Each port says its contract; `testkit` has a suite that every implementation runs.
//!
//! [`Hsm`] is synchronous on purpose: PKCS#11 and PC/SC block. The store answers with boxed futures, so that this
//! crate needs no runtime.

use std::{fmt, future::Future, pin::Pin};

use crate::{
    audit::{EncodedEvent, Event, checkpoint::Head},
    client::Custody,
    key::{Alg, KeySpec},
    public_key::PublicKey,
    time::Timestamp,
};

mod approval;
mod evidence;
mod import;
mod store;

pub use approval::{ApprovalStore, Decided, Decision, Proposal, Proposed};
pub use evidence::{Evidence, KeyAttributes};
pub use import::{Entry, ForeignKey, ImportSession};
pub use store::{
    BegunChange, ChangeState, ClientPolicy, ClientState, FollowerAck, FollowerStore, HsmReport, KeyChange, KeyStore,
    Lead, MaxAge, Observation, Pending, PolicyDifference, PublishedPath, Pulse, RecordUpdate, RegistrationResult,
    Replica, ReplicaStore, Replicas, Snapshot, StoreError, SweepStore,
};

/// The wall clock.
pub trait Clock: fmt::Debug + Send + Sync + 'static {
    /// The wall clock's time.
    fn now(&self) -> Timestamp;
}

/// One token that holds keys: a PKCS#11 token or a YubiKey.
///
/// The pool calls these from its own threads: `connect`, `disconnect` and `reset` from one keeper thread, `open` from
/// each worker. No method tries a PIN that was tried before and not accepted.
pub trait Hsm: Send + Sync + 'static {
    /// Finds the token and logs in. Called at start and after each loss, until it succeeds.
    fn connect(&self) -> Result<TokenFacts, HsmFault>;

    /// A session for one worker thread, logged in; logs in again, once for all callers, where the login was lost.
    fn open(&self) -> Result<Box<dyn HsmSession>, HsmFault>;

    /// Forgets the token's sessions, handles and login; the token may be gone. Sessions of before fail from now on.
    fn disconnect(&self);

    /// Starts the library below anew (`C_Finalize`, `C_Initialize`), for modules that see a returned token only then.
    /// Does nothing while another token of the same library works or a thread is inside it.
    fn reset(&self) -> Result<(), ResetRefused>;
}

/// What keeps a library from being started anew.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResetRefused {
    #[error("another token of the same library is in use")]
    SharedLibrary,
    #[error("a thread is still inside the library")]
    ThreadInside,
    #[error("{0}")]
    Failed(HsmFault),
}

/// What a token says of itself once connected.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenFacts {
    pub serial: String,
    pub model: String,
    /// How many sessions it can give to workers at once; `None` where it does not say.
    pub max_sessions: Option<usize>,
    pub algs: Vec<Alg>,
    pub about: TokenAbout,
}

/// What else a token and the library below it say of themselves, for [`Evidence`]; empty where they say nothing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TokenAbout {
    pub manufacturer: String,
    /// Versions, as `major.minor`, and of a YubiKey `major.minor.patch`.
    pub firmware: String,
    pub hardware: String,
    /// What it is reached through: a PKCS#11 library and its version, or PC/SC.
    pub module: String,
}

/// A session that one thread owns.
pub trait HsmSession: Send {
    /// Every key pair on the token, complete or not.
    fn list(&mut self) -> Result<Vec<HsmObject>, HsmFault>;

    /// Makes a key pair that can't leave the token. Never overwrites: an object with that `CKA_ID` is an error.
    fn generate(&mut self, new: &NewKey<'_>) -> Result<PublicKey, HsmFault>;

    /// Signs `message` with `alg` in JOSE form (for ECDSA r ‖ s). Binds the key at first use: exactly one private and
    /// one public object must match, with the public key of the record, and its custody must suffice.
    fn sign(&mut self, key: &KeyRef<'_>, alg: Alg, message: &[u8]) -> Result<Vec<u8>, HsmFault>;

    /// Destroys both objects of the pair.
    fn destroy(&mut self, key: &KeyRef<'_>) -> Result<(), HsmFault>;

    /// What the token says of the key's birth and protection, and its maker's attestation where it gives one. Judges
    /// nothing: neither `key.custody` nor the attestation.
    fn evidence(&mut self, key: &KeyRef<'_>) -> Result<Evidence, HsmFault>;
}

/// A key pair to be made.
#[derive(Clone, Copy, Debug)]
pub struct NewKey<'a> {
    pub cka_id: &'a [u8],
    pub label: &'a str,
    pub spec: KeySpec,
}

/// A key pair that must be on the token.
#[derive(Clone, Copy, Debug)]
pub struct KeyRef<'a> {
    pub cka_id: &'a [u8],
    pub label: &'a str,
    pub public: &'a PublicKey,
    /// The least that the token itself must say of its birth: never [`Custody::Attested`], which is not for the token to
    /// judge.
    pub custody: Custody,
}

/// A key pair found on the token, matched by `CKA_ID`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HsmObject {
    pub cka_id: Vec<u8>,
    /// The private object's, where there is one: some modules give the halves different ones.
    pub label: String,
    /// `None` where there is no public object, or one of a kind that Hallmark can't use.
    pub public: Option<PublicKey>,
    pub has_private: bool,
}

/// A call to the HSM that did not succeed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HsmFault {
    pub class: FaultClass,
    /// The function that failed, such as `C_Sign`.
    pub function: &'static str,
    /// Its return value, such as `CKR_DEVICE_REMOVED`, or what else went wrong.
    pub code: String,
}

impl HsmFault {
    /// `function` is the call that failed, `code` what it returned or what is wrong.
    pub fn new(class: FaultClass, function: &'static str, code: impl fmt::Display) -> Self {
        Self { class, function, code: code.to_string() }
    }
}

impl fmt::Display for HsmFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.function, self.code)
    }
}

impl std::error::Error for HsmFault {}

/// What kind of failure, which decides the reaction of the pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FaultClass {
    /// The call was wrong for this key: keep the session, fail the call.
    Request,
    /// The session is lost or in the wrong state: reopen, retry once.
    Session,
    /// The object handle is stale: find the key again, retry once.
    Handle,
    /// Not logged in: log in once for all, retry once.
    Login,
    /// Could be anything: reopen, retry once, and count.
    Unspecific,
    /// The token is gone: stop using it until it is back.
    Gone,
    /// The PIN was refused, or must not be tried: an operator is needed.
    Pin,
    /// The key's objects are missing, or more than one pair matches.
    KeyAbsent,
    /// The key falls short of the custody asked for.
    CustodyTooWeak,
    /// The token can't do this algorithm.
    Unsupported,
}

impl FaultClass {
    /// Every class once.
    pub const ALL: [Self; 10] = [
        Self::Request,
        Self::Session,
        Self::Handle,
        Self::Login,
        Self::Unspecific,
        Self::Gone,
        Self::Pin,
        Self::KeyAbsent,
        Self::CustodyTooWeak,
        Self::Unsupported,
    ];

    /// The name in the log.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Request => "request",
            Self::Session => "session",
            Self::Handle => "handle",
            Self::Login => "login",
            Self::Unspecific => "unspecific",
            Self::Gone => "gone",
            Self::Pin => "pin",
            Self::KeyAbsent => "key-absent",
            Self::CustodyTooWeak => "custody",
            Self::Unsupported => "unsupported",
        }
    }
}

/// Remembers, across restarts and replicas, which PIN was tried on which token. Synchronous: a login blocks anyway.
///
/// The marker names the token's serial and the PIN source's identity (device, inode and times for a file), never
/// anything made from the PIN.
pub trait PinLedger: Send + Sync + 'static {
    /// Marks that the PIN from `source` is about to be tried on `token`; refuses where a marker for the same source
    /// is there already, for then it was tried and not accepted.
    fn begin(&self, token: &str, source: &str) -> Result<(), PinLedgerRefusal>;

    /// Records how the try ended.
    fn end(&self, token: &str, source: &str, verdict: PinVerdict) -> Result<(), StoreError>;
}

/// What became of a login.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PinVerdict {
    /// The marker is cleared, and the source is remembered as good.
    Accepted,
    /// The marker stays.
    Refused,
    /// The token went away before it answered. The marker stays, unless this source was accepted at its last try: then
    /// it is cleared, and the source no longer counts as accepted, so that it is forgiven once in a row.
    Unknown,
    /// The token did not look at the PIN. The marker is cleared, and the source counts as it did before.
    NotTried,
}

/// Why a PIN must not be tried now.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PinLedgerRefusal {
    #[error("this PIN was tried before and not accepted")]
    AlreadyTried,
    #[error(transparent)]
    Store(StoreError),
}

/// The append-only audit log.
pub trait AuditSink: Send + Sync + 'static {
    /// Queues an event, in order; does not wait for the disk.
    fn append(&self, event: EncodedEvent) -> Result<(), AuditUnavailable>;

    /// Queues an event and resolves once it and all before it are on the disk.
    fn append_synced(&self, event: EncodedEvent) -> Synced<'_>;

    /// Queues an event, and has `then` called once it and all before it are on the disk, or can't get there. For what
    /// happens on other threads, which so need not be woken before. `then` must not block: the log's writer calls it,
    /// or this thread where the event can't be queued.
    fn append_then(&self, event: EncodedEvent, then: WhenSynced);

    /// Counts a refusal, and records it as far as the bounded rate goes.
    fn refused(&self, time: Timestamp, refusal: &Event<'_>);

    /// Whether events can be written.
    fn is_healthy(&self) -> bool;
}

/// The chain that an audit log is writing; for checkpoints.
pub trait AuditHead: Send + Sync + 'static {
    /// Its last record that survives a crash; `None` before there is one.
    fn head(&self) -> Option<Head>;
}

/// Resolves once an event is on the disk.
pub type Synced<'a> = Pin<Box<dyn Future<Output = Result<(), AuditUnavailable>> + Send + 'a>>;

/// What is done once an event is on the disk.
pub type WhenSynced = Box<dyn FnOnce(Result<(), AuditUnavailable>) + Send>;

/// The audit log can't be written; nothing may be signed without it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("audit log: {0}")]
pub struct AuditUnavailable(pub String);
