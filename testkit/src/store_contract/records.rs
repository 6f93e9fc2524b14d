//! Records.

use futures_util::future::join_all;
use hallmark_core::{
    key::{Alg, KeyRecord, KeyState, Origin},
    ports::{KeyStore, RecordUpdate, StoreError},
    time::Timestamp,
};

use super::samples::{public, record, records_of_every_kind};

pub(super) async fn round_trip(store: &impl KeyStore) {
    assert_eq!(read(store).await, [], "a fresh store must be empty");
    let written = records_of_every_kind();
    let (first, second) = written.split_at(4);
    store.apply(first, &[]).await.unwrap();
    store.apply(second, &[]).await.unwrap();
    assert_eq!(read(store).await, written, "what was written must be read, in the order of creation");
}

pub(super) async fn updates_replace_every_field(store: &impl KeyStore) {
    let bystander = KeyRecord { certificate_chain: vec![vec![9]], ..record(2) };
    store.apply(&[record(1), bystander.clone()], &[]).await.unwrap();
    let mut next = KeyRecord {
        client: Some("d".parse().unwrap()),
        hsm: "other".parse().unwrap(),
        cka_id: vec![4; 20],
        label: "changed".into(),
        public: Some(public()),
        state: KeyState::Active,
        served_for_ms: 77,
        kept_for_ms: 78,
        origin: Origin::Adopted,
        ..record(1)
    };
    next.times.published = Some(Timestamp::from_millis(-5));
    update(store, KeyState::PreActive, &next).await.unwrap();
    assert_eq!(read(store).await, [next.clone(), bystander.clone()], "an update must write every field");

    next.times.published = None;
    update(store, KeyState::Active, &next).await.unwrap();
    assert_eq!(read(store).await, [next, bystander], "an update must be able to empty a field");
}

pub(super) async fn updates_hold_only_from_the_expected_state(store: &impl KeyStore) {
    store.apply(&[record(1)], &[]).await.unwrap();
    let next = KeyRecord { served_for_ms: 5, ..record(1) };
    conflict(update(store, KeyState::Active, &next).await, "an update from another state than the stored one");
    conflict(update(store, KeyState::PreActive, &record(2)).await, "an update of a record that is not there");
    assert_eq!(read(store).await, [record(1)], "a conflict must change nothing");
    update(store, KeyState::PreActive, &next).await.unwrap();
}

pub(super) async fn all_or_nothing(store: &impl KeyStore) {
    store.apply(&[record(1), record(2)], &[]).await.unwrap();
    let served = |n| KeyRecord { served_for_ms: 5, ..record(n) };
    let good = RecordUpdate { from: KeyState::PreActive, record: served(1), chain: None };
    let stale = RecordUpdate { from: KeyState::Active, record: served(2), chain: None };
    conflict(store.apply(&[record(3)], &[good.clone(), stale]).await, "one stale update among good ones");
    assert_eq!(read(store).await, [record(1), record(2)], "the good part must not be kept");

    conflict(store.apply(&[record(4), record(1)], &[good]).await, "an insert of a record that is there");
    assert_eq!(read(store).await, [record(1), record(2)], "nor the good insert, nor the update");
}

pub(super) async fn one_active_key_per_line(store: &impl KeyStore) {
    let active = |n| KeyRecord { state: KeyState::Active, public: Some(public()), ..record(n) };
    store.apply(&[active(1), record(2)], &[]).await.unwrap();
    conflict(store.apply(&[active(3)], &[]).await, "a second active key of a line, inserted");
    let second = KeyRecord { state: KeyState::Active, ..record(2) };
    conflict(update(store, KeyState::PreActive, &second).await, "a second active key of a line, by update");

    let of_another_client = KeyRecord { client: Some("d".parse().unwrap()), ..active(4) };
    let on_another_hsm = KeyRecord { hsm: "other".parse().unwrap(), ..active(5) };
    let of_another_alg = KeyRecord { alg: Alg::ES384, public: None, ..active(6) };
    store.apply(&[of_another_client, on_another_hsm, of_another_alg], &[]).await.expect("other lines have their own");
}

