//! What a client's policy says of custody counts for its next signature.

use hallmark_core::{client::Custody, evidence::roots::Roots};
use hallmark_testkit::attestation::Maker;

use super::*;
use crate::service::{
    fixture::{client, operator, workload},
    registry::Registered,
};

/// Puts a policy in force, as a reload does.
async fn reload(rig: &Rig, custody: Custody, roots: Roots) {
    let clients = vec![Client { custody, ..client(&["one".parse().unwrap()]) }];
    let operators = vec![operator("dns:o.example")];
    rig.context.registry.replace(Registered::new(clients, vec![workload()], operators).with_roots(Arc::new(roots)));
    rig.keys.reload().await.unwrap();
}

fn roots(maker: &Maker) -> Roots {
    Roots::none().with_pem(maker.root_pem().as_bytes()).unwrap()
}

async fn refused(sign: &Sign) -> String {
    let error = ask(sign, PATIENCE).await.unwrap_err();
    assert_eq!(error.reason, Reason::CustodyTooWeak, "{error}");
    error.detail.unwrap_or_default()
}

#[tokio::test]
async fn attested_keys_are_made_kept_and_judged_anew_by_each_policy() {
    let (rig, maker) = (Rig::new().await, Arc::new(Maker::unknown()));
    rig.token("one").set_maker(Some(maker.clone()));
    reload(&rig, Custody::Attested, roots(&maker)).await;
    rig.keys.create(&caller("dns:o.example"), rig.create("r1")).await.unwrap();
    assert!(
        rig.context.keyring.keys().records.iter().all(|record| record.attestation.len() == 2),
        "kept with the record"
    );
    let sign = Sign::new(rig.context.clone(), Arc::new(Metrics::new()));
    ask(&sign, PATIENCE).await.unwrap();
    reload(&rig, Custody::Attested, Roots::yubico()).await;
    assert!(refused(&sign).await.contains("does not lead to a root"));
    reload(&rig, Custody::Local, Roots::yubico()).await;
    ask(&sign, PATIENCE).await.unwrap();
    reload(&rig, Custody::Attested, roots(&maker)).await;
    ask(&sign, PATIENCE).await.unwrap();
}

#[tokio::test]
async fn keys_that_nobody_attests_are_refused_when_the_policy_is_raised() {
    let (rig, sign) = with_keys().await;
    let maker = Maker::unknown();
    ask(&sign, PATIENCE).await.unwrap();
    reload(&rig, Custody::Attested, roots(&maker)).await;
    assert!(refused(&sign).await.contains("gave no attestation"));
    assert!(rig.audit.all("sign-intent", "kid").len() == 1, "nothing was asked of the HSM");
    reload(&rig, Custody::Local, roots(&maker)).await;
    ask(&sign, PATIENCE).await.unwrap();
}

#[tokio::test]
async fn where_attested_keys_are_wanted_none_are_made_that_are_not() {
    let (rig, maker) = (Rig::new().await, Maker::unknown());
    // One whom nobody trusts.
    for attests in [None, Some(Arc::new(Maker::unknown()))] {
        rig.token("one").set_maker(attests);
        reload(&rig, Custody::Attested, roots(&maker)).await;
        let refused = rig.keys.create(&caller("dns:o.example"), rig.create("r1")).await.unwrap_err();
        assert_eq!(refused.reason, Reason::CustodyTooWeak);
    }
    assert!(rig.context.keyring.keys().records.iter().all(|record| record.public.is_none()));
}
