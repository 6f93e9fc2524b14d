//! A PIN ledger that forgets when it is dropped, for tests of those who use one.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use hallmark_core::ports::{PinLedger, PinLedgerRefusal, PinVerdict, StoreError};

/// Keeps the contract of [`PinLedger`], and counts.
#[derive(Debug, Default)]
pub struct MemoryPinLedger(Mutex<HashMap<(String, String), Entry>>);

#[derive(Debug, Default)]
struct Entry {
    marked: bool,
    accepted_before: bool,
    begun: usize,
    ended: usize,
}

impl MemoryPinLedger {
    /// How many tries there were, whatever their source. One that was refused here and made all the same counts too.
    pub fn tries(&self) -> usize {
        self.with(|entries| entries.values().map(|entry| entry.begun.max(entry.ended)).sum())
    }

    fn with<T>(&self, f: impl FnOnce(&mut HashMap<(String, String), Entry>) -> T) -> T {
        f(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl PinLedger for MemoryPinLedger {
    fn begin(&self, token: &str, source: &str) -> Result<(), PinLedgerRefusal> {
        self.with(|entries| {
            let entry = entries.entry((token.to_owned(), source.to_owned())).or_default();
            if entry.marked {
                return Err(PinLedgerRefusal::AlreadyTried);
            }
            entry.marked = true;
            entry.begun += 1;
            Ok(())
        })
    }

    fn end(&self, token: &str, source: &str, verdict: PinVerdict) -> Result<(), StoreError> {
        self.with(|entries| {
            let entry = entries.entry((token.to_owned(), source.to_owned())).or_default();
            entry.ended += 1;
            match verdict {
                PinVerdict::Accepted => (entry.marked, entry.accepted_before) = (false, true),
                PinVerdict::Refused => entry.accepted_before = false,
                PinVerdict::Unknown => (entry.marked, entry.accepted_before) = (!entry.accepted_before, false),
                PinVerdict::NotTried => entry.marked = false,
            }
            Ok(())
        })
    }
}
