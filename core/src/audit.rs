//! What the audit log records, and the hash chain that ties its lines together.
//!
//! One JSON object a line:
//!
//! ```text
//! {"seq":7,"prev":"<base64url SHA-256 of line 6>","instance":"a","time":…, …the event…}
//! ```
//!
//! `prev` covers the bytes of the line before, without its newline; the first line has the hash of the instance's name.
//! Whoever changes, drops, repeats or reorders a line breaks the chain at that place; [`walk`] says where, and how. Whoever
//! makes all lines behind it anew, or cuts off the end, comes into conflict with a [`checkpoint`], which an HSM signed.

use aws_lc_rs::digest;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use serde::{Deserialize, Serialize};

use crate::time::Timestamp;

pub mod checkpoint;
pub mod finding;
pub mod line;
pub mod walk;

/// What happened. Never holds an assertion.
#[derive(Clone, Debug, Serialize)]
#[serde(tag = "event", rename_all = "kebab-case")]
pub enum Event<'a> {
    /// The process started to write this chain.
    Start { version: &'a str },
    /// About to ask the HSM for a signature.
    SignIntent(Signing<'a>),
    /// How it ended.
    SignOutcome {
        request: &'a str,
        outcome: Outcome,
        #[serde(skip_serializing_if = "Option::is_none")]
        reason: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        jti: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        iat: Option<i64>,
        #[serde(skip_serializing_if = "Option::is_none")]
        exp: Option<i64>,
    },
    /// About to change keys.
    KeyIntent(KeyEvent<'a>),
    /// How it ended.
    KeyOutcome {
        #[serde(flatten)]
        key: KeyEvent<'a>,
        outcome: Outcome,
    },
    /// A request that policy refused.
    Refused { request: &'a str, who: &'a str, client: &'a str, reason: &'a str },
    /// Refusals beyond the bounded rate, as a number.
    RefusedMore { count: u64 },
    /// An earlier file ends in bytes that continue no chain, as a crash leaves them. They stay where they are.
    TornTail { file: &'a str, bytes: u64 },
    /// Writing to an earlier file failed: its lines after `after` are void. What they recorded follows anew.
    FileAbandoned { file: &'a str, after: u64, cause: &'a str },
    /// The file before was long enough; its last record is `after`.
    Rotated { file: &'a str, after: u64 },
    /// An HSM signed the head of this chain: `jws` says which. See [`checkpoint`].
    Checkpoint {
        hsm: &'a str,
        why: &'a str,
        /// For how long it was due, with no HSM to sign it, in milliseconds.
        #[serde(skip_serializing_if = "Option::is_none")]
        overdue: Option<u64>,
        jws: &'a str,
    },
}

/// The names, and which event has which, from one table: the compiler refuses an event that is not in it.
macro_rules! names {
    ($($event:ident => $name:literal,)+) => {
        /// What `event` of a record can be, each once.
        pub const NAMES: &'static [&'static str] = &[$($name),+];

        /// The member `event` of its record.
        pub fn name(&self) -> &'static str {
            match self {
                $(Self::$event { .. } => $name,)+
            }
        }
    };
}

impl Event<'_> {
    names! {
        Start => "start",
        SignIntent => "sign-intent",
        SignOutcome => "sign-outcome",
        KeyIntent => "key-intent",
        KeyOutcome => "key-outcome",
        Refused => "refused",
        RefusedMore => "refused-more",
        TornTail => "torn-tail",
        FileAbandoned => "file-abandoned",
        Rotated => "rotated",
        Checkpoint => "checkpoint",
    }
}

/// One signature that is about to be made.
#[derive(Clone, Debug, Serialize)]
pub struct Signing<'a> {
    /// Ties the outcome to the intent.
    pub request: &'a str,
    pub who: &'a str,
    pub client: &'a str,
    pub kid: &'a str,
    pub alg: &'a str,
    pub kind: &'a str,
    pub audience: &'a str,
}

/// One step of a key change.
#[derive(Clone, Debug, Serialize)]
pub struct KeyEvent<'a> {
    pub change: &'a str,
    pub who: &'a str,
    pub action: &'a str,
    pub subject: &'a str,
    pub reason: &'a str,
}