pub(super) async fn a_swap_is_one_transaction(store: &impl KeyStore) {
    let active = KeyRecord { state: KeyState::Active, public: Some(public()), ..record(1) };
    let standby = KeyRecord { public: Some(public()), ..record(2) };
    store.apply(&[active.clone(), standby.clone()], &[]).await.unwrap();
    let ended = KeyRecord { state: KeyState::Deactivated, ..active.clone() };
    let started = KeyRecord { state: KeyState::Active, ..standby.clone() };
    let out = RecordUpdate { from: KeyState::Active, record: ended.clone(), chain: None };
    let up = RecordUpdate { from: KeyState::PreActive, record: started.clone(), chain: None };
    store.apply(&[], &[up, out]).await.expect("a swap must hold in whatever order it is written down");
    assert_eq!(read(store).await, [ended, started]);

    let back = RecordUpdate { from: KeyState::Deactivated, record: active, chain: None };
    let down = RecordUpdate { from: KeyState::Active, record: standby, chain: None };
    store.apply(&[], &[down, back]).await.expect("and back again");
}

pub(super) async fn identities_are_unique(store: &impl KeyStore) {
    let first = KeyRecord { public: Some(public()), ..record(1) };
    store.apply(std::slice::from_ref(&first), &[]).await.unwrap();
    let same_kid = KeyRecord { public: first.public.clone(), ..record(2) };
    conflict(store.apply(&[same_kid], &[]).await, "a kid that is there");
    let same_object = KeyRecord { cka_id: first.cka_id.clone(), ..record(3) };
    conflict(store.apply(std::slice::from_ref(&same_object), &[]).await, "a CKA_ID that is there on the same HSM");
    let other_hsm = KeyRecord { hsm: "other".parse().unwrap(), ..same_object };
    store.apply(&[other_hsm], &[]).await.expect("another HSM may have the same CKA_ID");
}

pub(super) async fn a_kid_stays_with_its_key(store: &impl KeyStore) {
    let born = KeyRecord { public: Some(public()), ..record(1) };
    store.apply(&[record(1)], &[]).await.unwrap();
    update(store, KeyState::PreActive, &born).await.expect("a reserved key gets its kid at birth");
    let mut moved = born.clone();
    moved.public.as_mut().unwrap().key = public().key;
    conflict(update(store, KeyState::PreActive, &moved).await, "a kid pointed at another key");
    let renamed = KeyRecord { public: Some(public()), ..record(1) };
    conflict(update(store, KeyState::PreActive, &renamed).await, "another kid");
    conflict(update(store, KeyState::PreActive, &record(1)).await, "a kid taken away");
    assert_eq!(read(store).await, [born]);
}

pub(super) async fn of_concurrent_changes_one_wins(store: &impl KeyStore) {
    store.apply(&[record(1)], &[]).await.unwrap();
    let ended = |served_for_ms| KeyRecord { state: KeyState::Compromised, served_for_ms, ..record(1) };
    let outcomes = join_all((0..16).map(|n| async move { (n, update(store, KeyState::PreActive, &ended(n)).await) }));
    let (won, lost): (Vec<_>, Vec<_>) = outcomes.await.into_iter().partition(|(_, outcome)| outcome.is_ok());
    assert_eq!(won.len(), 1, "of changes from the same state one must win");
    lost.into_iter().for_each(|(_, outcome)| conflict(outcome, "a change that came too late"));
    assert_eq!(read(store).await, [ended(won[0].0)], "the winner's record must be the one that is kept");

    let inserted = join_all((10..26).map(|n| async move { store.apply(&[record(n)], &[]).await })).await;
    assert!(inserted.iter().all(Result::is_ok), "changes that do not touch each other must all hold");
    assert_eq!(read(store).await.len(), 17);
}

pub(super) async fn read(store: &impl KeyStore) -> Vec<KeyRecord> {
    store.records().await.unwrap().records
}

pub(super) async fn update(store: &impl KeyStore, from: KeyState, record: &KeyRecord) -> Result<(), StoreError> {
    store.apply(&[], &[RecordUpdate { from, record: record.clone(), chain: None }]).await
}

pub(super) fn conflict(outcome: Result<(), StoreError>, what: &str) {
    assert!(matches!(outcome, Err(StoreError::Conflict(_))), "{what} must be a conflict, but was {outcome:?}");
}
