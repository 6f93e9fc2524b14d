//! What operators ask for, beside the sweep.

use std::{sync::Arc, sync::atomic::Ordering, time::Duration};

use hallmark_core::{
    client::Custody,
    error::Reason,
    key::{Alg, KeyRecord, KeySpec, KeyState, Kid, Origin},
};
use hallmark_testkit::software_key::SoftwareKey;

use super::rig::{EVERY, LEAD, Process, World};
use crate::service::{
    fixture::caller,
    keys::{AdoptRequest, AlterRequest, Alteration, Changed, ObjectRef},
};

type Answer = Result<Changed, hallmark_core::error::Error>;

async fn settled(world: &World) -> Process {
    let process = world.start().await;
    process.settle().await;
    process.live(LEAD + EVERY).await;
    process
}

fn request(id: &str, what: Alteration) -> AlterRequest {
    AlterRequest { request_id: id.into(), reason: "because".into(), what, force: false }
}

fn rotate(id: &str) -> AlterRequest {
    request(id, Alteration::Rotate { client: "c".parse().unwrap(), alg: None })
}

async fn alter(process: &Process, request: AlterRequest) -> Answer {
    process.rig.keys.alter(&caller("dns:o.example"), request).await
}

fn kid(record: &KeyRecord) -> Kid {
    record.public.as_ref().unwrap().kid.clone()
}

fn one(process: &Process, state: KeyState) -> KeyRecord {
    let all = process.in_state(state);
    assert_eq!(all.len(), 1, "{:?}", process.states());
    all[0].clone()
}

async fn revoke(process: &Process, id: &str, key: &KeyRecord) -> Answer {
    alter(process, request(id, Alteration::Revoke { kid: kid(key) })).await
}

#[tokio::test]
async fn a_rotation_waits_for_verifiers_and_happens_once() {
    let world = World::new(&["one"]).await;
    let process = world.start().await;
    process.settle().await;
    let early = alter(&process, rotate("r1")).await.unwrap_err();
    assert_eq!(early.reason, Reason::GateShut);
    let forced = AlterRequest { force: true, ..rotate("r2") };
    assert_eq!(alter(&process, forced).await.unwrap_err().reason, Reason::NotAnOperator, "that takes another role");
    process.live(LEAD + EVERY).await;
    let (first, standby) = (process.active(), one(&process, KeyState::PreActive).id);
    let changed = alter(&process, rotate("r1")).await.unwrap();
    assert_eq!((process.active(), changed.keys.len()), (standby, 2));
    assert!(changed.in_force_everywhere_at.is_some());
    process.settle().await;
    let again = alter(&process, rotate("r1")).await.unwrap();
    assert_eq!((process.active(), again.change.id), (standby, changed.change.id));
    let back = one(&process, KeyState::Deactivated);
    alter(&process, request("r3", Alteration::Activate { kid: kid(&back) })).await.unwrap();
    assert_eq!(process.active(), first, "a bad rotation is taken back");
}

#[tokio::test]
async fn a_rotation_whose_end_was_not_written_is_not_done_twice() {
    let world = World::new(&["one"]).await;
    let process = settled(&world).await;
    let standby = one(&process, KeyState::PreActive).id;
    // Which keys it touches, and the move; then the process dies.
    world.store.die_after(2, false);
    alter(&process, rotate("r1")).await.unwrap_err();
    world.store.revive();
    process.rig.keys.reload().await.unwrap();
    let changed = alter(&process, rotate("r1")).await.unwrap();
    assert_eq!((process.active(), changed.keys.len()), (standby, 2));
}

#[tokio::test]
async fn a_revoked_key_leaves_at_once_and_the_standby_signs() {
    let world = World::new(&["one"]).await;
    let process = settled(&world).await;
    let (key, standby) = (one(&process, KeyState::Active), one(&process, KeyState::PreActive));
    let changed = revoke(&process, "r1", &key).await.unwrap();
    assert_eq!(process.active(), standby.id);
    assert!(!process.jwks().contains(kid(&key).as_str()));
    assert!(changed.advice.iter().any(|line| line.contains("removal is not revocation")), "{:?}", changed.advice);
    assert!(changed.in_force_everywhere_at.is_some());
    let again = revoke(&process, "r2", &key).await.unwrap();
    assert_eq!(again.change.keys, [key.id], "twice does no harm");
    assert_eq!(process.active(), standby.id);
    let without = revoke(&process, "r3", &standby).await.unwrap();
    assert!(process.in_state(KeyState::Active).is_empty(), "no standby that verifiers know: nothing signs");
    assert!(without.advice.iter().any(|line| line.contains("no other key")), "{:?}", without.advice);
}

#[tokio::test]
async fn neither_a_dead_hsm_nor_a_stuck_log_holds_up_a_revocation() {
    let world = World::new(&["one"]).await;
    let process = settled(&world).await;
    let key = one(&process, KeyState::Active);
    process.lose_hsm("one").await;
    process.rig.audit.stuck.store(true, Ordering::SeqCst);
    let revoked = tokio::time::timeout(Duration::from_secs(10), revoke(&process, "r1", &key)).await;
    revoked.expect("it does not wait").unwrap();
    assert_eq!(one(&process, KeyState::Compromised).id, key.id);
    assert_eq!(process.rig.audit.all("key-intent", "action").last().map(String::as_str), Some("revoke"));
}

