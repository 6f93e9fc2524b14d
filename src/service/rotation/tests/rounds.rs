//! Rotations from end to end.

use super::rig::{KEEP, LEAD, ROTATE, World};

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
