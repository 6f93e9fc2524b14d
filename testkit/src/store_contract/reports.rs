//! What replicas say of their HSMs.

use std::{collections::BTreeSet, time::Duration};

use hallmark_core::{
    key::KeyId,
    ports::{HsmReport, ReplicaStore},
};
use uuid::Uuid;

use super::eventually;

pub(super) async fn each_says_what_it_finds(store: &impl ReplicaStore) {
    store.report("one", &[report("a", 1)]).await.expect_err("who did not announce itself says nothing");
    for instance in ["two", "one"] {
        store.announce(instance, &[]).await.unwrap();
    }
    store.report("one", &[report("b", 1), report("a", 2)]).await.unwrap();
    let down = HsmReport { up: false, leads: false, unusable: BTreeSet::new(), ..report("b", 0) };
    store.report("two", std::slice::from_ref(&down)).await.unwrap();
    let one = |report| ("one".to_owned(), report);
    assert_eq!(said(store, "two").await, [one(report("a", 2)), one(report("b", 1))], "by name, as it was said");
    assert_eq!(said(store, "one").await, [("two".to_owned(), down.clone())]);
    store.announce("one", &[]).await.unwrap();
    store.report("one", &[report("b", 3)]).await.unwrap();
    assert_eq!(said(store, "two").await, [one(report("b", 3))], "what was said before no longer holds");

    let alone = async || {
        store.heartbeat("two", 1).await.unwrap();
        let said = store.reports("nobody", Duration::from_millis(200)).await.unwrap();
        said == [("two".to_owned(), down.clone())]
    };
    eventually(alone, "who is gone says nothing").await;
    store.report("two", &[]).await.unwrap();
    assert_eq!(said(store, "one").await, []);
}

async fn said(store: &impl ReplicaStore, besides: &str) -> Vec<(String, HsmReport)> {
    store.reports(besides, Duration::from_hours(1)).await.unwrap()
}

fn report(hsm: &str, key: u128) -> HsmReport {
    let unusable = BTreeSet::from([KeyId(Uuid::from_u128(key)), KeyId(Uuid::from_u128(key + 7))]);
    let failed = BTreeSet::from(["c/ES256/\"quoted\"".to_owned()]);
    HsmReport { hsm: hsm.parse().unwrap(), up: true, leads: true, unusable, failed }
}