#[tokio::test]
async fn a_store_that_can_not_be_written_does_not_keep_a_key_in_use() {
    let world = World::new(&["one"]).await;
    let process = settled(&world).await;
    let (key, standby) = (one(&process, KeyState::Active), one(&process, KeyState::PreActive));
    world.store.down.store(true, Ordering::SeqCst);
    let error = revoke(&process, "r1", &key).await.unwrap_err();
    assert_eq!(error.reason, Reason::StoreUnavailable);
    assert!(process.in_state(KeyState::Active).is_empty(), "it signs no more here");
    assert!(!process.jwks().contains(kid(&key).as_str()));
    process.settle().await;
    world.store.revive();
    process.settle().await;
    assert_eq!((process.active(), one(&process, KeyState::Compromised).id), (standby.id, key.id));
    let next = world.start_as("later").await;
    assert_eq!(one(&next, KeyState::Compromised).id, key.id, "it is written");
}

#[tokio::test]
async fn what_ended_is_destroyed_and_nothing_else() {
    let world = World::new(&["one"]).await;
    let process = settled(&world).await;
    let key = one(&process, KeyState::Active);
    let destroy = |id: &str| request(id, Alteration::Destroy { kid: kid(&key) });
    assert_eq!(alter(&process, destroy("r1")).await.unwrap_err().reason, Reason::NotAnOperator);
    let destroyer = caller("dns:d.example");
    let alive = process.rig.keys.alter(&destroyer, destroy("r1")).await.unwrap_err();
    assert_eq!(alive.reason, Reason::KeyState);
    revoke(&process, "r2", &key).await.unwrap();
    process.settle().await;
    let token = world.tokens.values().next().unwrap();
    assert_eq!(token.pairs(), 3);
    process.rig.keys.alter(&destroyer, destroy("r3")).await.unwrap();
    assert_eq!((token.pairs(), one(&process, KeyState::Destroyed).id), (2, key.id));
    process.rig.keys.alter(&destroyer, destroy("r3")).await.unwrap();
}

#[tokio::test]
async fn a_key_that_is_there_is_taken_in_as_the_next_one() {
    let mut world = World::new(&["one"]).await;
    world.clients[0].custody = Custody::Imported;
    let process = settled(&world).await;
    let key = Arc::new(SoftwareKey::generate(KeySpec { alg: Alg::ES256, rsa_bits: 0 }));
    let token = world.tokens.values().next().unwrap();
    token.plant(b"old", "old key", key, false);
    process.rig.keys.look_at(&"one".parse().unwrap()).await.unwrap();
    let inventory = process.rig.keys.inventory(&caller("dns:o.example"), false).await.unwrap();
    assert_eq!(inventory.strays.iter().map(|stray| stray.label.as_str()).collect::<Vec<_>>(), ["old key"]);
    let adopt = |id: &str| AdoptRequest {
        request_id: id.into(),
        reason: "it was here before".into(),
        client: "c".parse().unwrap(),
        alg: None,
        hsm: None,
        object: ObjectRef::Label("old key".into()),
        kid: Some("kept-kid".parse().unwrap()),
    };
    let changed = process.rig.keys.adopt(&caller("dns:o.example"), adopt("r1")).await.unwrap();
    let adopted = &changed.keys[0];
    assert_eq!(
        (adopted.state, adopted.origin, kid(adopted).as_str()),
        (KeyState::PreActive, Origin::Imported, "kept-kid")
    );
    process.settle().await;
    process.live(LEAD + EVERY).await;
    alter(&process, rotate("r2")).await.unwrap();
    assert_eq!(process.active(), adopted.id);
    let inventory = process.rig.keys.inventory(&caller("dns:o.example"), false).await.unwrap();
    assert!(inventory.strays.is_empty() && inventory.absent.is_empty());
}

#[tokio::test]
async fn a_key_that_falls_short_of_the_custody_is_not_taken_in() {
    let world = World::new(&["one"]).await;
    let process = settled(&world).await;
    let key = Arc::new(SoftwareKey::generate(KeySpec { alg: Alg::ES256, rsa_bits: 0 }));
    world.tokens.values().next().unwrap().plant(b"old", "old key", key, false);
    let adopt = AdoptRequest {
        request_id: "r1".into(),
        reason: "it was here before".into(),
        client: "c".parse().unwrap(),
        alg: None,
        hsm: None,
        object: ObjectRef::CkaId(b"old".to_vec()),
        kid: None,
    };
    let refused = process.rig.keys.adopt(&caller("dns:o.example"), adopt).await.unwrap_err();
    assert_eq!(refused.reason, Reason::CustodyTooWeak);
    assert_eq!(process.states(), ["active", "pre-active"]);
}
