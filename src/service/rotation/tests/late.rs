//! The key changes while an HSM signs with it.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use hallmark_core::{
    error::{Error, Reason},
    key::{KeyRecord, KeyState},
    policy::{AssertionRequest, Claims},
};
use hallmark_testkit::fake_hsm::Call;

use super::rig::{EVERY, LEAD, Process, World};
use crate::service::{
    fixture::{PATIENCE, caller},
    keys::{AlterRequest, Alteration},
    sign::{Reply, Sign},
};

/// What comes of a signature while `what` is done to the key that makes it.
async fn signed_during(what: impl FnOnce(&KeyRecord) -> Alteration, then: Duration) -> Result<Reply, Error> {
    let world = World::new(&["one"]).await;
    let process = world.start().await;
    process.settle().await;
    process.live(LEAD + EVERY).await;
    let sign = Sign::new(process.rig.context.clone(), Arc::new(crate::telemetry::Metrics::new()));
    let hanging = world.tokens[&"one".parse().unwrap()].hang(Call::Sign);
    let asked = tokio::spawn(async move {
        let request = AssertionRequest {
            client: "c".parse().unwrap(),
            alg: None,
            audience: None,
            lifetime: None,
            scope: None,
            claims: Claims::default(),
        };
        sign.sign(&caller("dns:w.example"), request, Instant::now() + PATIENCE, "id").await
    });
    let hanging = tokio::task::spawn_blocking(move || {
        hanging.wait_for(1);
        hanging
    });
    let hanging = hanging.await.unwrap();
    let signer = process.in_state(KeyState::Active).remove(0);
    alter(&process, what(&signer)).await;
    world.clock.advance(then);
    drop(hanging);
    asked.await.unwrap()
}

async fn alter(process: &Process, what: Alteration) {
    let request = AlterRequest { request_id: "r".into(), reason: "because".into(), what, force: false };
    process.rig.keys.alter(&caller("dns:o.example"), request).await.unwrap();
}

fn rotate(_: &KeyRecord) -> Alteration {
    Alteration::Rotate { client: "c".parse().unwrap(), alg: None }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_notices_nothing_of_a_rotation() {
    signed_during(rotate, Duration::from_secs(30)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_comes_long_after_a_rotation_is_dropped() {
    let late = signed_during(rotate, Duration::from_secs(31)).await.unwrap_err();
    assert_eq!(late.reason, Reason::KeyChanged);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_leaves_of_a_key_that_was_revoked_meanwhile() {
    let revoke = |key: &KeyRecord| Alteration::Revoke { kid: key.public.as_ref().unwrap().kid.clone() };
    let refused = signed_during(revoke, Duration::ZERO).await.unwrap_err();
    assert_eq!(refused.reason, Reason::KeyChanged);
}
