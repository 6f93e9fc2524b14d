use hallmark_core::{
    error::Reason,
    key::{Alg, HsmName, KeySpec, KeyState},
    ports::FaultClass,
};
use hallmark_testkit::fake_hsm::Call;

use crate::service::{
    fixture::{Rig, caller},
    keys::{AdoptRequest, ObjectRef},
};

async fn with_a_stray() -> Rig {
    let rig = Rig::new().await;
    let hsm: HsmName = "one".parse().unwrap();
    let spec = KeySpec { alg: Alg::ES256, rsa_bits: 0 };
    rig.context.pools[&hsm].generate(vec![5], "stray".into(), spec).await.unwrap();
    rig
}

fn adopt(request_id: &str) -> AdoptRequest {
    AdoptRequest {
        request_id: request_id.into(),
        reason: "test".into(),
        client: "c".parse().unwrap(),
        alg: None,
        hsm: None,
        object: ObjectRef::CkaId(vec![5]),
        kid: None,
    }
}

/// Halves of two keys under one `CKA_ID` look like a pair until one signs.
#[tokio::test]
async fn a_pair_whose_halves_are_not_of_one_key_is_not_taken_in() {
    let rig = with_a_stray().await;
    rig.token("one").forge_next(1);
    let refused = rig.keys.adopt(&caller("dns:o.example"), adopt("r1")).await.unwrap_err();
    assert_eq!(refused.reason, Reason::KeyAbsent);
    assert!(refused.message.contains("they are not of one key"), "{refused}");
    assert!(rig.context.keyring.keys().records.is_empty(), "nothing is on record, and nothing published");
    assert_eq!(rig.audit.all("sign-intent", "kind"), ["possession"]);
    assert_eq!(rig.audit.all("sign-outcome", "outcome"), ["failed"]);
    let pool = rig.context.pools.values().next().unwrap();
    assert!(pool.quarantined().is_empty(), "a key of nobody counts against nobody");

    let changed = rig.keys.adopt(&caller("dns:o.example"), adopt("r2")).await.unwrap();
    assert_eq!(changed.keys[0].state, KeyState::Active);
}

/// The operator is the one who has to hear why.
#[tokio::test]
async fn why_the_hsm_does_not_sign_is_told_to_who_wants_the_key_taken_in() {
    let rig = with_a_stray().await;
    rig.token("one").fail_next(Call::Sign, 1, FaultClass::Request);
    let refused = rig.keys.adopt(&caller("dns:o.example"), adopt("r1")).await.unwrap_err();
    assert_eq!(refused.reason, Reason::HsmRefused);
    assert!(refused.message.ends_with("the HSM does not sign with it: C_Sign: fake request"), "{refused}");
}
