//! Rotations from end to end.

use std::time::Duration;

use hallmark_core::{key::HsmName, key::KeyState};
use hallmark_testkit::fake_hsm::Call;
use tokio_util::sync::CancellationToken;

use super::rig::{KEEP, LEAD, ROTATE, World};

/// A set that was published without its keys may be in a cache: it would sign a day later than the other.
#[tokio::test]
async fn an_hsm_that_takes_longer_to_connect_signs_from_the_beginning() {
    let world = World::new(&["one", "two"]).await;
    let slow = &world.tokens[&"two".parse::<HsmName>().unwrap()];
    slow.set_unplugged(true);
    let connecting = slow.hang(Call::Connect);
    let process = world.start().await;
    let end = CancellationToken::new();
    let running = tokio::spawn(process.rotation.clone().run(end.clone()));
    let signs = async |lines: usize| {
        while process.in_state(KeyState::Active).len() < lines {
            tokio::task::yield_now().await;
        }
    };
    let early = tokio::time::timeout(Duration::from_millis(200), signs(1)).await;
    assert!(early.is_err(), "the other is not waited for");

    slow.set_unplugged(false);
    drop(connecting);
    tokio::time::timeout(Duration::from_secs(30), signs(2)).await.expect("both sign");
    end.cancel();
    running.await.unwrap();
}

#[tokio::test]
async fn a_key_lives_its_whole_life_with_nobodys_help() {
    let world = World::new(&["one"]).await;
    let process = world.start().await;
    process.settle().await;
    assert_eq!(process.states(), ["active", "pre-active"], "first keys: one signs, one waits");
    assert!(process.records().iter().all(|record| record.times.published.is_some()));
    assert!(process.rotation.is_provisioned());
    let first = process.active();

    process.live(LEAD).await;
    assert_eq!(process.active(), first, "nothing is due yet");
    process.skip(ROTATE - LEAD).await;
    process.settle().await;
    let second = process.active();
    assert_ne!(first, second);
    assert_eq!(
        process.states(),
        ["active", "deactivated", "pre-active"],
        "the old one stays published, a new one waits"
    );

    process.live(KEEP - super::rig::EVERY * 3).await;
    assert_eq!(process.states(), ["active", "deactivated", "pre-active"]);
    process.live(super::rig::EVERY * 4).await;
    assert_eq!(process.states(), ["active", "pre-active", "retired"]);
    assert_eq!(world.tokens.values().next().unwrap().pairs(), 3, "nothing is destroyed unasked");
    let reasons = process.rig.audit.all("key-intent", "reason");
    assert!(reasons.iter().any(|reason| reason.contains("`rotate` is 7d")), "{reasons:?}");
}

#[tokio::test]
async fn where_nothing_is_due_nothing_is_written() {
    let world = World::new(&["one"]).await;
    let process = world.start().await;
    process.settle().await;
    process.live(LEAD + super::rig::EVERY * 2).await;
    let before = world.store.writes.load(std::sync::atomic::Ordering::SeqCst);
    process.settle().await;
    assert_eq!(world.store.writes.load(std::sync::atomic::Ordering::SeqCst), before);
}
