//! Whatever goes wrong: no key signs early, none is lost, and it all goes on by itself.

use std::{sync::atomic::Ordering, time::Duration};

use hallmark_core::{
    key::KeyState,
    ports::{ClientPolicy, ReplicaStore},
};

use super::rig::{EVERY, LEAD, Process, ROTATE, World};

const YEAR: i64 = 365 * 24 * 3600;

/// The first key signs, and the standby is beyond its gate.
async fn settled(world: &World) -> Process {
    let process = world.start().await;
    process.settle().await;
    process.live(LEAD + EVERY).await;
    process
}

#[tokio::test]
async fn an_hsm_that_is_gone_when_a_rotation_is_due_changes_nothing() {
    let world = World::new(&["one"]).await;
    let process = settled(&world).await;
    let first = process.active();
    process.lose_hsm("one").await;
    process.skip(ROTATE).await;
    process.settle().await;
    assert_eq!((process.active(), process.states()), (first, vec!["active", "pre-active"]), "nothing half-made");
    assert_eq!(process.metric("hallmark_rotation_overdue{client=\"c\"}"), 1.0);
    assert_eq!(process.metric("hallmark_alarms{alarm=\"overdue\"}"), 1.0);
    process.return_hsm("one").await;
    process.settle().await;
    assert_ne!(process.active(), first);
    assert_eq!(process.metric("hallmark_rotation_overdue{client=\"c\"}"), 0.0);
}

#[tokio::test]
async fn one_hsm_that_is_down_keeps_no_other_from_its_keys() {
    let world = World::new(&["one", "two"]).await;
    world.tokens[&"one".parse().unwrap()].set_unplugged(true);
    let process = world.start().await;
    process.settle().await;
    assert_eq!(process.states(), ["active", "pre-active"]);
    assert!(process.records().iter().all(|record| record.hsm.as_str() == "two"));
    assert!(!process.rotation.is_provisioned());
    process.return_hsm("one").await;
    process.settle().await;
    assert_eq!(process.records().len(), 4);
}

#[tokio::test]
async fn an_hsm_that_hangs_holds_up_neither_the_rounds_nor_the_others() {
    let world = World::new(&["one", "two"]).await;
    let hanging = world.tokens[&"one".parse().unwrap()].hang(hallmark_testkit::fake_hsm::Call::Generate);
    let process = world.start().await;
    let others = async {
        while process.records().iter().filter(|record| record.public.is_some()).count() < 2 {
            process.rotation.round(super::super::Cause::Time).await;
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), others).await.expect("the other HSM has made its keys");
    hanging.wait_for(1);
    drop(hanging);
    process.settle().await;
    assert_eq!(process.in_state(KeyState::Active).len(), 2, "first keys of both lines sign at once");
}

#[tokio::test]
async fn a_clock_that_jumps_changes_nothing_and_raises_an_alarm() {
    for jump in [YEAR, -YEAR] {
        let world = World::new(&["one"]).await;
        let process = settled(&world).await;
        let before = process.records();
        world.clock.set_wall(jump);
        // At once, and not only from the next round on: it may have been set in the middle of one.
        assert!(process.rig.rules.now(&process.rig.context).held, "{jump}");
        process.settle().await;
        process.live(LEAD).await;
        assert_eq!(process.records(), before, "{jump}");
        assert_eq!(process.metric("hallmark_rotation_clock_held"), 1.0);
        world.clock.set_wall(-jump);
        process.settle().await;
        assert_eq!(process.metric("hallmark_alarms{alarm=\"clock\"}"), 0.0);
        assert_eq!(process.states(), ["active", "pre-active"]);
    }
}

#[tokio::test]
async fn a_store_that_is_gone_stops_changes_until_it_is_back() {
    let world = World::new(&["one"]).await;
    let process = settled(&world).await;
    let first = process.active();
    world.store.down.store(true, Ordering::SeqCst);
    process.skip(ROTATE).await;
    process.settle().await;
    assert_eq!(process.active(), first);
    assert_eq!(process.metric("hallmark_alarms{alarm=\"sweep\"}"), 1.0);
    world.store.revive();
    process.settle().await;
    assert_ne!(process.active(), first);
    assert_eq!(process.metric("hallmark_alarms{alarm=\"sweep\"}"), 0.0);
}

#[tokio::test]
async fn replicas_with_different_policy_do_not_sweep() {
    let world = World::new(&["one"]).await;
    let announce = async |digest: &str| {
        let policy = ClientPolicy { client: "c".parse().unwrap(), digest: digest.into() };
        world.store.announce("b", &[policy]).await.unwrap();
    };
    announce("another").await;
    let process = world.start().await;
    process.settle().await;
    assert!(process.records().is_empty());
    assert_eq!(process.metric("hallmark_rotation_policy_differences"), 1.0);
    assert_eq!(process.metric("hallmark_alarms{alarm=\"policies\"}"), 1.0);
    let policies = process.rig.rules.policies(&process.rig.context.registry);
    announce(&policies.of(&"c".parse().unwrap()).digest).await;
    process.settle().await;
    assert_eq!(process.states(), ["active", "pre-active"]);
    assert_eq!(process.metric("hallmark_alarms{alarm=\"policies\"}"), 0.0);
}

#[tokio::test]
async fn of_two_one_sweeps_and_the_other_takes_over() {
    let world = World::new(&["one"]).await;
    let (a, b) = (world.start_as("a").await, world.start_as("b").await);
    for _ in 0..6 {
        a.round().await;
        b.round().await;
    }
    let leads = |process: &Process| process.metric("hallmark_rotation_leader");
    assert_eq!((leads(&a), leads(&b)), (1.0, 0.0));
    assert_eq!((b.states(), world.tokens.values().next().unwrap().pairs()), (vec!["active", "pre-active"], 2));
    drop(a);
    b.settle().await;
    assert_eq!(leads(&b), 1.0);
}

#[tokio::test]
async fn a_process_that_dies_at_any_write_loses_nothing_and_leaves_nothing_behind() {
    for died_at in 0..24 {
        let done = died_at % 2 == 1;
        let world = World::new(&["one"]).await;
        world.store.die_after(died_at / 2, done);
        live_and_rotate(&world).await;
        world.store.revive();
        let process = world.start().await;
        process.settle().await;
        process.live(LEAD + EVERY).await;
        process.settle().await;
        let (objects, records) = (world.tokens.values().next().unwrap().pairs(), process.records());
        assert_eq!(objects, records.len(), "died at {died_at}: {:?}", process.states());
        assert!(records.iter().all(|record| record.public.is_some()), "died at {died_at}");
        assert_eq!(process.in_state(KeyState::Active).len(), 1, "died at {died_at}: {:?}", process.states());
        assert_eq!(process.in_state(KeyState::PreActive).len(), 1, "died at {died_at}: {:?}", process.states());
    }
}

#[tokio::test]
async fn both_first_keys_are_made_in_one_go() {
    let world = World::new(&["one"]).await;
    let process = world.start().await;
    process.round().await;
    process.rotation.round(super::super::Cause::Woken).await;
    assert_eq!(process.states(), ["active", "pre-active"]);
    assert_eq!(process.metric("hallmark_rotation_acts_total{outcome=\"failed\"}"), 0.0);
}

/// As far as it gets.
async fn live_and_rotate(world: &World) {
    let process = world.start().await;
    process.settle().await;
    process.live(LEAD + EVERY).await;
    process.skip(ROTATE).await;
    process.settle().await;
}