/// How what was intended ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    Done,
    Failed,
}

/// An event as JSON, without the members that tie it into the chain. Encoding is the caller's work, so that many
/// threads share it; [`Chain::link`] is all that must happen in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncodedEvent {
    json: String,
    /// Whether a signing begins or ends with it: a log that knows what is under way knows how much will follow soon.
    pub signing: Option<Phase>,
    /// What it means for checkpoints.
    pub mark: Option<Mark>,
}

/// What an event means for checkpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// A key was changed: the next checkpoint is due.
    KeyChange,
    Checkpoint,
}

/// What an event means for the signing that it is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    Begins,
    Ends,
}

impl EncodedEvent {
    /// Encodes all but the place in the chain, which the writer adds.
    #[expect(clippy::unwrap_used, reason = "`Unwrap safety` below")]
    pub fn new(time: Timestamp, event: &Event<'_>) -> Self {
        #[derive(Serialize)]
        struct Stamped<'a> {
            time: Timestamp,
            #[serde(flatten)]
            event: &'a Event<'a>,
        }
        let signing = match event {
            Event::SignIntent(_) => Some(Phase::Begins),
            Event::SignOutcome { .. } => Some(Phase::Ends),
            _ => None,
        };
        let mark = match event {
            Event::KeyOutcome { .. } => Some(Mark::KeyChange),
            Event::Checkpoint { .. } => Some(Mark::Checkpoint),
            _ => None,
        };
        // Unwrap safety: strings and integers only; such a value always has a JSON form.
        Self { json: serde_json::to_string(&Stamped { time, event }).unwrap(), signing, mark }
    }
}

/// The head of a chain: what the next line must say of the one before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    instance: String,
    seq: u64,
    prev: String,
    checkpoint: Option<Place>,
}

/// One record, by its number and the hash of its line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    pub seq: u64,
    pub hash: String,
}

impl Chain {
    /// A chain without lines.
    pub fn new(instance: &str) -> Self {
        Self { instance: instance.to_owned(), seq: 0, prev: origin(instance), checkpoint: None }
    }

    /// The chain after its last line, as read from a file.
    pub fn after(instance: &str, last_line: &str) -> Option<Self> {
        let line = line::Line::parse(last_line.as_bytes())?;
        Some(Self { instance: instance.to_owned(), ..Self::at(&line, last_line) })
    }

    /// The chain after `line`, if that is the next line of this one.
    pub fn follow(&self, line: &str) -> Option<Self> {
        let parsed = line::Line::parse(line.as_bytes())?;
        let continues =
            parsed.seq == self.seq.checked_add(1)? && parsed.prev == self.prev && parsed.instance == self.instance;
        let next = Self::at(&parsed, line);
        let checkpoint = next.checkpoint.or_else(|| self.checkpoint.clone());
        continues.then_some(Self { checkpoint, ..next })
    }

    fn at(parsed: &line::Line<'_>, line: &str) -> Self {
        let (instance, seq, prev) = (parsed.instance.to_string(), parsed.seq, hash(line.as_bytes()));
        let checkpoint = parsed.is_checkpoint().then(|| Place { seq, hash: prev.clone() });
        Self { instance, seq, prev, checkpoint }
    }

    /// The same chain, which had its last checkpoint there.
    #[must_use]
    pub fn with_checkpoint(self, checkpoint: Option<Place>) -> Self {
        Self { checkpoint: self.checkpoint.or(checkpoint), ..self }
    }

