//! What happens only after a long time: an HSM that stays away, keys that ended long ago.

use std::time::Duration;

use hallmark_core::key::{KeyId, KeyRecord, KeyState};

use super::rig::{EVERY, KEEP, LEAD, Process, ROTATE, World};
use crate::service::{
    fixture::caller,
    keys::{AlterRequest, Alteration},
};

const SECOND: Duration = Duration::from_secs(1);
const DAY: Duration = Duration::from_secs(24 * 3600);

async fn settled(world: &World) -> Process {
    let process = world.start().await;
    process.settle().await;
    process.live(LEAD + EVERY).await;
    process
}

/// The keys of that HSM in that state.
fn of(process: &Process, hsm: &str, state: KeyState) -> Vec<KeyId> {
    let all = process.in_state(state).into_iter();
    all.filter(|record| record.hsm.as_str() == hsm).map(|record| record.id).collect()
}

fn kid(record: &KeyRecord) -> String {
    record.public.as_ref().unwrap().kid.to_string()
}

#[tokio::test]
async fn the_line_of_an_hsm_that_stays_away_gives_way_and_comes_back() {
    let world = World::new(&["one", "two"]).await;
    let process = settled(&world).await;
    let [signed] = of(&process, "one", KeyState::Active).try_into().unwrap();
    let other = of(&process, "two", KeyState::Active);
    process.lose_hsm("one").await;
    process.round().await;
    process.skip(world.settings.line_timeout - SECOND).await;
    assert_eq!(of(&process, "one", KeyState::Active), [signed], "it may still come back");
    process.skip(SECOND).await;
    process.settle().await;
    assert_eq!(
        (of(&process, "one", KeyState::Active), of(&process, "one", KeyState::Deactivated)),
        (vec![], vec![signed])
    );
    assert_eq!(of(&process, "two", KeyState::Active), other);
    assert_eq!(process.metric("hallmark_alarms{alarm=\"hsm-gone\"}"), 1.0);
    let record = process.records().into_iter().find(|record| record.id == signed).unwrap();
    assert!(process.jwks().contains(&kid(&record)), "what it signed can still be checked");

    process.return_hsm("one").await;
    process.settle().await;
    process.live(LEAD + EVERY).await;
    process.settle().await;
    let back = of(&process, "one", KeyState::Active);
    assert_eq!((back.len(), back.contains(&signed)), (1, false), "its standby signs");
    assert_eq!(process.metric("hallmark_alarms{alarm=\"hsm-gone\"}"), 0.0);
}

#[tokio::test]
async fn the_only_line_does_not_give_way() {
    let world = World::new(&["one"]).await;
    let process = settled(&world).await;
    let signer = process.active();
    process.lose_hsm("one").await;
    process.round().await;
    process.skip(world.settings.line_timeout * 2).await;
    process.settle().await;
    assert_eq!(process.active(), signer);
}

#[tokio::test]
async fn keys_that_ended_are_destroyed_when_their_time_has_come() {
    let mut world = World::new(&["one"]).await;
    (world.settings.unsafe_times.rotate, world.settings.destroy_after) = (None, Some(30 * DAY));
    let process = settled(&world).await;
    let token = world.tokens.values().next().unwrap();
    let first = process.active();
    let what = Alteration::Rotate { client: "c".parse().unwrap(), alg: None };
    let request = AlterRequest { request_id: "r".into(), reason: "because".into(), what, force: false };
    process.rig.keys.alter(&caller("dns:o.example"), request).await.unwrap();
    process.live(KEEP + EVERY * 2).await;
    let [retired] = process.in_state(KeyState::Retired).try_into().unwrap();
    assert_eq!((retired.id, token.pairs()), (first, 3));
    let due = retired.ended().unwrap().plus(30 * DAY);
    process.skip(due.since(process.now()) - SECOND).await;
    assert_eq!((process.in_state(KeyState::Retired).len(), token.pairs()), (1, 3));
    process.skip(SECOND).await;
    process.settle().await;
    let [destroyed] = process.in_state(KeyState::Destroyed).try_into().unwrap();
    assert_eq!((destroyed.id, token.pairs()), (first, 2), "and nothing else");
    assert_eq!(process.states(), ["active", "destroyed", "pre-active"]);
}

#[tokio::test]
async fn nothing_is_destroyed_where_nobody_said_so() {
    let world = World::new(&["one"]).await;
    let process = settled(&world).await;
    process.skip(ROTATE).await;
    process.settle().await;
    process.live(KEEP + EVERY * 2).await;
    process.skip(400 * DAY).await;
    process.settle().await;
    assert!(process.in_state(KeyState::Destroyed).is_empty(), "{:?}", process.states());
}
