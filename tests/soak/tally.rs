//! What was seen: signatures, verdicts, keys, gaps.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    sync::Mutex,
    time::{Duration, Instant},
};

use super::clock::faked;

/// Shared by all callers.
pub(super) struct Tally {
    began: Instant,
    seen: Mutex<Seen>,
}

#[derive(Clone, Default)]
pub(super) struct Seen {
    pub(super) signatures: u64,
    /// By when it was shown: at once, or shortly before it expired.
    pub(super) accepted: BTreeMap<&'static str, u64>,
    pub(super) refused: Vec<String>,
    /// How often a verifier could not fetch the key set, and was asked again.
    pub(super) unreachable: u64,
    /// What this test itself showed too late.
    pub(super) expired: u64,
    /// Signing that failed, by reason.
    pub(super) failures: BTreeMap<String, u64>,
    /// Kids by client, as they signed.
    pub(super) signers: BTreeMap<String, BTreeSet<String>>,
    pub(super) retired: u64,
    pub(super) longest_gap: Gap,
    last_signed: BTreeMap<String, Duration>,
    events: Vec<(Duration, String)>,
}

/// For how long one client got no signature, in real time.
#[derive(Clone, Debug, Default)]
pub(super) struct Gap {
    pub(super) length: Duration,
    client: String,
    until: Duration,
    after: Option<String>,
}

impl Tally {
    pub(super) fn new() -> Self {
        Self { began: Instant::now(), seen: Mutex::default() }
    }

    pub(super) fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    pub(super) fn signed(&self, client: &str, kid: &str) {
        let now = self.elapsed();
        self.note(|seen| {
            seen.signatures += 1;
            seen.signers.entry(client.to_owned()).or_default().insert(kid.to_owned());
            let before = seen.last_signed.insert(client.to_owned(), now);
            seen.note_gap(client, before.unwrap_or(now), now);
        });
    }

    /// What was done to the servers.
    pub(super) fn event(&self, what: &str) {
        let now = self.elapsed();
        eprintln!("{:>4} s  {what}", now.as_secs());
        self.note(|seen| seen.events.push((now, what.to_owned())));
    }

    pub(super) fn refused(&self, report: String) {
        self.note(|seen| {
            if seen.refused.len() < SHOWN {
                eprintln!("REFUSED {report}");
            }
            seen.refused.push(report);
        });
    }

    pub(super) fn note<T>(&self, change: impl FnOnce(&mut Seen) -> T) -> T {
        change(&mut self.seen.lock().unwrap())
    }

    pub(super) fn so_far(&self) -> Seen {
        self.note(|seen| seen.clone())
    }
}

impl Seen {
    /// How often a line's signatures went on under another key.
    pub(super) fn rotations(&self) -> usize {
        self.signers.values().map(|kids| kids.len().saturating_sub(1)).sum()
    }

    fn note_gap(&mut self, client: &str, since: Duration, until: Duration) {
        let length = until.saturating_sub(since);
        if length > self.longest_gap.length {
            let causes = self.events.iter().rev().find(|(at, _)| *at <= until && *at + AFTERMATH >= since);
            let after = causes.map(|(_, what)| what.clone());
            self.longest_gap = Gap { length, client: client.to_owned(), until, after };
        }
    }
}

impl fmt::Display for Gap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { length, client, until, after } = self;
        write!(f, "{length:.1?} ({:.0?} faked), client `{client}`, until {:.0?}", faked(*length), until)?;
        after.as_ref().map_or(Ok(()), |after| write!(f, ", after: {after}"))
    }
}

/// The first refusals tell the most.
const SHOWN: usize = 20;
/// For so long a gap is put down to what was done before, in real time.
const AFTERMATH: Duration = Duration::from_secs(10);

/// One line while it runs.
impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let accepted: u64 = self.accepted.values().sum();
        let failures: u64 = self.failures.values().sum();
        write!(
            f,
            "{} rotations, {} keys retired, {} signatures, {accepted} accepted, {} refused, {failures} calls failed",
            self.rotations(),
            self.retired,
            self.signatures,
            self.refused.len()
        )
    }
}