    /// Appends the next line to `out`, with its newline.
    pub fn link(&mut self, event: &EncodedEvent, out: &mut Vec<u8>) {
        self.seq += 1;
        let start = out.len();
        let instance = serde_json::Value::from(self.instance.as_str());
        let head = format!(r#"{{"seq":{},"prev":"{}","instance":{instance},"#, self.seq, self.prev);
        out.extend_from_slice(head.as_bytes());
        out.extend_from_slice(&event.json.as_bytes()[1..]);
        self.prev = hash(&out[start..]);
        if event.mark == Some(Mark::Checkpoint) {
            self.checkpoint = Some(self.place());
        }
        out.push(b'\n');
    }

    /// The last record and its hash; before the first, what that one names as its predecessor.
    pub fn place(&self) -> Place {
        Place { seq: self.seq, hash: self.prev.clone() }
    }

    /// The last checkpoint's record, where it is known.
    pub fn checkpoint(&self) -> Option<&Place> {
        self.checkpoint.as_ref()
    }

    /// Whose chain it is.
    pub fn instance(&self) -> &str {
        &self.instance
    }

    /// The number of the last line; 0 before the first.
    pub fn seq(&self) -> u64 {
        self.seq
    }
}

/// What the first line of a chain names as its predecessor.
fn origin(instance: &str) -> String {
    hash(format!("hallmark-audit-v1\0{instance}").as_bytes())
}

fn hash(bytes: &[u8]) -> String {
    URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(n: i64) -> EncodedEvent {
        EncodedEvent::new(Timestamp::from_millis(n), &Event::RefusedMore { count: 1 })
    }

    #[test]
    fn lines_are_json_and_name_the_line_before() {
        let mut chain = Chain::new("a\"b");
        let mut out = Vec::new();
        chain.link(&event(1), &mut out);
        chain.link(&event(2), &mut out);
        let text = String::from_utf8(out).unwrap();
        let lines: Vec<_> = text.lines().collect();
        let second: serde_json::Value = serde_json::from_str(lines[1]).unwrap();
        assert_eq!(second["seq"], 2);
        assert_eq!(second["prev"], hash(lines[0].as_bytes()));
        assert_eq!(second["instance"], "a\"b");
        assert_eq!(second["event"], "refused-more");
    }

    /// Who asks for one kind of record must find what was written, and programs go by the name.
    #[test]
    fn every_event_is_written_under_its_name() {
        let (file, why) = ("f", "w");
        let signing =
            Signing { request: "r", who: "w", client: "c", kid: "k", alg: "a", kind: "assertion", audience: "x" };
        let key = KeyEvent { change: "c", who: "w", action: "a", subject: "s", reason: "r" };
        let ended =
            Event::SignOutcome { request: "r", outcome: Outcome::Done, reason: None, jti: None, iat: None, exp: None };
        let events = [
            Event::Start { version: "1" },
            Event::SignIntent(signing),
            ended,
            Event::KeyIntent(key.clone()),
            Event::KeyOutcome { key, outcome: Outcome::Done },
            Event::Refused { request: "r", who: "w", client: "c", reason: "x" },
            Event::RefusedMore { count: 1 },
            Event::TornTail { file, bytes: 1 },
            Event::FileAbandoned { file, after: 1, cause: "c" },
            Event::Rotated { file, after: 1 },
            Event::Checkpoint { hsm: "h", why, overdue: None, jws: "j" },
        ];
        let written = |event| serde_json::to_value(event).unwrap()["event"].as_str().unwrap().to_owned();
        assert_eq!(events.iter().map(written).collect::<Vec<_>>(), Event::NAMES);
        assert!(events.iter().all(|event| event.name() == written(event)));
    }

    #[test]
    fn a_chain_goes_on_after_its_last_line() {
        let mut chain = Chain::new("a");
        let mut out = Vec::new();
        chain.link(&event(1), &mut out);
        let text = String::from_utf8(out).unwrap();
        assert_eq!(Chain::after("a", text.trim_end()).unwrap(), chain);
        assert_eq!(Chain::after("a", "{\"seq\":1"), None);
    }

    #[test]
    fn only_the_next_line_of_the_same_chain_follows() {
        let start = Chain::new("a");
        let (mut chain, mut out) = (start.clone(), Vec::new());
        chain.link(&event(1), &mut out);
        chain.link(&event(2), &mut out);
        let text = String::from_utf8(out).unwrap();
        let (first, second) = text.trim_end().split_once('\n').unwrap();
        assert_eq!(start.follow(first).unwrap().follow(second).unwrap(), chain);
        assert_eq!(start.follow(second), None);
        assert_eq!(start.follow(first).unwrap().follow(first), None);
        assert_eq!(start.follow(&first.replace("\"time\":1", "\"time\":3")).unwrap().follow(second), None);
        assert_eq!(Chain::new("b").follow(first), None);
    }
}
