use std::sync::atomic::{AtomicBool, Ordering};

use hallmark_core::{
    key::{Alg, KeyId, KeyState},
    ports::{
        BegunChange, ChangeState, FaultClass, KeyStore, Pending, Pulse, RecordUpdate, RegistrationResult, Snapshot,
    },
};
use hallmark_testkit::fake_hsm::Call;
use tokio::sync::Notify;

use super::*;
use crate::service::fixture::{Rig, caller, in_memory};

/// Holds back the next answer to `records`, once it was read, until told otherwise.
struct HeldStore {
    inner: Arc<dyn KeyStore>,
    hold: AtomicBool,
    /// The ends of changes are not written.
    lose_end: AtomicBool,
    held: Notify,
    release: Notify,
}

impl HeldStore {
    async fn new() -> Arc<Self> {
        let (inner, hold, lose_end) = (in_memory().await, false.into(), false.into());
        Arc::new(Self { inner, hold, lose_end, held: Notify::new(), release: Notify::new() })
    }
}

impl KeyStore for HeldStore {
    fn records(&self) -> Pending<'_, Snapshot> {
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
        if state != ChangeState::Running && self.lose_end.swap(false, Ordering::SeqCst) {
            return Box::pin(async { Err(StoreError::Unavailable("as if the process had died".into())) });
        }
        self.inner.end_change(id, state, keys)
    }

    fn record_registration<'a>(&'a self, result: &'a RegistrationResult, before: Option<&'a str>) -> Pending<'a, ()> {
        self.inner.record_registration(result, before)
    }

    fn pulse(&self) -> Pending<'_, Pulse> {
        self.inner.pulse()
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
        rig.keys.reserve_custody(&"one".parse().unwrap(), Alg::ES256).await.unwrap();
        let mut newer = Box::pin(rig.keys.reload());
        // As far as it gets while the older one is under way; the store is in memory.
        let early = tokio::time::timeout(Duration::from_millis(100), &mut newer).await;
        store.release.notify_one();
        match early {
            Ok(done) => done.unwrap(),
            Err(_) => newer.await.unwrap(),
        }
    };
    tokio::join!(older, newer);
    assert_eq!(rig.context.keyring.keys().records.len(), 1);
}

#[tokio::test]
async fn a_change_that_failed_half_way_goes_on_and_counts_what_it_had_made() {
    let rig = Rig::new().await;
    // The second line's first key.
    rig.token("one").fail_after(Call::Generate, 2, FaultClass::Request);
    let failed = rig.keys.create(&caller("dns:o.example"), rig.create("r1")).await.unwrap_err();
    assert_eq!(failed.reason, Reason::HsmRefused);
    let changed = rig.keys.create(&caller("dns:p.example"), rig.create("r1")).await.unwrap();
    let lived = |state| changed.keys.iter().filter(|key| key.state == state && key.times.published.is_some()).count();
    assert_eq!((lived(KeyState::Active), lived(KeyState::PreActive)), (2, 2));
    assert_eq!(rig.context.keyring.keys().records.len(), 4, "nothing was reserved twice");
    let whos = rig.audit.all("key-intent", "who");
    assert_eq!(whos.last().map(String::as_str), Some("dns:p.example"), "who asked now is the one on record");
    let again = rig.keys.create(&caller("dns:o.example"), rig.create("r1")).await.unwrap();
    assert_eq!((again.change.id, again.keys.len()), (changed.change.id, 4));
}

#[tokio::test]
async fn a_change_whose_end_was_not_written_is_done_all_the_same() {
    let store = HeldStore::new().await;
    let rig = Rig::on(&["one"], store.clone()).await;
    store.lose_end.store(true, Ordering::SeqCst);
    rig.keys.create(&caller("dns:o.example"), rig.create("r1")).await.unwrap_err();
    let changed = rig.keys.create(&caller("dns:o.example"), rig.create("r1")).await.unwrap();
    assert_eq!(changed.keys.len(), 4);
    let other = rig.keys.create(&caller("dns:o.example"), rig.create("r2")).await.unwrap_err();
    assert_eq!(other.reason, Reason::AlreadyExists, "another request does not get the keys of the first");
}

#[tokio::test]
async fn a_key_that_can_leave_the_token_is_never_used() {
    let rig = Rig::new().await;
    rig.token("one").set_leaky(true);
    let refused = rig.keys.create(&caller("dns:o.example"), rig.create("r1")).await.unwrap_err();
    assert_eq!(refused.reason, Reason::CustodyTooWeak);
    let refused = rig.keys.ensure_custody_key(&"one".parse().unwrap()).await.unwrap_err();
    assert_eq!(refused.reason, Reason::CustodyTooWeak);
    let keys = rig.context.keyring.keys();
    assert!(keys.records.iter().all(|key| key.times.published.is_none() && key.state == KeyState::PreActive));
}

#[tokio::test]
async fn a_custody_key_keeps_the_algorithm_that_it_was_reserved_with() {
    let rig = Rig::new().await;
    let hsm: HsmName = "one".parse().unwrap();
    let reserved = rig.keys.reserve_custody(&hsm, Alg::ES384).await.unwrap();
    rig.keys.ensure_custody_key(&hsm).await.unwrap();
    let keys = rig.context.keyring.keys();
    assert_eq!(keys.custody(&hsm).map(|key| (key.id, key.alg)), Some((reserved.id, Alg::ES384)));
}

#[tokio::test]
async fn the_servers_own_request_ids_are_not_to_be_had() {
    let rig = Rig::new().await;
    let taken = rig.create("hallmark:provision/c/ES256/one");
    let refused = rig.keys.create(&caller("dns:o.example"), taken).await.unwrap_err();
    assert_eq!(refused.reason, Reason::InvalidRequest);
}

#[test]
fn only_a_store_that_does_not_answer_is_worth_waiting_for() {
    let text = || "x".to_owned();
    let reasons = [StoreError::Unavailable(text()), StoreError::Conflict(text()), StoreError::Corrupt(text())]
        .map(|error| store_error(error).reason);
    assert_eq!(reasons, [Reason::StoreUnavailable, Reason::KeyChanged, Reason::StoreCorrupt]);
}
