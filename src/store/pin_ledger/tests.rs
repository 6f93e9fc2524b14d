use std::sync::atomic::{AtomicBool, Ordering};

use super::*;
use crate::store::SqliteStore;

/// Does what it is asked, and its answer may be lost, as where a connection breaks after the commit.
struct Deaf {
    inner: SqliteStore,
    /// Of the next call alone.
    loses_the_answer: AtomicBool,
    /// It does nothing at all.
    is_down: AtomicBool,
}

impl Deaf {
    async fn answer<T>(&self, call: Pending<'_, T>) -> Result<T, StoreError> {
        let lost = || StoreError::Unavailable("as if it were gone".into());
        if self.is_down.load(Ordering::SeqCst) {
            return Err(lost());
        }
        let answer = call.await;
        if self.loses_the_answer.swap(false, Ordering::SeqCst) { Err(lost()) } else { answer }
    }
}

impl LoginAttempts for Deaf {
    fn mark<'a>(&'a self, token: &'a str, source: &'a str, attempt: Attempt) -> Pending<'a, bool> {
        Box::pin(self.answer(self.inner.mark(token, source, attempt)))
    }

    fn settle<'a>(&'a self, token: &'a str, source: &'a str, attempt: Attempt, verdict: PinVerdict) -> Pending<'a, ()> {
        Box::pin(self.answer(self.inner.settle(token, source, attempt, verdict)))
    }
}

/// Two processes at one store.
async fn with_two(body: impl FnOnce(&Deaf, &StorePinLedger<Deaf>, &StorePinLedger<Deaf>) + Send + 'static) {
    let inner = SqliteStore::open("sqlite::memory:").await.unwrap();
    let store = Arc::new(Deaf { inner, loses_the_answer: false.into(), is_down: false.into() });
    let [here, other] = [(); 2].map(|()| StorePinLedger::new(store.clone(), Handle::current()));
    tokio::task::spawn_blocking(move || body(&store, &here, &other)).await.unwrap();
}

const TRIED: Result<(), PinLedgerRefusal> = Err(PinLedgerRefusal::AlreadyTried);

fn begin(ledger: &StorePinLedger<Deaf>) -> Result<(), PinLedgerRefusal> {
    ledger.begin("token", "source")
}

fn end(ledger: &StorePinLedger<Deaf>, verdict: PinVerdict) -> Result<(), StoreError> {
    ledger.end("token", "source", verdict)
}

#[tokio::test]
async fn a_marker_whose_answer_was_lost_is_not_taken_for_a_refused_pin() {
    with_two(|store, here, other| {
        store.loses_the_answer.store(true, Ordering::SeqCst);
        assert!(matches!(begin(here), Err(PinLedgerRefusal::Store(_))));
        assert_eq!(begin(other), TRIED, "another process can't know whose it is");
        assert_eq!(begin(here), Ok(()), "nobody tried it");
        assert_eq!(begin(here), TRIED, "and now it is being tried");
    })
    .await;
}

#[tokio::test]
async fn a_pin_that_was_accepted_is_good_though_the_store_heard_of_it_late() {
    with_two(|store, here, other| {
        for verdict in [PinVerdict::Accepted, PinVerdict::NotTried] {
            begin(here).unwrap();
            store.is_down.store(true, Ordering::SeqCst);
            end(here, verdict).unwrap_err();
            assert!(matches!(begin(here), Err(PinLedgerRefusal::Store(_))), "{verdict:?}: first it must be told");
            store.is_down.store(false, Ordering::SeqCst);
            assert_eq!(begin(other), TRIED);
            assert_eq!(begin(here), Ok(()), "{verdict:?}");
            end(here, PinVerdict::Accepted).unwrap();
        }
    })
    .await;
}

#[tokio::test]
async fn what_is_told_late_clears_no_marker_of_another_try() {
    with_two(|store, here, other| {
        for verdict in [PinVerdict::Accepted, PinVerdict::NotTried, PinVerdict::Unknown] {
            let source = format!("{verdict:?}");
            here.begin("token", &source).unwrap();
            here.end("token", &source, PinVerdict::Accepted).unwrap();
            here.begin("token", &source).unwrap();
            // Written, and the answer lost.
            store.loses_the_answer.store(true, Ordering::SeqCst);
            here.end("token", &source, verdict).unwrap_err();
            other.begin("token", &source).expect("the marker is cleared");
            assert_eq!(here.begin("token", &source), TRIED, "{source}: the other one is trying it");
            other.end("token", &source, PinVerdict::Refused).unwrap();
            assert_eq!(here.begin("token", &source), TRIED, "{source}: somebody changed the PIN on the token");
        }
    })
    .await;
}

#[tokio::test]
async fn a_refusal_that_could_not_be_told_stays_one() {
    with_two(|store, here, other| {
        begin(here).unwrap();
        store.is_down.store(true, Ordering::SeqCst);
        end(here, PinVerdict::Refused).unwrap_err();
        store.is_down.store(false, Ordering::SeqCst);
        assert_eq!([begin(here), begin(other), begin(here)], [TRIED, TRIED, TRIED]);
    })
    .await;
}
