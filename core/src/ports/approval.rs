//! Changes that wait for a second operator.

use std::time::Duration;

use super::{BegunChange, KeyChange, Pending};
use crate::time::Timestamp;

/// Proposals and what became of them. Every method is one transaction, and several replicas may ask at once.
pub trait ApprovalStore: Send + Sync + 'static {
    /// Keeps a change that waits, in state [`super::ChangeState::AwaitingApproval`], or finds the one that came with the
    /// same `request_id`, whatever its state: that one is left as it is.
    fn propose<'a>(&'a self, change: &'a KeyChange, proposal: &'a Proposal) -> Pending<'a, BegunChange>;

    /// The proposal of that change; `None` where there is none.
    fn proposed<'a>(&'a self, id: &'a str) -> Pending<'a, Option<Proposed>>;

    /// The last `most` of all, the newest first.
    fn all_proposed(&self, most: u32) -> Pending<'_, Vec<Proposed>>;

    /// Those that nobody has decided about, and that [`Self::expire`] has not ended: one whose time is over is
    /// [`super::ChangeState::Expired`] here.
    fn undecided(&self) -> Pending<'_, Vec<Proposed>>;

    /// Decides about a change. Of several that decide at once, one gets [`Decided::Taken`].
    fn decide<'a>(&'a self, id: &'a str, decision: &'a Decision) -> Pending<'a, Decided>;

    /// Ends for good a change whose time is over, by the store's clock. False where that has happened before, or it is
    /// not over, or it was decided, or there is none.
    fn expire<'a>(&'a self, id: &'a str) -> Pending<'a, bool>;
}

/// What is kept of a change that waits, beside the change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposal {
    /// All that it takes to carry it out: JSON, of the use cases.
    pub payload: String,
    /// What it was going to do when it was proposed, a sentence each.
    pub plan: Vec<String>,
    /// What tells the proposer's certificate from others; empty where there was none.
    pub credential: String,
    /// After how long it can't be approved any more.
    pub patience: Duration,
}

/// A change that waits, or waited.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposed {
    /// One whose time is over is [`super::ChangeState::Expired`], by the store's clock.
    pub change: KeyChange,
    pub payload: String,
    pub plan: Vec<String>,
    pub credential: String,
    pub expires: Timestamp,
    pub decision: Option<Decision>,
}

/// What a second operator says to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    pub approved: bool,
    pub by: String,
    pub reason: String,
}

/// What came of a decision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decided {
    /// It holds. An approved change is running now, and whoever gets this carries it out; so it is where one that was
    /// approved by the same operator before had failed, or its process ended half-way.
    Taken(Proposed),
    /// It was decided before, or its time was over: nothing has changed.
    Before(Proposed),
    /// There is no such change.
    Unknown,
}
