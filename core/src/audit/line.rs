//! One line of a log, as far as the chain and its readers look at it.

use std::borrow::Cow;

use serde::Deserialize;

/// What ties a line into its chain, and what some events say of files. What else is in it is the reader's matter.
#[derive(Debug, Deserialize)]
pub struct Line<'a> {
    pub seq: u64,
    #[serde(borrow)]
    pub prev: Cow<'a, str>,
    #[serde(borrow)]
    pub instance: Cow<'a, str>,
    /// Milliseconds since 1970.
    #[serde(default)]
    pub time: i64,
    #[serde(borrow)]
    pub event: Cow<'a, str>,
    #[serde(borrow, default)]
    file: Option<Cow<'a, str>>,
    #[serde(default)]
    bytes: Option<u64>,
    #[serde(default)]
    after: Option<u64>,
    #[serde(borrow, default)]
    jws: Option<Cow<'a, str>>,
}

/// What the first records of a file say of the files before it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Opening {
    /// A crash left so many bytes at the end of `file` that are no record.
    Torn { file: String, bytes: u64 },
    /// Writing failed: the records of `file` after that one are void.
    Abandoned { file: String, after: u64 },
    /// The process started, or the file before was long enough.
    Begins,
}

impl<'a> Line<'a> {
    /// `None` where it is no record of an audit log. `bytes`: without the newline.
    pub fn parse(bytes: &'a [u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok().filter(|line: &Self| (1..=LAST).contains(&line.seq))
    }

    /// Whether it says that an HSM signed the chain's head.
    pub fn is_checkpoint(&self) -> bool {
        self.event == "checkpoint"
    }

    /// The signature of a checkpoint.
    pub fn jws(&self) -> Option<&str> {
        self.jws.as_deref().filter(|_| self.is_checkpoint())
    }

    /// What it says of the files before; `None` for all that is not said at the beginning of a file.
    pub fn opening(&self) -> Option<Opening> {
        let file = || self.file.as_deref().map(str::to_owned);
        match &*self.event {
            "torn-tail" => Some(Opening::Torn { file: file()?, bytes: self.bytes? }),
            "file-abandoned" => Some(Opening::Abandoned { file: file()?, after: self.after? }),
            "start" | "rotated" => Some(Opening::Begins),
            _ => None,
        }
    }
}

/// The highest number that a record can have: what JSON can carry everywhere (RFC 7493 §2.2), and more than will ever be
/// written. So whoever made a log up can't have its readers count past the end.
const LAST: u64 = (1 << 53) - 1;
