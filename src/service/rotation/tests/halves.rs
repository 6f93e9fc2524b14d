//! A process is killed, or a token loses its power, while a key pair is made: half of it is there.

use hallmark_core::{
    error::Reason,
    key::{HsmName, KeyState},
    ports::FaultClass,
};
use hallmark_testkit::fake_hsm::{Call, FakeToken, Half};

use super::rig::{EVERY, LEAD, Process, ROTATE, World};
use crate::service::fixture::{PATIENCE, Rig, caller};

/// The half is on the token as it was left, is told of as an object without a record, and no record uses it.
async fn check(rig: &Rig, token: &FakeToken, halves: &[Vec<u8>]) {
    assert_eq!(token.halves(), halves, "nothing is deleted by itself");
    rig.keys.look_at(&"one".parse().unwrap()).await.unwrap();
    let inventory = rig.keys.inventory(&caller("dns:o.example"), false).await.unwrap();
    let strays: Vec<_> = inventory.strays.iter().map(|stray| stray.cka_id.clone()).collect();
    assert_eq!((strays.as_slice(), inventory.absent.len()), (halves, 0));
    let keys = rig.context.keyring.keys();
    assert!(keys.records.iter().all(|record| record.public.is_some() && !halves.contains(&record.cka_id)));
    assert_eq!(token.pairs(), keys.records.len());
}

async fn until_back(rig: &Rig) {
    let up = rig.context.pools[&"one".parse::<HsmName>().unwrap()].wait_until_up();
    tokio::time::timeout(PATIENCE, up).await.expect("it comes back");
}

/// One after the other: which of the two first keys it is makes no difference.
const HALVES: [Half; 2] = [Half::Private, Half::Public];

#[tokio::test]
async fn the_sweep_makes_another_pair_beside_half_a_one() {
    for half in HALVES {
        let (world, one) = (World::new(&["one"]).await, "one".parse::<HsmName>().unwrap());
        let token = &world.tokens[&one];
        token.halve_next(half);
        let process = world.start().await;
        process.round().await;
        let left = token.halves();
        assert_eq!((left.len(), token.pairs()), (1, 0));
        until_back(&process.rig).await;
        process.settle().await;
        assert_eq!(process.states(), ["active", "pre-active"], "{half:?}");
        check(&process.rig, token, &left).await;
    }
}

#[tokio::test]
async fn so_does_a_process_that_starts_anew_and_goes_on_rotating() {
    for half in HALVES {
        let (world, one) = (World::new(&["one"]).await, "one".parse::<HsmName>().unwrap());
        let token = &world.tokens[&one];
        let settled = async || -> Process {
            let process = world.start().await;
            process.settle().await;
            process.live(LEAD + EVERY).await;
            process
        };
        let first = settled().await;
        token.halve_next(half);
        first.skip(ROTATE).await;
        // It dies as soon as the next standby is begun.
        while token.halves().is_empty() {
            first.round().await;
        }
        let left = token.halves();
        drop(first);
        let next = settled().await;
        assert_eq!((next.in_state(KeyState::Active).len(), next.in_state(KeyState::PreActive).len()), (1, 1));
        check(&next.rig, token, &left).await;
    }
}

#[tokio::test]
async fn an_operator_who_asks_again_gets_whole_pairs() {
    for half in HALVES {
        let rig = Rig::new().await;
        let token = rig.token("one").clone();
        token.halve_next(half);
        let lost = rig.keys.create(&caller("dns:o.example"), rig.create("r1")).await.unwrap_err();
        assert_eq!(lost.reason, Reason::HsmUnavailable);
        let left = token.halves();
        until_back(&rig).await;
        let changed = rig.keys.create(&caller("dns:o.example"), rig.create("r1")).await.unwrap();
        assert_eq!((left.len(), changed.keys.len()), (1, 4), "{half:?}");
        check(&rig, &token, &left).await;
    }
}

#[tokio::test]
async fn two_halves_are_as_good_as_one() {
    let rig = Rig::new().await;
    let (token, one) = (rig.token("one").clone(), "one".parse::<HsmName>().unwrap());
    HALVES.into_iter().for_each(|half| token.halve_next(half));
    for _ in HALVES {
        rig.keys.ensure_custody_key(&one).await.unwrap_err();
        until_back(&rig).await;
    }
    let left = token.halves();
    // What fails without a trace is no half.
    token.fail_next(Call::Generate, 1, FaultClass::Request);
    rig.keys.ensure_custody_key(&one).await.unwrap_err();
    rig.keys.ensure_custody_key(&one).await.unwrap();
    assert_eq!(left.len(), 2);
    check(&rig, &token, &left).await;
}
