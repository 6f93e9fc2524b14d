//! How far reading has come, and how fast it went.

use std::{
    io::{self, IsTerminal},
    time::{Duration, Instant},
};

/// How fast it went.
#[derive(Default)]
pub(super) struct Rate {
    records: u64,
    bytes: u64,
    took: Duration,
}

impl Rate {
    /// One line, or nothing where nothing was read.
    pub(super) fn text(&self) -> String {
        let secs = self.took.as_secs_f64();
        if self.records == 0 || secs == 0.0 {
            return String::new();
        }
        let (per_second, mib) = (self.records as f64 / secs, self.bytes as f64 / f64::from(1 << 20));
        format!("{} records, {mib:.1} MiB in {secs:.2} s: {per_second:.0} records a second\n", self.records)
    }
}

/// A line on the terminal, while people wait.
pub(super) struct Progress {
    total: u64,
    done: u64,
    unseen: u64,
    started: Instant,
    shown: Option<Instant>,
    is_shown: bool,
}

impl Progress {
    /// `total`: what there is to read, in bytes. Shown on a terminal alone.
    pub(super) fn new(total: u64, shown: bool) -> Self {
        let now = Instant::now();
        let is_shown = shown && io::stderr().is_terminal();
        Self { total, done: 0, unseen: 0, started: now, shown: is_shown.then_some(now), is_shown: false }
    }

    /// So many bytes were read.
    pub(super) fn add(&mut self, bytes: u64) {
        self.done += bytes;
        self.unseen += bytes;
        if self.unseen < STEP {
            return;
        }
        self.unseen = 0;
        if let Some(shown) = self.shown.filter(|shown| shown.elapsed() > Duration::from_millis(200)) {
            let percent = self.done.min(self.total) * 100 / self.total.max(1);
            eprint!("\r{percent:3} % of {} MiB", self.total >> 20);
            (self.shown, self.is_shown) = (Some(shown + shown.elapsed()), true);
        }
    }

    /// Takes the line away.
    pub(super) fn end(self, records: u64) -> Rate {
        if self.is_shown {
            eprint!("\r\u{1b}[K");
        }
        Rate { records, bytes: self.done, took: self.started.elapsed() }
    }
}

/// How often the clock is looked at, in bytes.
const STEP: u64 = 1 << 18;
