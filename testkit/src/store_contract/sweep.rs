//! The generation, the sweep lock, observed time, and what verifiers were told.

use std::time::Duration;

use futures_util::future::join_all;
use hallmark_core::{
    key::{KeyId, KeyRecord, KeyState},
    ports::{ClientState, KeyStore, Lead, MaxAge, Observation, RecordUpdate, StoreError, SweepStore},
    time::Timestamp,
};
use uuid::Uuid;

use super::{eventually, samples::record};

pub(super) async fn the_generation_moves_exactly_with_changes(store: &(impl KeyStore + SweepStore)) {
    let first = store.pulse().await.unwrap().generation;
    assert!(first > 0, "0 stands for a replica that has read nothing yet");
    store.apply(&[record(1), record(2)], &[]).await.unwrap();
    assert_eq!(store.pulse().await.unwrap().generation, first + 1, "a change must move the generation by one");
    assert_eq!(store.records().await.unwrap().generation, first + 1, "records must say of which generation they are");

    let update = RecordUpdate { from: KeyState::PreActive, record: record(1), chain: None };
    store.apply(&[], std::slice::from_ref(&update)).await.unwrap();
    let stale = RecordUpdate { from: KeyState::Active, ..update };
    store.apply(&[], &[stale]).await.expect_err("stale");
    store.apply(&[record(1)], &[]).await.expect_err("there already");
    store.apply(&[], &[]).await.unwrap();
    let mut lead = store.try_lead().await.unwrap().unwrap();
    lead.observe(&[seen(1, 5, 5)]).await.unwrap();
    store.raise_max_age(&[max_age("c", 1000)]).await.unwrap();
    let now = store.pulse().await.unwrap().generation;
    assert_eq!(now, first + 2, "what changes no record that others must see must leave the generation as it is");

    let changes = join_all((10..26).map(|n| async move { store.apply(&[record(n)], &[]).await }));
    changes.await.into_iter().for_each(Result::unwrap);
    assert_eq!(store.pulse().await.unwrap().generation, now + 16, "of changes at once each must count");
}

pub(super) async fn the_time_goes_on(store: &impl KeyStore) {
    let first = store.pulse().await.unwrap().now;
    assert!(first > Timestamp::from_secs(1_600_000_000), "must be milliseconds since 1970, but was {first:?}");
    let later = async || store.pulse().await.unwrap().now > first;
    eventually(later, "the store's clock must not stand still").await;
    let since = store.pulse().await.unwrap().now.since(first);
    assert!(since < Duration::from_mins(2), "must count milliseconds, but went on by {since:?}");
}

pub(super) async fn one_leads_at_a_time(store: &impl SweepStore) {
    let tries = join_all((0..8).map(|_| store.try_lead())).await;
    let mut leads: Vec<_> = tries.into_iter().filter_map(Result::unwrap).collect();
    assert_eq!(leads.len(), 1, "of all who try at once, one must lead");
    let mut lead = leads.pop().unwrap();
    assert!(lead.still_held().await.unwrap());
    assert!(store.try_lead().await.unwrap().is_none(), "a lock that is held must not be given out");
    drop(lead);
    let mut next = leads_eventually(store).await;
    assert!(next.still_held().await.unwrap(), "the lock must be free once it was dropped");
}

pub(super) async fn observed_time_adds_up(store: &(impl KeyStore + SweepStore)) {
    let started = KeyRecord { served_for_ms: 100, kept_for_ms: 7, ..record(1) };
    store.apply(&[started.clone(), record(2)], &[]).await.unwrap();
    let mut lead = store.try_lead().await.unwrap().unwrap();
    lead.observe(&[]).await.unwrap();
    lead.observe(&[seen(1, 10, 0), seen(2, 3, 4), seen(99, 1, 1)]).await.expect("a key that is not there is left out");
    lead.observe(&[seen(1, 0, 20), seen(1, 5, 0)]).await.expect("one key may come twice");
    let expected = [
        KeyRecord { served_for_ms: 115, kept_for_ms: 27, ..record(1) },
        KeyRecord { served_for_ms: 3, kept_for_ms: 4, ..record(2) },
    ];
    assert_eq!(store.records().await.unwrap().records, expected, "observed time must add up");

    // Read before the observations.
    let stale = KeyRecord { label: "new".into(), ..started.clone() };
    store.apply(&[], &[RecordUpdate { from: KeyState::PreActive, record: stale, chain: None }]).await.unwrap();
    let stored = &store.records().await.unwrap().records[0];
    assert_eq!((stored.label.as_str(), stored.served_for_ms, stored.kept_for_ms), ("new", 115, 27), "a stale copy");
    let moved = KeyRecord { state: KeyState::Compromised, ..started };
    store.apply(&[], &[RecordUpdate { from: KeyState::PreActive, record: moved, chain: None }]).await.unwrap();
    let stored = &store.records().await.unwrap().records[0];
    assert_eq!((stored.served_for_ms, stored.kept_for_ms), (115, 7), "kept_for starts anew with a state");
}

