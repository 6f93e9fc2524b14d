use std::collections::HashMap;

use hallmark_core::{
    error::Reason,
    key::{Alg, HsmName, KeySpec, KeyState, Origin, Purpose},
};
use hallmark_testkit::fake_hsm::Call;

use crate::service::{
    fixture::{Rig, caller, client, operator, workload},
    readiness::Readiness,
    registry::Registered,
};

const NAMED: &[u8] = &[5];

fn hsm() -> HsmName {
    "one".parse().unwrap()
}

/// An HSM with a pair of another program's making, which the configuration names as its custody key.
async fn with_named_key(alg: Alg) -> Rig {
    let rig = Rig::new().await;
    let spec = KeySpec { alg, rsa_bits: KeySpec::DEFAULT_RSA_BITS };
    rig.context.pools[&hsm()].generate(NAMED.to_vec(), "made elsewhere".into(), spec).await.unwrap();
    let registered = Registered::new(vec![client(&[hsm()])], vec![workload()], vec![operator("dns:o.example")]);
    rig.context.registry.replace(registered.with_custody_keys(HashMap::from([(hsm(), NAMED.to_vec())])));
    rig
}

#[tokio::test]
async fn the_pair_that_the_configuration_names_becomes_the_custody_key() {
    let rig = with_named_key(Alg::ES256).await;
    rig.keys.ensure_custody_key(&hsm()).await.unwrap();
    rig.keys.ensure_custody_key(&hsm()).await.unwrap();
    let keys = rig.context.keyring.keys().clone();
    let [record] = keys.records.as_slice() else { panic!("{:?}", keys.records) };
    let shown = (record.purpose, record.state, record.origin, record.cka_id.as_slice());
    assert_eq!(shown, (Purpose::Custody, KeyState::Active, Origin::Adopted, NAMED));
    assert_eq!(rig.audit.all("key-intent", "action"), ["adopt"]);
    assert_eq!(Readiness::new(rig.context.clone()).sign().await, Ok(()));
    assert_eq!(rig.audit.all("sign-intent", "kind"), ["possession", "probe"]);
}

/// It would only be refused, by a token that lets nobody but its own tools make keys.
#[tokio::test]
async fn where_the_custody_key_is_named_no_key_is_made() {
    let rig = with_named_key(Alg::ES256).await;
    rig.keys.ensure_custody_key(&hsm()).await.unwrap();
    let refused = rig.keys.create(&caller("dns:o.example"), rig.create("r1")).await.unwrap_err();
    assert_eq!(refused.reason, Reason::HsmRefused);
    assert!(refused.message.contains("`hallmark keys adopt` takes it in"), "{refused}");
    assert_eq!(rig.token("one").calls(Call::Generate), 1, "but for the one of the other program");
    assert_eq!(rig.context.keyring.keys().records.len(), 1, "nothing was reserved");
}

#[tokio::test]
async fn what_is_not_as_good_as_one_of_hallmarks_own_is_not_taken() {
    let rig = with_named_key(Alg::EdDSA).await;
    let refused = rig.keys.ensure_custody_key(&hsm()).await.unwrap_err();
    assert_eq!(refused.reason, Reason::AlgUnsupported, "{refused}");

    let rig = with_named_key(Alg::ES256).await;
    rig.token("one").spoil(NAMED);
    let refused = rig.keys.ensure_custody_key(&hsm()).await.unwrap_err();
    assert_eq!(refused.reason, Reason::CustodyTooWeak, "{refused}");

    let rig = with_named_key(Alg::ES256).await;
    rig.token("one").forge_next(1);
    let refused = rig.keys.ensure_custody_key(&hsm()).await.unwrap_err();
    assert_eq!(refused.reason, Reason::KeyAbsent, "{refused}");
    assert!(rig.context.keyring.keys().records.is_empty());
    rig.keys.ensure_custody_key(&hsm()).await.unwrap();
}
