use std::sync::atomic::{AtomicBool, Ordering};

use hallmark_core::ports::{KeyStore, Pending};
use tokio::sync::Notify;

use super::*;
use crate::service::fixture::{Rig, in_memory};

/// Holds back the next answer to `records`, once it was read, until told otherwise.
struct HeldStore {
    inner: Arc<dyn KeyStore>,
    hold: AtomicBool,
    held: Notify,
    release: Notify,
}

impl HeldStore {
    async fn new() -> Arc<Self> {
        let (inner, hold) = (in_memory().await, AtomicBool::new(false));
        Arc::new(Self { inner, hold, held: Notify::new(), release: Notify::new() })
    }
}

impl KeyStore for HeldStore {
    fn records(&self) -> Pending<'_, Vec<KeyRecord>> {
        Box::pin(async {
            let records = self.inner.records().await;
            if self.hold.swap(false, Ordering::SeqCst) {
                self.held.notify_one();
                self.release.notified().await;
            }
            records
        })
    }

    fn apply<'a>(&'a self, insert: &'a [KeyRecord], update: &'a [RecordUpdate]) -> Pending<'a, ()> {
        self.inner.apply(insert, update)
    }

    fn begin_change<'a>(&'a self, change: &'a KeyChange) -> Pending<'a, BegunChange> {
        self.inner.begin_change(change)
    }

    fn end_change<'a>(&'a self, id: &'a str, state: ChangeState, keys: &'a [KeyId]) -> Pending<'a, ()> {
        self.inner.end_change(id, state, keys)
    }

    fn ping(&self) -> Pending<'_, ()> {
        self.inner.ping()
    }
}

#[tokio::test]
async fn an_older_reading_never_replaces_a_newer_one() {
    let store = HeldStore::new().await;
    let rig = Rig::on(&["one"], store.clone()).await;
    store.hold.store(true, Ordering::SeqCst);
    let older = async { rig.keys.reload().await.unwrap() };
    let newer = async {
        store.held.notified().await;
        rig.keys.reserve(None, &"one".parse().unwrap(), Alg::ES256, Purpose::Custody).await.unwrap();
        let mut newer = Box::pin(rig.keys.reload());
        // As far as it gets while the older one is under way; the store is in memory.
        let early = tokio::time::timeout(std::time::Duration::from_millis(100), &mut newer).await;
        store.release.notify_one();
        match early {
            Ok(done) => done.unwrap(),
            Err(_) => newer.await.unwrap(),
        }
    };
    tokio::join!(older, newer);
    assert_eq!(rig.context.keyring.keys().records.len(), 1);
}
