use hallmark_core::{
    client::Custody,
    error::Reason,
    evidence::{
        Nonce,
        roots::Roots,
        verify::{Report, Trust, verify},
    },
    key::{KeyState, Purpose},
    ports::FaultClass,
    time::Timestamp,
};
use hallmark_testkit::fake_hsm::Call;

use crate::service::fixture::{Rig, caller};

fn nonce() -> Nonce {
    Nonce::new(vec![9; 16]).unwrap()
}

/// A rig with keys, and one of them that signs.
async fn rig() -> (Rig, String) {
    let rig = Rig::new().await;
    rig.keys.ensure_custody_key(&"one".parse().unwrap()).await.unwrap();
    rig.keys.create(&caller("dns:o.example"), rig.create("r1")).await.unwrap();
    let keys = rig.context.keyring.keys().clone();
    let active = keys.records.iter().find(|key| key.state == KeyState::Active && key.purpose == Purpose::Assertion);
    let kid = active.unwrap().public.as_ref().unwrap().kid.to_string();
    (rig, kid)
}

/// What an auditor finds who knows the custody key.
fn verified(rig: &Rig, file: &str) -> Report {
    let keys = rig.context.keyring.keys().clone();
    let custody = keys.records.iter().find(|key| key.purpose == Purpose::Custody).unwrap();
    let trust = Trust {
        custody_keys: vec![custody.public.as_ref().unwrap().key.clone()],
        roots: Roots::none(),
        nonce: Some(nonce()),
        now: Timestamp::from_secs(1_800_000_000),
    };
    verify(file, &trust)
}

#[tokio::test]
async fn a_viewer_gets_evidence_that_holds_and_both_signatures_are_audited() {
    let (rig, kid) = rig().await;
    let viewer = caller("dns:v.example");
    let evidence = rig.keys.evidence(&viewer, &kid, nonce()).await.unwrap();
    let report = verified(&rig, &evidence.compact);
    assert!(report.holds(), "{report:?}");
    assert_eq!(report.custody, Some(Custody::Local));
    let document = report.document.unwrap();
    assert_eq!((document.client.as_deref(), document.hsm.module.as_str()), (Some("c"), "fake"));
    let kinds = rig.audit.all("sign-intent", "kind");
    assert_eq!(kinds, ["possession", "evidence"]);
    assert!(rig.audit.all("sign-intent", "who").iter().all(|who| who == "dns:v.example"));
    assert_eq!(rig.audit.all("sign-outcome", "outcome"), ["done", "done"]);
}

#[tokio::test]
async fn a_custody_key_shows_its_own_custody() {
    let (rig, _) = rig().await;
    let keys = rig.context.keyring.keys().clone();
    let custody = keys.custody(&"one".parse().unwrap()).unwrap().kid.to_string();
    let evidence = rig.keys.evidence(&caller("dns:v.example"), &custody, nonce()).await.unwrap();
    let report = verified(&rig, &evidence.compact);
    assert!(report.holds(), "{report:?}");
    assert_eq!(report.document.unwrap().purpose, "custody");
}

#[tokio::test]
async fn who_is_no_operator_gets_none() {
    let (rig, kid) = rig().await;
    let refused = rig.keys.evidence(&caller("dns:w.example"), &kid, nonce()).await.unwrap_err();
    assert_eq!(refused.reason, Reason::NotAnOperator);
    assert!(rig.audit.all("sign-intent", "kind").is_empty());
}

#[tokio::test]
async fn nothing_is_given_out_that_is_not_in_the_log() {
    let (rig, kid) = rig().await;
    rig.audit.stuck.store(true, std::sync::atomic::Ordering::SeqCst);
    let viewer = caller("dns:v.example");
    let asked = rig.keys.evidence(&viewer, &kid, nonce());
    assert!(tokio::time::timeout(std::time::Duration::from_millis(200), asked).await.is_err());
    // The one that the key signed is under way; the custody key has not been asked.
    assert_eq!(rig.audit.all("sign-intent", "kind"), ["possession"]);
}

#[tokio::test]
async fn a_key_that_ended_and_an_hsm_that_fails_give_none() {
    let (rig, kid) = rig().await;
    let viewer = caller("dns:v.example");
    let unknown = rig.keys.evidence(&viewer, "nobody", nonce()).await.unwrap_err();
    assert_eq!(unknown.reason, Reason::KeyNotFound);
    rig.token("one").fail_next(Call::Evidence, 1, FaultClass::KeyAbsent);
    let absent = rig.keys.evidence(&viewer, &kid, nonce()).await.unwrap_err();
    assert_eq!(absent.reason, Reason::KeyAbsent);
    rig.token("one").fail_next(Call::Sign, 1, FaultClass::Request);
    let refused = rig.keys.evidence(&viewer, &kid, nonce()).await.unwrap_err();
    assert_eq!(refused.reason, Reason::HsmRefused);
    assert_eq!(rig.audit.all("sign-outcome", "outcome"), ["failed"]);
}

#[tokio::test]
async fn a_key_that_can_leave_has_no_custody_to_show() {
    let (rig, kid) = rig().await;
    let keys = rig.context.keyring.keys().clone();
    let record = keys.by_kid(&kid).unwrap();
    rig.token("one").spoil(&record.cka_id);
    let refused = rig.keys.evidence(&caller("dns:v.example"), &kid, nonce()).await.unwrap_err();
    assert_eq!(refused.reason, Reason::CustodyTooWeak);
    assert!(refused.message.contains("can be extracted"), "{refused}");
}
