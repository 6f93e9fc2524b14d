//! The PIN ledger for threads that may block, over a store that answers later, or not at all.
//!
//! Each try has a number, and the marker is that number: a store that took the marker, or how the try ended, and whose
//! answer was lost is asked again, and does not take our own marker for one of a PIN that was refused. That of another
//! process has another number, and is never touched.

use std::{
    collections::HashMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc},
    time::Duration,
};

use hallmark_core::ports::{Pending, PinLedger, PinLedgerRefusal, PinVerdict, StoreError};
use tokio::runtime::Handle;

/// Login attempts as a store keeps them. Each method is one transaction, durable when it resolves, and may be repeated
/// with the same number where its answer was lost.
pub trait LoginAttempts: Send + Sync + 'static {
    /// Marks `source` as tried on `token`, by try number `attempt`. `false`: the marker of another try was there already,
    /// and nothing was changed.
    fn mark<'a>(&'a self, token: &'a str, source: &'a str, attempt: Attempt) -> Pending<'a, bool>;

    /// Records how that try ended, as [`PinLedger::end`] says. Clears no marker but its own.
    fn settle<'a>(&'a self, token: &'a str, source: &'a str, attempt: Attempt, verdict: PinVerdict) -> Pending<'a, ()>;
}

/// The number of a try, which no other try has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attempt(i64);

impl Attempt {
    /// As it is stored. Not 0, which is no marker, nor 1, which is one without a number.
    pub fn number(self) -> i64 {
        self.0
    }

    pub(super) fn new() -> Result<Self, StoreError> {
        let mut bytes = [0; 8];
        let failed = |_| StoreError::Unavailable("the random generator failed".into());
        aws_lc_rs::rand::fill(&mut bytes).map_err(failed)?;
        Ok(Self(i64::from_ne_bytes(bytes).unsigned_abs().min(i64::MAX as u64).max(2) as i64))
    }
}

/// A [`PinLedger`] for the threads that own HSM sessions: the store's work runs on the runtime, the caller blocks.
///
/// Not for a task of that runtime: on a single-threaded one it would wait for itself.
pub struct StorePinLedger<S: ?Sized> {
    store: Arc<S>,
    runtime: Handle,
    /// Tries of this process that began and are not settled; one entry for each PIN at most.
    open: Mutex<HashMap<Of, Open>>,
}

/// Token and source.
type Of = (String, String);

#[derive(Clone, Copy)]
enum Open {
    /// Whether the store has the marker is not known; the PIN was not tried.
    Unsure(Attempt),
    Begun(Attempt),
    /// How it ended is known, and the store could not be told yet.
    Ended(Attempt, PinVerdict),
}

impl<S: LoginAttempts + ?Sized> StorePinLedger<S> {
    /// `runtime` runs the store's queries while the calling thread, which must not be one of its own, waits.
    pub fn new(store: Arc<S>, runtime: Handle) -> Self {
        Self { store, runtime, open: Mutex::default() }
    }

    fn wait<T, F>(&self, work: impl FnOnce(Arc<S>) -> F) -> Result<T, StoreError>
    where
        T: Send + 'static,
        F: Future<Output = Result<T, StoreError>> + Send + 'static,
    {
        let (reply, answer) = mpsc::sync_channel(1);
        let work = work(Arc::clone(&self.store));
        // Not `Handle::block_on`: that panics once the runtime goes down, while the HSM's threads still live.
        self.runtime.spawn(async move {
            // A receiver that is gone no longer wants the answer.
            let _ = reply.send(work.await);
        });
        answer.recv_timeout(PATIENCE).unwrap_or_else(|error| {
            let why = match error {
                mpsc::RecvTimeoutError::Disconnected => "going down".to_owned(),
                mpsc::RecvTimeoutError::Timeout => format!("no answer in {PATIENCE:?}"),
            };
            Err(StoreError::Unavailable(why))
        })
    }

    fn mark(&self, (token, source): Of, attempt: Attempt) -> Result<bool, StoreError> {
        self.wait(|store| async move { store.mark(&token, &source, attempt).await })
    }

    fn settle(&self, (token, source): Of, attempt: Attempt, verdict: PinVerdict) -> Result<(), StoreError> {
        self.wait(|store| async move { store.settle(&token, &source, attempt, verdict).await })
    }

    fn open(&self) -> MutexGuard<'_, HashMap<Of, Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The number for the next try: a new one, unless it is not known whether the store took the last one.
    fn next(&self, of: &Of) -> Result<Attempt, PinLedgerRefusal> {
        let known = self.open().get(of).copied();
        match known {
            None => {}
            Some(Open::Unsure(attempt)) => return Ok(attempt),
            // Nobody said how it ended, and nobody may: its thread may have died of it.
            Some(Open::Begun(_)) => return Err(PinLedgerRefusal::AlreadyTried),
            Some(Open::Ended(attempt, verdict)) => {
                self.settle(of.clone(), attempt, verdict).map_err(PinLedgerRefusal::Store)?;
                self.open().remove(of);
            }
        }
        Attempt::new().map_err(PinLedgerRefusal::Store)
    }
}

impl<S: LoginAttempts + ?Sized> PinLedger for StorePinLedger<S> {
    fn begin(&self, token: &str, source: &str) -> Result<(), PinLedgerRefusal> {
        let of = (token.to_owned(), source.to_owned());
        let attempt = self.next(&of)?;
        match self.mark(of.clone(), attempt) {
            Ok(true) => {
                self.open().insert(of, Open::Begun(attempt));
                Ok(())
            }
            Ok(false) => Err(PinLedgerRefusal::AlreadyTried),
            Err(error) => {
                self.open().insert(of, Open::Unsure(attempt));
                Err(PinLedgerRefusal::Store(error))
            }
        }
    }

    fn end(&self, token: &str, source: &str, verdict: PinVerdict) -> Result<(), StoreError> {
        let of = (token.to_owned(), source.to_owned());
        let attempt = match self.open().remove(&of) {
            Some(Open::Unsure(attempt) | Open::Begun(attempt) | Open::Ended(attempt, _)) => attempt,
            // Who ends what did not begin has no marker to clear.
            None => Attempt::new()?,
        };
        let settled = self.settle(of.clone(), attempt, verdict);
        if settled.is_err() {
            self.open().insert(of, Open::Ended(attempt, verdict));
        }
        settled
    }
}

impl<S: ?Sized> fmt::Debug for StorePinLedger<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StorePinLedger").finish_non_exhaustive()
    }
}

/// For one answer of the store: longer than any of its own limits. A disk may hang, and the thread that waits must not count
/// as one that is stuck inside an HSM's library.
const PATIENCE: Duration = Duration::from_secs(20);

#[cfg(test)]
mod tests;
