//! Two replicas with an HSM each: one sweeps for both, and each makes the keys of its own.

use std::time::Duration;

use hallmark_core::key::{KeyId, KeyState};

use super::rig::{EVERY, LEAD, Process, ROTATE, World};
use crate::service::rotation::Cause;

/// `one` has HSM `a` and sweeps, `two` has HSM `b`.
async fn an_hsm_each() -> (World, Process, Process) {
    let world = World::new(&["a", "b"]).await;
    let one = start(&world, "one", "a").await;
    one.settle().await;
    let two = start(&world, "two", "b").await;
    both(&one, &two).await;
    (world, one, two)
}

async fn start(world: &World, instance: &str, hsm: &str) -> Process {
    let mut settings = world.settings.clone();
    settings.hsms_elsewhere = world.tokens.keys().filter(|name| name.as_str() != hsm).cloned().collect();
    let tokens = world.tokens.iter().filter(|(name, _)| name.as_str() == hsm);
    let tokens = tokens.map(|(name, token)| (name.clone(), token.clone())).collect();
    let (store, clock, clients) = (world.store.clone(), world.clock.clone(), world.clients.clone());
    World { clock, store, tokens, clients, settings, host: world.host.clone(), approvals: None }
        .start_as(instance)
        .await
}

/// Rounds of both, in which no time passes.
async fn both(one: &Process, two: &Process) {
    for _ in 0..6 {
        two.round().await;
        one.round().await;
    }
}

/// Time passes for both.
async fn live(world: &World, one: &Process, two: &Process, time: Duration) {
    for _ in 0..time.as_secs().div_ceil(EVERY.as_secs()) {
        world.clock.advance(EVERY);
        two.round().await;
        one.round().await;
    }
    both(one, two).await;
}

fn active_on(process: &Process, hsm: &str) -> Option<KeyId> {
    let active = process.in_state(KeyState::Active).into_iter().find(|record| record.hsm.as_str() == hsm);
    active.map(|record| record.id)
}

#[tokio::test]
async fn each_line_has_its_keys_and_all_are_published() {
    let (world, one, two) = an_hsm_each().await;
    assert!(active_on(&one, "a").is_some() && active_on(&one, "b").is_none(), "a line that comes later waits");
    live(&world, &one, &two, LEAD + EVERY * 2).await;
    for process in [&one, &two] {
        assert_eq!(process.states(), ["active", "active", "pre-active", "pre-active"]);
        assert!(active_on(process, "a").is_some() && active_on(process, "b").is_some());
        assert_eq!(process.jwks().matches("\"kid\"").count(), 4);
    }
    assert_eq!(one.jwks(), two.jwks());
}

#[tokio::test]
async fn both_lines_rotate_whoever_sweeps() {
    let (world, one, two) = an_hsm_each().await;
    live(&world, &one, &two, LEAD + EVERY * 2).await;
    let before = (active_on(&one, "a"), active_on(&one, "b"));
    one.skip(ROTATE).await;
    both(&one, &two).await;
    let after = (active_on(&one, "a"), active_on(&one, "b"));
    assert!(after.0.is_some() && after.1.is_some() && after.0 != before.0 && after.1 != before.1, "{:?}", one.states());
    assert_eq!(one.in_state(KeyState::PreActive).len(), 2, "each line has a standby again, and no more");

    // The other one sweeps from now on.
    one.rotation.0.sweeper.lock().await.lead = None;
    two.round().await;
    live(&world, &two, &one, LEAD + EVERY * 2).await;
    two.skip(ROTATE).await;
    both(&two, &one).await;
    let last = (active_on(&two, "a"), active_on(&two, "b"));
    assert!(last.0.is_some() && last.1.is_some() && last.0 != after.0 && last.1 != after.1, "{:?}", two.states());
    assert_eq!(two.in_state(KeyState::PreActive).len(), 2);
}

#[tokio::test]
async fn a_line_whose_hsm_nobody_reaches_gives_way_and_comes_back() {
    let (world, one, two) = an_hsm_each().await;
    live(&world, &one, &two, LEAD + EVERY * 2).await;
    let timeout = world.settings.line_timeout;
    live(&world, &one, &two, timeout / 60).await;
    two.lose_hsm("b").await;
    both(&one, &two).await;
    assert!(active_on(&one, "b").is_some(), "not before `line_timeout`");
    world.clock.advance(timeout);
    both(&one, &two).await;
    assert!(active_on(&one, "b").is_none() && active_on(&one, "a").is_some(), "{:?}", one.states());
    assert_eq!(one.metric("hallmark_alarms{alarm=\"hsm-gone\"}"), 1.0);

    two.return_hsm("b").await;
    both(&one, &two).await;
    assert!(active_on(&one, "b").is_some(), "its standby was known to verifiers all the while");
    assert_eq!(one.metric("hallmark_alarms{alarm=\"hsm-gone\"}"), 0.0);
}

#[tokio::test]
async fn a_key_that_its_own_replica_can_not_use_does_not_become_active() {
    let (world, one, two) = an_hsm_each().await;
    live(&world, &one, &two, LEAD + EVERY * 2).await;
    let before = active_on(&one, "b");
    let standby = one.in_state(KeyState::PreActive).into_iter().find(|record| record.hsm.as_str() == "b").unwrap();
    two.rig.rules.set_absent(&standby.hsm, [standby.id].into());
    both(&one, &two).await;
    one.skip(ROTATE).await;
    assert_eq!(active_on(&one, "b"), before, "the standby's objects are missing");
    two.rig.rules.set_absent(&standby.hsm, [].into());
    two.rotation.round(Cause::Woken).await;
    one.round().await;
    assert_eq!(active_on(&one, "b"), Some(standby.id));
}
