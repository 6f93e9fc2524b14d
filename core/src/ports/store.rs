//! What is kept: key records, operators' changes, what verifiers were told, and which replicas there are.

use std::{collections::BTreeSet, future::Future, pin::Pin, str::FromStr, time::Duration};

use crate::{
    key::{ClientName, HsmName, InvalidName, KeyId, KeyRecord, KeyState},
    policy::Identity,
    time::Timestamp,
};

/// The answer of a store, later.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = Result<T, StoreError>> + Send + 'a>>;

/// Key records and key changes. Every method is one transaction.
pub trait KeyStore: Send + Sync + 'static {
    /// All records, in the order of creation, and the generation that they are of.
    fn records(&self) -> Pending<'_, Snapshot>;

    /// Adds `insert` and writes `update` over the records of the same id, all or nothing; moves the generation by one
    /// where there is anything to do. An update holds only where the stored state is still `from`, and the stored
    /// certificates are those of its record; otherwise [`StoreError::Conflict`].
    ///
    /// Observed time never goes back, for the copy that an update was made from may be older than the last
    /// [`Lead::observe`]: the stored value stays where it is larger. Only `kept_for_ms` is written as given where the
    /// state changes. For the same reason what operators confirmed (`registered`, `rehearsed`) is written only where the
    /// state stays, and certificates only where the update brings them. Of two confirmations that were made from one
    /// copy both hold; `registered` goes back to `None` only with new certificates.
    fn apply<'a>(&'a self, insert: &'a [KeyRecord], update: &'a [RecordUpdate]) -> Pending<'a, ()>;

    /// Starts an operator's change, or finds the one that came with the same `request_id`. One that was running on a
    /// replica which is no more counts as failed.
    fn begin_change<'a>(&'a self, change: &'a KeyChange) -> Pending<'a, BegunChange>;

    /// Records how a change stands or ended, and which keys it touched so far.
    fn end_change<'a>(&'a self, id: &'a str, state: ChangeState, keys: &'a [KeyId]) -> Pending<'a, ()>;

    /// Writes down what registering a client gave, in the place of what was there for it; moves the generation by one.
    /// Holds only where the stored `client_id` is still `before`; otherwise [`StoreError::Conflict`].
    fn record_registration<'a>(&'a self, result: &'a RegistrationResult, before: Option<&'a str>) -> Pending<'a, ()>;

    /// Whether there is anything new to read, and the time. Cheap: meant to be asked several times a second.
    fn pulse(&self) -> Pending<'_, Pulse>;
}

/// Who sweeps, and what verifiers were told.
pub trait SweepStore: Send + Sync + 'static {
    /// Takes the sweep lock; `None` while another replica has it. It falls, at the latest a moment later, when what is
    /// returned is dropped, and when the process or its connection to the store ends.
    fn try_lead(&self) -> Pending<'_, Option<Box<dyn Lead>>>;

    /// What verifiers were told of those clients whose high water is above `above`, in the order of their names: seldom
    /// any, and never one that nothing was raised for.
    fn client_states(&self, above: Duration) -> Pending<'_, Vec<ClientState>>;

    /// Raises the high water of each client to what is about to be served, before it is. Never lowers it. Any replica
    /// may; costs no write where it is as high already.
    fn raise_max_age<'a>(&'a self, served: &'a [MaxAge]) -> Pending<'a, ()>;

    /// Writes down where key sets are published, before they are. Any replica may; moves the generation by one where it
    /// is another place than before, and costs no write where it is not. A client that is not named stays where it is.
    fn publish_at<'a>(&'a self, paths: &'a [PublishedPath]) -> Pending<'a, ()>;
}

/// The sweep lock, while it is held. What it writes goes over the connection that holds the lock: a sweeper that lost
/// it without noticing writes nothing.
pub trait Lead: Send {
    /// Asks the store whether the lock is still held. An error means that nobody knows: drop this, and try again.
    fn still_held(&mut self) -> Pending<'_, bool>;

