//! What was found when an evidence file was checked.

use serde::Serialize;

use super::{attestation::Attestation, document::Document};
use crate::client::Custody;

/// What was found, in the order of the checks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Report {
    pub findings: Vec<Finding>,
    /// What is shown, whoever it is that shows it; `None` where it can't be read.
    pub document: Option<Document>,
    /// The best that is claimed or proven, if nothing failed.
    pub custody: Option<Custody>,
    /// Where that is proven by the HSM's maker.
    pub attestation: Option<Attestation>,
    /// Seconds since the Unix epoch.
    pub issued_at: Option<i64>,
}

/// One line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub standing: Standing,
    pub text: String,
}

/// How far a line can be relied on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Standing {
    /// By a signature or a comparison made here.
    Proven,
    /// By the HSM's module or by Hallmark, which whoever trusts the signature may believe.
    Claimed,
    /// For want of what it would be checked with.
    Unchecked,
    /// It does not hold.
    Failed,
}

impl Standing {
    /// As in text and JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Proven => "proven",
            Self::Claimed => "claimed",
            Self::Unchecked => "unchecked",
            Self::Failed => "failed",
        }
    }
}

impl Report {
    /// Whether nothing failed. What is unchecked or only claimed is no failure.
    pub fn holds(&self) -> bool {
        self.findings.iter().all(|finding| finding.standing != Standing::Failed)
    }

    pub(super) fn add(&mut self, standing: Standing, text: impl Into<String>) {
        self.findings.push(Finding { standing, text: text.into() });
    }
}
