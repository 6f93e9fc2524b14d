//! The PIN ledger for threads that may block, over a store that answers later.

use std::{fmt, sync::Arc, sync::mpsc};

use hallmark_core::ports::{Pending, PinLedger, PinLedgerRefusal, PinVerdict, StoreError};
use tokio::runtime::Handle;

/// Login attempts as a store keeps them. Each method is one transaction, durable when it resolves.
pub trait LoginAttempts: Send + Sync + 'static {
    /// Marks `source` as tried on `token`. `false`: the marker was there already, and nothing was changed.
    fn mark<'a>(&'a self, token: &'a str, source: &'a str) -> Pending<'a, bool>;

    /// Records how the try ended, as [`PinLedger::end`] says.
    fn settle<'a>(&'a self, token: &'a str, source: &'a str, verdict: PinVerdict) -> Pending<'a, ()>;
}

/// A [`PinLedger`] for the threads that own HSM sessions: the store's work runs on the runtime, the caller blocks.
///
/// Not for a task of that runtime: on a single-threaded one it would wait for itself.
pub struct StorePinLedger<S: ?Sized> {
    store: Arc<S>,
    runtime: Handle,
}

impl<S: LoginAttempts + ?Sized> StorePinLedger<S> {
    /// `runtime` runs the store's queries while the calling thread, which must not be one of its own, waits.
    pub fn new(store: Arc<S>, runtime: Handle) -> Self {
        Self { store, runtime }
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
        answer.recv().unwrap_or_else(|_| Err(StoreError::Unavailable("going down".into())))
    }
}

impl<S: LoginAttempts + ?Sized> PinLedger for StorePinLedger<S> {
    fn begin(&self, token: &str, source: &str) -> Result<(), PinLedgerRefusal> {
        let (token, source) = (token.to_owned(), source.to_owned());
        let marked = self.wait(|store| async move { store.mark(&token, &source).await });
        match marked.map_err(PinLedgerRefusal::Store)? {
            true => Ok(()),
            false => Err(PinLedgerRefusal::AlreadyTried),
        }
    }

    fn end(&self, token: &str, source: &str, verdict: PinVerdict) -> Result<(), StoreError> {
        let (token, source) = (token.to_owned(), source.to_owned());
        self.wait(|store| async move { store.settle(&token, &source, verdict).await })
    }
}

impl<S: ?Sized> fmt::Debug for StorePinLedger<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StorePinLedger").finish_non_exhaustive()
    }
}
