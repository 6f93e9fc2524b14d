//! What operators are told of HSMs costs the HSMs nothing, unless they ask for it.

use std::sync::Arc;

use hallmark_core::{
    error::Reason,
    key::{Alg, HsmName, KeySpec},
};
use hallmark_testkit::{
    fake_hsm::{Call, FakeToken},
    software_key::SoftwareKey,
};

use super::rig::{Process, World};
use crate::service::{fixture::caller, keys::Inventory};

/// Both keys are made, and nobody has looked at the HSM yet.
async fn begun(world: &World) -> Process {
    let process = world.start().await;
    process.settle().await;
    process
}

fn plant(token: &FakeToken, label: &str) {
    let key = Arc::new(SoftwareKey::generate(KeySpec { alg: Alg::ES256, rsa_bits: 0 }));
    token.plant(label.as_bytes(), label, key, false);
}

async fn list(process: &Process, fresh: bool) -> Inventory {
    process.rig.keys.inventory(&caller("dns:o.example"), fresh).await.unwrap()
}

fn labels(inventory: &Inventory) -> Vec<&str> {
    inventory.strays.iter().map(|stray| stray.label.as_str()).collect()
}

#[tokio::test]
async fn whoever_lists_keys_does_not_touch_an_hsm() {
    let (world, one) = (World::new(&["one"]).await, "one".parse::<HsmName>().unwrap());
    let process = begun(&world).await;
    let token = &world.tokens[&one];
    let unseen = list(&process, false).await;
    assert_eq!((unseen.looked, unseen.unanswered), (vec![], vec![one.clone()]), "nobody has looked yet");
    plant(token, "old key");
    process.rig.keys.look_at(&one).await.unwrap();
    let calls = token.calls(Call::List);
    for _ in 0..20 {
        let listed = process.rig.keys.inventory(&caller("dns:v.example"), false).await.unwrap();
        assert_eq!((labels(&listed), listed.looked.len()), (vec!["old key"], 1));
    }
    assert_eq!(token.calls(Call::List), calls);
}

#[tokio::test]
async fn a_new_look_takes_a_role_and_comes_once() {
    let (world, one) = (World::new(&["one"]).await, "one".parse::<HsmName>().unwrap());
    let process = begun(&world).await;
    let token = &world.tokens[&one];
    let refused = process.rig.keys.inventory(&caller("dns:v.example"), true).await.unwrap_err();
    assert_eq!(refused.reason, Reason::NotAnOperator);
    plant(token, "old key");
    let calls = token.calls(Call::List);
    let all = futures_util::future::join_all((0..10).map(|_| list(&process, true))).await;
    assert!(all.iter().all(|listed| labels(listed) == ["old key"] && listed.unanswered.is_empty()));
    plant(token, "another");
    assert_eq!(labels(&list(&process, true).await), ["old key"], "that was looked at a moment ago");
    assert_eq!(token.calls(Call::List), calls + 1);
}

#[tokio::test]
async fn of_an_hsm_that_is_gone_the_last_look_is_shown() {
    let (world, one) = (World::new(&["one"]).await, "one".parse::<HsmName>().unwrap());
    let process = begun(&world).await;
    plant(&world.tokens[&one], "old key");
    process.rig.keys.look_at(&one).await.unwrap();
    process.lose_hsm("one").await;
    process.rig.keys.look_at(&one).await.unwrap_err();
    let listed = list(&process, false).await;
    assert_eq!((labels(&listed), listed.looked.len(), &listed.unanswered), (vec!["old key"], 1, &vec![one.clone()]));
    process.return_hsm("one").await;
    process.rig.keys.look_at(&one).await.unwrap();
    assert_eq!(list(&process, false).await.unanswered, []);
}