    /// Adds to the observed time of each key. Does not move the generation. Observe only what passed since this lead
    /// began or last observed: another may have counted what was before. A key that is not there is left out.
    fn observe<'a>(&'a mut self, observed: &'a [Observation]) -> Pending<'a, ()>;

    /// Lowers the high water of each client to what all replicas serve now, once the old one has run out: the first call
    /// with a smaller value marks the time, a later one lowers it when the old high water has passed since, by the
    /// store's clock. A [`SweepStore::raise_max_age`] to the old value or above takes the mark away.
    fn lower_max_age<'a>(&'a mut self, served: &'a [MaxAge]) -> Pending<'a, ()>;
}

/// Which replicas there are, and whether they have the same policy.
pub trait ReplicaStore: Send + Sync + 'static {
    /// Says that this replica lives, and which policy it has; replaces what it said before, and writes what changed.
    fn announce<'a>(&'a self, instance: &'a str, policies: &'a [ClientPolicy]) -> Pending<'a, ()>;

    /// Says that this replica lives, and which generation it serves. `false`: it is not known here, and must announce
    /// itself (again). One row.
    fn heartbeat<'a>(&'a self, instance: &'a str, serving: u64) -> Pending<'a, bool>;

    /// The replicas heard of within `within`, by the store's clock, and where their policies differ.
    fn replicas(&self, within: Duration) -> Pending<'_, Replicas>;

    /// Says what this replica has to say of its HSMs; replaces what it said before. Only for an instance that announced
    /// itself.
    fn report<'a>(&'a self, instance: &'a str, hsms: &'a [HsmReport]) -> Pending<'a, ()>;

    /// What the replicas heard of within `within` reported last, but for `besides`: instance and report, by name.
    fn reports<'a>(&'a self, besides: &'a str, within: Duration) -> Pending<'a, Vec<(String, HsmReport)>>;
}

/// What followers of all replicas serve.
pub trait FollowerStore: Send + Sync + 'static {
    /// Writes what followers said last to this replica. What the store has of a follower from later stays.
    fn acknowledged<'a>(&'a self, instance: &'a str, said: &'a [FollowerAck]) -> Pending<'a, ()>;

    /// Every follower that was heard of within a week, by identity and process.
    fn followers(&self) -> Pending<'_, Vec<FollowerAck>>;
}

/// All records, at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Snapshot {
    pub records: Vec<KeyRecord>,
    pub generation: u64,
    /// Of the clients that are not at their default path, by name.
    pub paths: Vec<PublishedPath>,
    /// What registering clients gave, by client.
    pub registrations: Vec<RegistrationResult>,
}

/// What an authorization server answered to the registration of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RegistrationResult {
    pub client: ClientName,
    /// Holds where the configuration has none.
    pub client_id: String,
    /// Where the registration is read and changed (RFC 7592 §3). What opens it is a secret, and not here.
    pub registration_uri: Option<String>,
    pub recorded: Timestamp,
}

/// Where a client's key set is published.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PublishedPath {
    pub client: ClientName,
    /// `None`: at the default.
    pub path: Option<String>,
}

/// What a store answers to whoever asks often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pulse {
    /// Differs from the last one where records changed. Smaller only after a backup was put back.
    pub generation: u64,
    /// The time that rules: the database's with PostgreSQL, the machine's with SQLite.
    pub now: Timestamp,
}

/// What to add to a key's observed time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Observation {
    pub key: KeyId,
    pub served_ms: u64,
    pub kept_ms: u64,
}

/// A client's JWKS, and for how long verifiers are told that they may keep it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MaxAge {
    pub client: ClientName,
    pub max_age_ms: u64,
}

/// What verifiers of a client were told; a high water of 0 where that is not known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientState {
    pub client: ClientName,
    /// The largest `max_age` that a verifier may still go by.
    pub max_age_high_water_ms: u64,
    /// Since when all replicas serve a smaller one.
    pub lowered_at: Option<Timestamp>,
}

