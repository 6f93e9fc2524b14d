mod custody;
mod fair;

use std::sync::atomic::Ordering;

use hallmark_core::{policy::Claims, ports::FaultClass};
use hallmark_testkit::fake_hsm::Call;

use super::*;
use crate::service::{
    fixture::{PATIENCE, Rig, caller},
    keys::{AlterRequest, Alteration},
};

fn request() -> AssertionRequest {
    AssertionRequest {
        client: "c".parse().unwrap(),
        alg: None,
        audience: None,
        lifetime: None,
        scope: None,
        claims: Claims::default(),
    }
}

async fn with_keys() -> (Rig, Sign) {
    let rig = Rig::new().await;
    rig.keys.create(&caller("dns:o.example"), rig.create("r1")).await.unwrap();
    let sign = Sign::new(rig.context.clone(), Arc::new(Metrics::new()));
    (rig, sign)
}

async fn ask(sign: &Sign, timeout: Duration) -> Result<Reply, Error> {
    sign.sign(&caller("dns:w.example"), request(), Instant::now() + timeout, "id").await
}

#[tokio::test]
async fn an_outage_writes_no_intents() {
    let (rig, sign) = with_keys().await;
    ask(&sign, PATIENCE).await.unwrap();
    rig.token("one").set_unplugged(true);
    let lost = ask(&sign, PATIENCE).await.unwrap_err();
    let intents = rig.audit.all("sign-intent", "request").len();
    for _ in 0..20 {
        assert_eq!(ask(&sign, PATIENCE).await.unwrap_err().reason, lost.reason);
    }
    assert_eq!(rig.audit.all("sign-intent", "request").len(), intents);
    assert_eq!(rig.audit.all("refused", "reason"), ["HSM_UNAVAILABLE"; 20]);
}

#[tokio::test]
async fn a_caller_that_hangs_up_leaves_an_outcome() {
    let (rig, sign) = with_keys().await;
    let hanging = rig.token("one").hang(Call::Sign);
    tokio::select! {
        biased;
        _ = ask(&sign, PATIENCE) => panic!("the token hangs"),
        () = tokio::task::yield_now() => {}
    }
    drop(hanging);
    assert_eq!(rig.audit.all("sign-intent", "request"), ["id"]);
    assert_eq!(rig.audit.all("sign-outcome", "reason"), ["CANCELLED"]);
}

#[tokio::test]
async fn each_intent_has_one_outcome() {
    let (rig, sign) = with_keys().await;
    ask(&sign, PATIENCE).await.unwrap();
    rig.token("one").fail_next(Call::Sign, 1, FaultClass::Request);
    assert_eq!(ask(&sign, PATIENCE).await.unwrap_err().reason, Reason::HsmRefused);
    assert_eq!(rig.audit.all("sign-intent", "request").len(), 2);
    assert_eq!(rig.audit.all("sign-outcome", "outcome"), ["done", "failed"]);
}

#[tokio::test]
async fn a_disk_that_hangs_keeps_no_caller_beyond_its_deadline() {
    let (rig, sign) = with_keys().await;
    rig.audit.stuck.store(true, Ordering::SeqCst);
    let answer = tokio::time::timeout(PATIENCE, ask(&sign, Duration::from_millis(300))).await;
    let late = answer.expect("it answers in time").unwrap_err();
    assert_eq!(late.reason, Reason::DeadlineExceeded);
}

#[tokio::test]
async fn a_key_that_is_revoked_while_a_disk_hangs_gives_nothing_out_when_it_is_back() {
    let (rig, sign) = with_keys().await;
    let kid = ask(&sign, PATIENCE).await.unwrap().assertion.kid;
    rig.audit.stuck.store(true, Ordering::SeqCst);
    let asked = tokio::spawn(async move { ask(&sign, PATIENCE).await });
    let signed = async {
        while rig.audit.all("sign-outcome", "outcome").len() < 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, signed).await.expect("it is signed, and waits for the disk");
    let what = Alteration::Revoke { kid };
    let revoke = AlterRequest { request_id: "r2".into(), reason: "lost".into(), what, force: false };
    rig.keys.alter(&caller("dns:o.example"), revoke).await.unwrap();
    rig.audit.unstick();
    let refused = asked.await.unwrap().map(|reply| reply.assertion.kid).unwrap_err();
    assert_eq!(refused.reason, Reason::KeyChanged);
}
