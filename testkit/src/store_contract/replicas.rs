//! Which replicas live, and where their policies differ.

use std::time::Duration;

use hallmark_core::ports::{ClientPolicy, PolicyDifference, ReplicaStore};

use super::eventually;

pub(super) async fn who_is_heard_of_lives(store: &impl ReplicaStore) {
    assert!(!store.heartbeat("one", 1).await.unwrap(), "who is not known must announce itself");
    assert_eq!(names(store, LONG).await, [""; 0]);
    store.announce("two", &[]).await.unwrap();
    store.announce("one", &policies(&[("a", "1")])).await.unwrap();
    assert!(store.heartbeat("one", 7).await.unwrap());
    let live = store.replicas(LONG).await.unwrap().live;
    let seen: Vec<_> = live.iter().map(|replica| (replica.instance.as_str(), replica.serving)).collect();
    assert_eq!(seen, [("one", 7), ("two", 0)], "by name, with what each serves");

    let silence = async || names(store, Duration::from_millis(20)).await.is_empty();
    eventually(silence, "who is not heard of must not count as living").await;
    assert!(store.heartbeat("two", 8).await.unwrap(), "and comes back with a heartbeat");
    let back = store.replicas(LONG).await.unwrap().live;
    assert!(back[1].heard > live[1].heard && back[0].heard == live[0].heard, "{live:?} {back:?}");
}

pub(super) async fn differing_policies_are_named(store: &impl ReplicaStore) {
    let same = policies(&[("b", "2"), ("a", "1"), ("c", "3")]);
    store.announce("one", &same).await.unwrap();
    assert_eq!(differing(store).await, [], "a replica alone differs from nobody");
    store.announce("two", &policies(&[("a", "1"), ("b", "2"), ("c", "3")])).await.unwrap();
    assert_eq!(differing(store).await, [], "the order must not matter");

    store.announce("two", &policies(&[("a", "1"), ("b", "other")])).await.unwrap();
    let of = |one: &str, two: Option<&str>| {
        vec![("one".to_owned(), Some(one.to_owned())), ("two".to_owned(), two.map(str::to_owned))]
    };
    let difference = |client: &str, replicas| PolicyDifference { client: client.parse().unwrap(), replicas };
    let expected = [difference("b", of("2", Some("other"))), difference("c", of("3", None))];
    assert_eq!(differing(store).await, expected, "another policy, and a client that one does not know");

    let alone = async || {
        store.heartbeat("one", 1).await.unwrap();
        let replicas = store.replicas(Duration::from_millis(200)).await.unwrap();
        replicas.live.len() == 1 && replicas.differing.is_empty()
    };
    eventually(alone, "who is gone must not be asked").await;
    store.announce("two", &same).await.unwrap();
    assert_eq!(differing(store).await, [], "agreed again");
}

pub(super) async fn ten_thousand_policies_are_compared(store: &impl ReplicaStore) {
    let all: Vec<_> = (0..10_000).map(|n| (format!("client-{n}"), format!("{n:064x}"))).collect();
    let all: Vec<_> = all.iter().map(|(client, digest)| (client.as_str(), digest.as_str())).collect();
    store.announce("one", &policies(&all)).await.unwrap();
    let mut changed = all.clone();
    changed[5_000].1 = "changed";
    store.announce("two", &policies(&changed)).await.unwrap();
    let differing = differing(store).await;
    assert_eq!(differing.len(), 1, "{differing:?}");
    assert_eq!(differing[0].client.as_str(), "client-5000");
}

async fn differing(store: &impl ReplicaStore) -> Vec<PolicyDifference> {
    store.replicas(LONG).await.unwrap().differing
}

async fn names(store: &impl ReplicaStore, within: Duration) -> Vec<String> {
    store.replicas(within).await.unwrap().live.into_iter().map(|replica| replica.instance).collect()
}

fn policies(of: &[(&str, &str)]) -> Vec<ClientPolicy> {
    let policy =
        |(client, digest): &(&str, &str)| ClientPolicy { client: client.parse().unwrap(), digest: (*digest).into() };
    of.iter().map(policy).collect()
}

const LONG: Duration = Duration::from_hours(1);