/// A digest of one client's key policy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientPolicy {
    pub client: ClientName,
    /// In hexadecimal or whatever else makes a short text; compared byte for byte.
    pub digest: String,
}

/// The replicas that live.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replicas {
    /// By name.
    pub live: Vec<Replica>,
    /// Clients whose policy is not the same on all that announced one, by name.
    pub differing: Vec<PolicyDifference>,
}

/// A replica, as it last said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Replica {
    pub instance: String,
    pub heard: Timestamp,
    /// The generation that it serves; 0 before its first heartbeat.
    pub serving: u64,
}

/// How one replica finds one of its HSMs. Another one, which sweeps, may not reach that HSM itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HsmReport {
    pub hsm: HsmName,
    pub up: bool,
    /// Whether this replica sweeps.
    pub leads: bool,
    /// Keys whose objects are missing on the HSM, or set aside.
    pub unusable: BTreeSet<KeyId>,
    /// Key lines, as texts, in which a key could not be made or destroyed.
    pub failed: BTreeSet<String>,
}

/// What one follower said last.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FollowerAck {
    pub identity: Identity,
    /// Tells it from others of the same identity.
    pub process: String,
    /// The replica that it said so to. Of no meaning in what is written.
    pub instance: String,
    /// The generation of the store that it serves.
    pub generation: u64,
    /// How long ago that was, by the store's clock in what is read.
    pub silent: Duration,
}

/// A client that replicas have different policies for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PolicyDifference {
    pub client: ClientName,
    /// Instance and digest, by name; `None` where a replica does not know the client.
    pub replicas: Vec<(String, Option<String>)>,
}

/// A new version of a record, and the state that it must still be in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RecordUpdate {
    pub from: KeyState,
    /// Its certificates are those that the change was decided by: the key must still have them.
    pub record: KeyRecord,
    /// The certificates that it gets in their place, leaf first; `None` leaves them as they are.
    pub chain: Option<Vec<Vec<u8>>>,
}

/// A change that an operator asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyChange {
    pub id: String,
    /// The caller's idempotency key; unique.
    pub request_id: String,
    /// What was asked for, to tell a repeated request from another one with the same `request_id`.
    pub request: String,
    pub client: ClientName,
    pub operator: String,
    pub reason: String,
    pub state: ChangeState,
    pub created: Timestamp,
    /// The keys that it made or moved.
    pub keys: Vec<KeyId>,
}

/// How far a change has got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ChangeState {
    Running,
    AwaitingApproval,
    Applied,
    Failed,
    /// A second operator said no.
    Denied,
    /// Nobody approved it in time.
    Expired,
}

impl ChangeState {
    /// The name in the store.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Running => "running",
            Self::AwaitingApproval => "awaiting-approval",
            Self::Applied => "applied",
            Self::Failed => "failed",
            Self::Denied => "denied",
            Self::Expired => "expired",
        }
    }
}

impl FromStr for ChangeState {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let all = [Self::Running, Self::AwaitingApproval, Self::Applied, Self::Failed, Self::Denied, Self::Expired];
        let found = all.into_iter().find(|state| state.as_str() == text);
        found.ok_or_else(|| InvalidName::new("change state", text, "running, applied, …"))
    }
}

/// What the store had under a change's `request_id`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BegunChange {
    New,
    /// The same `request_id` came before. A [`ChangeState::Failed`] one may be tried again: it is set back to running.
    Existing(KeyChange),
}

/// Why the store did not do it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum StoreError {
    /// The database did not answer, or answered with an error.
    #[error("store: {0}")]
    Unavailable(String),
    /// A record is no longer in the state that the update started from, or is there already.
    #[error("store: conflict: {0}")]
    Conflict(String),
    /// What is stored does not read as a record.
    #[error("store: corrupt: {0}")]
    Corrupt(String),
}