pub(super) async fn ten_thousand_are_observed_at_once(store: &(impl KeyStore + SweepStore)) {
    let ids: Vec<u128> = (1..=10_000).collect();
    store.apply(&[record(1), record(10_000)], &[]).await.unwrap();
    let mut lead = store.try_lead().await.unwrap().unwrap();
    let all: Vec<_> = ids.iter().map(|n| seen(*n, u64::MAX, 2)).collect();
    lead.observe(&all).await.unwrap();
    lead.observe(&all).await.expect("no sum may leave the range");
    let records = store.records().await.unwrap().records;
    assert!(records.iter().all(|r| r.kept_for_ms == 4 && r.served_for_ms > 1 << 40), "{records:?}");
}

pub(super) async fn the_high_water_never_falls_early(store: &impl SweepStore) {
    assert_eq!(states(store).await, []);
    store.raise_max_age(&[max_age("b", 60_000), max_age("a", 400)]).await.unwrap();
    store.raise_max_age(&[max_age("b", 30_000), max_age("a", 500)]).await.unwrap();
    assert_eq!(waters(store).await, [("a", 500), ("b", 60_000)], "it must be the largest value that was served");
    let above = store.client_states(Duration::from_millis(500)).await.unwrap();
    assert_eq!(above.iter().map(|state| state.client.as_str()).collect::<Vec<_>>(), ["b"]);

    let mut lead = store.try_lead().await.unwrap().unwrap();
    lower(&mut lead, &[("a", 100), ("b", 30_000), ("unknown", 1)]).await.unwrap();
    assert_eq!(waters(store).await, [("a", 500), ("b", 60_000)], "a verifier may still go by the old value");
    assert!(states(store).await.iter().all(|state| state.lowered_at.is_some()));
    store.raise_max_age(&[max_age("a", 300)]).await.unwrap();
    let lowered = async || {
        lower(&mut lead, &[("a", 100), ("b", 30_000)]).await.unwrap();
        waters(store).await[0].1 < 500
    };
    eventually(lowered, "the old value must run out").await;
    assert_eq!(waters(store).await, [("a", 300), ("b", 60_000)], "the most that was served meanwhile must still hold");
    let lowered = async || {
        lower(&mut lead, &[("a", 100)]).await.unwrap();
        waters(store).await[0].1 == 100
    };
    eventually(lowered, "and run out in its turn").await;
    assert_eq!(states(store).await[0].lowered_at, None);
}

pub(super) async fn the_largest_of_the_smaller_values_holds(store: &impl SweepStore) {
    store.raise_max_age(&[max_age("a", 400)]).await.unwrap();
    let mut lead = store.try_lead().await.unwrap().unwrap();
    for served in [100, 250, 50] {
        lower(&mut lead, &[("a", served)]).await.unwrap();
    }
    let lowered = async || {
        lower(&mut lead, &[("a", 50)]).await.unwrap();
        waters(store).await[0].1 < 400
    };
    eventually(lowered, "the old value must run out").await;
    assert_eq!(waters(store).await, [("a", 250)], "a verifier may have been told so until just now");
}

pub(super) async fn serving_the_old_value_again_takes_the_mark_away(store: &impl SweepStore) {
    store.raise_max_age(&[max_age("a", 60_000)]).await.unwrap();
    let mut lead = store.try_lead().await.unwrap().unwrap();
    for again in [60_000, 70_000] {
        lower(&mut lead, &[("a", 5)]).await.unwrap();
        assert!(states(store).await[0].lowered_at.is_some());
        store.raise_max_age(&[max_age("a", again)]).await.unwrap();
        let state = &states(store).await[0];
        assert_eq!((state.max_age_high_water_ms, state.lowered_at), (again, None));
    }
}

/// The lock, once whoever had it is gone.
pub async fn leads_eventually(store: &impl SweepStore) -> Box<dyn Lead> {
    let mut lead = None;
    let got = async || {
        lead = store.try_lead().await.unwrap();
        lead.is_some()
    };
    eventually(got, "the sweep lock must fall with its holder").await;
    lead.unwrap()
}

async fn lower(lead: &mut Box<dyn Lead>, to: &[(&str, u64)]) -> Result<(), StoreError> {
    let to: Vec<_> = to.iter().map(|(client, millis)| max_age(client, *millis)).collect();
    lead.lower_max_age(&to).await
}

async fn states(store: &impl SweepStore) -> Vec<ClientState> {
    store.client_states(Duration::ZERO).await.unwrap()
}

async fn waters(store: &impl SweepStore) -> Vec<(&'static str, u64)> {
    let states = states(store).await;
    let name = |name: &str| ["a", "b"].into_iter().find(|known| *known == name).expect("no other client");
    states.iter().map(|state| (name(state.client.as_str()), state.max_age_high_water_ms)).collect()
}

fn max_age(client: &str, max_age_ms: u64) -> MaxAge {
    MaxAge { client: client.parse().unwrap(), max_age_ms }
}

fn seen(key: u128, served_ms: u64, kept_ms: u64) -> Observation {
    Observation { key: KeyId(Uuid::from_u128(key)), served_ms, kept_ms }
}
