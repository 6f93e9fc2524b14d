//! Where key sets are published.

use std::time::Duration;

use hallmark_core::ports::{KeyStore, MaxAge, PublishedPath, SweepStore};

pub(super) async fn where_sets_are_published_is_kept(store: &(impl KeyStore + SweepStore)) {
    let generation = async || store.pulse().await.unwrap().generation;
    let paths = async || store.records().await.unwrap().paths;
    let first = generation().await;
    store.publish_at(&[]).await.unwrap();
    store.publish_at(&[at("a", None)]).await.unwrap();
    assert_eq!((generation().await, paths().await), (first, vec![]), "the default path is nothing to write down");

    let both = [at("b", Some("/k/b.json")), at("a", Some("/k/a.json"))];
    store.publish_at(&both).await.unwrap();
    assert_eq!(paths().await, [both[1].clone(), both[0].clone()], "paths come by name");
    assert_eq!(generation().await, first + 1, "others must see it");
    store.publish_at(&both).await.unwrap();
    assert_eq!(generation().await, first + 1, "what is known already is no change");

    store.publish_at(&[at("a", None)]).await.unwrap();
    assert_eq!(paths().await, both[..1], "a client may go to its default path, and others stay where they are");
    store.publish_at(&[at("b", Some("/k/c.json"))]).await.unwrap();
    assert_eq!(paths().await, [at("b", Some("/k/c.json"))]);
    assert_eq!(generation().await, first + 3);
}

/// Paths and what verifiers were told are of one row, and neither is lost over the other.
pub(super) async fn no_client_is_forgotten(store: &(impl KeyStore + SweepStore)) {
    let told = [MaxAge { client: "a".parse().unwrap(), max_age_ms: 500 }];
    let paths = [at("a", Some("/k/a.json"))];
    store.raise_max_age(&told).await.unwrap();
    store.publish_at(&paths).await.unwrap();
    let states = async || store.client_states(Duration::ZERO).await.unwrap();
    assert_eq!(states().await[0].max_age_high_water_ms, 500);
    store.raise_max_age(&[MaxAge { max_age_ms: 600, ..told[0].clone() }]).await.unwrap();
    assert_eq!(states().await[0].max_age_high_water_ms, 600);
    assert_eq!(store.records().await.unwrap().paths, paths);
}

pub(super) fn at(client: &str, path: Option<&str>) -> PublishedPath {
    PublishedPath { client: client.parse().unwrap(), path: path.map(str::to_owned) }
}
