//! Certificates, which one replica installs while another goes by an older reading.

use hallmark_core::{
    key::{KeyRecord, KeyState, KeyTimes},
    ports::{KeyStore, RecordUpdate, StoreError},
    time::Timestamp,
};

use super::{
    records::{conflict, read, update},
    samples::{public, record},
};

pub(super) async fn a_move_takes_back_no_certificate(store: &impl KeyStore) {
    for read_before in [registered(vec![]), KeyRecord { id: record(2).id, cka_id: vec![2], ..registered(old()) }] {
        store.apply(std::slice::from_ref(&read_before), &[]).await.unwrap();
        let installed = install(store, &read_before, new()).await.unwrap();
        let moved = |record: &KeyRecord| KeyRecord { state: KeyState::Deactivated, ..record.clone() };
        conflict(
            update(store, KeyState::PreActive, &moved(&read_before)).await,
            "a move by a reading of before the certificate",
        );
        assert_eq!(read(store).await.last(), Some(&installed), "a conflict must change nothing");
        update(store, KeyState::PreActive, &moved(&installed)).await.unwrap();
        assert_eq!(read(store).await.last(), Some(&moved(&installed)), "a move must leave the certificates");
    }
}

pub(super) async fn a_confirmation_is_of_the_certificate_that_was_read(store: &impl KeyStore) {
    let read_before = KeyRecord { public: Some(public()), certificate_chain: old(), ..record(1) };
    store.apply(std::slice::from_ref(&read_before), &[]).await.unwrap();
    let installed = install(store, &read_before, new()).await.unwrap();
    let stale = confirmed(&read_before);
    conflict(update(store, KeyState::PreActive, &stale).await, "a confirmation of a certificate that was replaced");
    assert_eq!(read(store).await, std::slice::from_ref(&installed), "neither may the old certificate come back");
    update(store, KeyState::PreActive, &confirmed(&installed)).await.unwrap();
    assert_eq!(read(store).await, [confirmed(&installed)]);
}

pub(super) async fn an_installation_takes_the_place_of_what_was_read(store: &impl KeyStore) {
    let (first, bystander) = (registered(vec![]), KeyRecord { certificate_chain: vec![vec![9]], ..record(2) });
    store.apply(&[first.clone(), bystander.clone()], &[]).await.unwrap();
    let installed = install(store, &first, old()).await.unwrap();
    let late = install(store, &first, new()).await;
    assert!(matches!(late, Err(StoreError::Conflict(_))), "of two installations at once one must win: {late:?}");
    let shorter = install(store, &installed, new()).await.unwrap();
    assert_eq!(read(store).await, [shorter.clone(), bystander.clone()], "new certificates are registered nowhere");
    let none = install(store, &shorter, vec![]).await.unwrap();
    assert_eq!(read(store).await, [none, bystander], "the certificates of no other key may be touched");
}

pub(super) async fn moves_leave_what_was_confirmed(store: &impl KeyStore) {
    let read_before = KeyRecord { public: Some(public()), ..record(1) };
    store.apply(std::slice::from_ref(&read_before), &[]).await.unwrap();
    update(store, KeyState::PreActive, &confirmed(&read_before)).await.unwrap();
    let moved = |record: &KeyRecord| KeyRecord { state: KeyState::Active, ..record.clone() };
    update(store, KeyState::PreActive, &moved(&read_before)).await.unwrap();
    assert_eq!(read(store).await, [moved(&confirmed(&read_before))], "a move must leave what operators confirmed");
}

pub(super) async fn two_confirmations_at_once_both_hold(store: &impl KeyStore) {
    let read_before = KeyRecord { public: Some(public()), certificate_chain: old(), ..record(1) };
    store.apply(std::slice::from_ref(&read_before), &[]).await.unwrap();
    let both = confirmed(&read_before);
    for (registered, rehearsed) in [(both.times.registered, None), (None, both.times.rehearsed)] {
        let times = KeyTimes { registered, rehearsed, ..read_before.times };
        update(store, KeyState::PreActive, &KeyRecord { times, ..read_before.clone() }).await.unwrap();
    }
    assert_eq!(read(store).await, std::slice::from_ref(&both), "the second replica must not undo what the first did");
    let installed = install(store, &read_before, new()).await.unwrap();
    let times = KeyTimes { rehearsed: both.times.rehearsed, ..installed.times };
    assert_eq!(read(store).await, [KeyRecord { times, ..installed }], "new certificates are registered nowhere");
}

/// What the record is then.
async fn install(store: &impl KeyStore, read: &KeyRecord, chain: Vec<Vec<u8>>) -> Result<KeyRecord, StoreError> {
    let mut next = read.clone();
    next.times.registered = None;
    let update = RecordUpdate { from: read.state, record: next.clone(), chain: Some(chain.clone()) };
    store.apply(&[], &[update]).await?;
    Ok(KeyRecord { certificate_chain: chain, ..next })
}

fn registered(certificate_chain: Vec<Vec<u8>>) -> KeyRecord {
    let mut record = KeyRecord { public: Some(public()), certificate_chain, ..record(1) };
    record.times.registered = Some(Timestamp::from_secs(1_700_000_001));
    record
}

fn confirmed(record: &KeyRecord) -> KeyRecord {
    let mut record = record.clone();
    record.times.registered = Some(Timestamp::from_secs(1_700_000_002));
    record.times.rehearsed = Some(Timestamp::from_secs(1_700_000_003));
    record
}

fn old() -> Vec<Vec<u8>> {
    vec![vec![1], vec![2]]
}

fn new() -> Vec<Vec<u8>> {
    vec![vec![3]]
}
