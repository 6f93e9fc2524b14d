//! What `serve --role jwks` publishes: the documents of a process that manages keys, in one that does not.
//!
//! [`signer`] follows a server over gRPC and keeps the last set on the disk ([`disk`]); [`store`] reads the records
//! themselves, with the last set on the disk too ([`kept`]). Both feed a [`crate::service::publish::Publisher`], and say in [`Standing`] how it stands.

use std::{
    sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
    time::Duration,
};

use hallmark_core::time::Timestamp;

use crate::telemetry::metrics::SourceFigures;

pub mod disk;
pub mod kept;
pub mod signer;
pub mod store;

/// How it stands with the source.
#[derive(Debug)]
pub struct Standing {
    max_stale: Duration,
    connected: AtomicBool,
    /// Milliseconds since 1970; `i64::MIN`: never.
    heard: AtomicI64,
    save_failures: AtomicU64,
    alarmed: AtomicBool,
}

impl Standing {
    /// Not heard from yet. After `max_stale` without a word there is an alarm.
    pub fn new(max_stale: Duration) -> Self {
        Self {
            max_stale,
            connected: AtomicBool::new(false),
            heard: AtomicI64::new(i64::MIN),
            save_failures: AtomicU64::new(0),
            alarmed: AtomicBool::new(false),
        }
    }

    /// For a scrape.
    pub fn figures(&self, now: Timestamp) -> SourceFigures {
        SourceFigures {
            connected: self.connected.load(Ordering::Relaxed),
            silent: self.silent(now),
            stale: self.is_stale(now),
            save_failures: self.save_failures.load(Ordering::Relaxed),
        }
    }

    /// Raises the alarm, and takes it back: once each.
    pub fn watch_age(&self, now: Timestamp) {
        let stale = self.is_stale(now);
        if self.alarmed.swap(stale, Ordering::Relaxed) == stale {
            return;
        }
        if stale {
            let silent_s = self.silent(now).as_secs();
            tracing::error!(
                silent_s,
                "the key sets are older than `max_stale`; they are still served\nhint: see why the source can't be reached, in the log above"
            );
        } else {
            tracing::info!("the key sets are fresh again");
        }
    }

    fn heard_at(&self, at: Timestamp) {
        self.heard.store(at.millis(), Ordering::Relaxed);
    }

    fn connected(&self, connected: bool) {
        self.connected.store(connected, Ordering::Relaxed);
    }

    fn save_failed(&self) {
        self.save_failures.fetch_add(1, Ordering::Relaxed);
    }

    /// Zero where there is nothing to be old yet.
    fn silent(&self, now: Timestamp) -> Duration {
        match self.heard.load(Ordering::Relaxed) {
            i64::MIN => Duration::ZERO,
            heard => now.since(Timestamp::from_millis(heard)),
        }
    }

    fn is_stale(&self, now: Timestamp) -> bool {
        self.silent(now) > self.max_stale
    }
}
