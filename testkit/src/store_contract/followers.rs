//! What followers acknowledged.

use std::time::Duration;

use hallmark_core::ports::{FollowerAck, FollowerStore};

pub(super) async fn the_last_word_of_each_holds(store: &impl FollowerStore) {
    assert_eq!(said(store).await, [""; 0]);
    store.acknowledged("one", &[ack("two", 1, 0), ack("one", 7, 0)]).await.unwrap();
    store.acknowledged("one", &[]).await.unwrap();
    assert_eq!(said(store).await, ["one to one: 7", "two to one: 1"], "by name, and with whom it spoke");

    store.acknowledged("other", &[ack("two", 3, 0)]).await.unwrap();
    assert_eq!(said(store).await, ["one to one: 7", "two to other: 3"], "it may go to another replica");
    // Written late.
    store.acknowledged("one", &[ack("two", 2, 3_600_000)]).await.unwrap();
    assert_eq!(said(store).await[1], "two to other: 3", "what was said before must not replace what was said since");
    store.acknowledged("other", &[ack("two", 2, 0)]).await.unwrap();
    assert_eq!(said(store).await[1], "two to other: 2", "a follower that lost its disk has less than it had");

    store.acknowledged("one", &[ack("three", 5, 7_200_000)]).await.unwrap();
    let silent = store.followers().await.unwrap().into_iter().find(|ack| ack.process == "three").unwrap().silent;
    assert!(silent >= Duration::from_hours(2) && silent < Duration::from_hours(3), "by the store's clock: {silent:?}");
    store.acknowledged("one", &[ack("old", 5, 8 * 24 * 3_600_000)]).await.unwrap();
    assert!(store.followers().await.unwrap().iter().all(|ack| ack.process != "old"), "after a week nobody knows it");
}

async fn said(store: &impl FollowerStore) -> Vec<String> {
    let all = store.followers().await.unwrap().into_iter();
    all.map(|ack| format!("{} to {}: {}", ack.process, ack.instance, ack.generation)).collect()
}

fn ack(process: &str, generation: u64, silent_ms: u64) -> FollowerAck {
    FollowerAck {
        identity: "dns:edge.example".parse().unwrap(),
        process: process.into(),
        instance: String::new(),
        generation,
        silent: Duration::from_millis(silent_ms),
    }
}
