//! What a walk over a chain finds, and what it can say of it in the end.

use std::{collections::BTreeMap, fmt};

use serde::Serialize;

use super::Place;
use crate::time::Timestamp;

/// One thing that is wrong with a chain, named by record.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub kind: Kind,
    pub instance: String,
    /// Where it was noticed.
    pub file: String,
    /// The records that it is about.
    pub first: u64,
    pub last: u64,
    pub text: String,
}

/// What was done to the log, as far as that can be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// Its bytes are not those that the next record names.
    Changed,
    /// Bytes stand between two records that follow each other.
    Inserted,
    /// Records are missing before others.
    Dropped,
    Duplicated,
    /// Records stand in another order.
    Swapped,
    /// Two different records have one number: the chain goes on twice.
    Fork,
    /// Records are missing at the end.
    Truncated,
    /// The file ends within a line, and no later file says that a crash did that.
    CutLine,
    /// The chain holds, but it is not the one that a checkpoint, or a head noted earlier, says.
    Rewritten,
    /// A checkpoint that proves nothing.
    BadCheckpoint,
}

impl Kind {
    /// Every kind once.
    pub const ALL: [Self; 10] = [
        Self::Changed,
        Self::Inserted,
        Self::Dropped,
        Self::Duplicated,
        Self::Swapped,
        Self::Fork,
        Self::Truncated,
        Self::CutLine,
        Self::Rewritten,
        Self::BadCheckpoint,
    ];

    /// The name in output.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Changed => "changed",
            Self::Inserted => "inserted",
            Self::Dropped => "dropped",
            Self::Duplicated => "duplicated",
            Self::Swapped => "swapped",
            Self::Fork => "fork",
            Self::Truncated => "truncated",
            Self::CutLine => "cut-line",
            Self::Rewritten => "rewritten",
            Self::BadCheckpoint => "bad-checkpoint",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a chain was found to be.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Verdict {
    pub instance: String,
    /// Records that stand in the chain.
    pub records: u64,
    /// The first one's number; 0 where there is none.
    pub first: u64,
    pub end: Option<Place>,
    /// When the last record was written.
    pub end_time: Option<Timestamp>,
    /// The last record that a checkpoint proves, and when that was signed.
    pub proven: Option<Proven>,
    pub checkpoints: u64,
    /// How many of each kind.
    pub events: BTreeMap<String, u64>,
    pub findings: Vec<Finding>,
    /// Findings beyond [`MOST_FINDINGS`].
    pub more_findings: u64,
    /// What is no edit, but worth knowing: what crashes and failing disks left.
    pub notes: Vec<String>,
}

/// Up to where a chain is proven.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Proven {
    pub place: Place,
    pub time: Timestamp,
    /// Whether the signature was checked, and not only the hash that it is over.
    pub signed: bool,
}

/// Findings and notes of one chain that are told one by one.
pub const MOST_FINDINGS: usize = 1000;

/// Keeps findings, for a bounded part of memory.
#[derive(Debug, Default)]
pub(super) struct Findings {
    list: Vec<Finding>,
    more: u64,
    notes: Vec<String>,
}

/// One that may still be put more precisely; `None` where it is only counted.
pub(super) type Handle = Option<usize>;

impl Findings {
    pub(super) fn add(&mut self, finding: Finding) -> Handle {
        if self.list.len() == MOST_FINDINGS {
            self.more += 1;
            return None;
        }
        self.list.push(finding);
        Some(self.list.len() - 1)
    }

    pub(super) fn amend(&mut self, handle: Handle, change: impl FnOnce(&mut Finding)) {
        if let Some(finding) = handle.and_then(|index| self.list.get_mut(index)) {
            change(finding);
        }
    }

    pub(super) fn note(&mut self, note: String) {
        if self.notes.len() < MOST_FINDINGS {
            self.notes.push(note);
        }
    }

    /// What says that `seq` is missing.
    pub(super) fn dropped(&self, seq: u64) -> Option<Handle> {
        let says = |finding: &Finding| finding.kind == Kind::Dropped && (finding.first..=finding.last).contains(&seq);
        self.list.iter().position(says).map(Some)
    }

    pub(super) fn into_verdict(self, verdict: Verdict) -> Verdict {
        Verdict { findings: self.list, more_findings: self.more, notes: self.notes, ..verdict }
    }
}
