//! Changes that wait for a second operator, and those that nobody decides about.

use std::{sync::Arc, time::Duration};

use hallmark_core::{
    policy::Guarded,
    ports::{ApprovalStore, ChangeState, KeyChange, Proposal, Proposed},
};

use super::rig::World;
use crate::{
    service::{
        fixture::{PATIENCE, caller},
        keys::{AlterRequest, Alteration, Approvals},
    },
    store::SqliteStore,
};

#[tokio::test]
async fn what_nobody_decides_about_is_counted_ends_and_is_audited() {
    let store = Arc::new(SqliteStore::open("sqlite::memory:").await.unwrap());
    let mut world = World::new(&["one"]).await;
    let require = vec![Guarded::Force];
    world.approvals = Some(Approvals { store: store.clone(), require, patience: Duration::from_hours(24) });
    let process = world.start().await;
    process.settle().await;
    let what = Alteration::Rotate { client: "c".parse().unwrap(), alg: None };
    let rotate = AlterRequest { request_id: "r1".into(), reason: "drill".into(), what, force: true };
    let waiting = process.rig.keys.alter(&caller("dns:d.example"), rotate).await.unwrap().change;
    assert_eq!(waiting.state, ChangeState::AwaitingApproval);
    propose_for_a_moment(&store, &waiting).await;

    let ended = async {
        loop {
            process.round().await;
            if let [left] = &store.undecided().await.unwrap()[..] {
                return left.change.id.clone();
            }
        }
    };
    let left = tokio::time::timeout(PATIENCE, ended).await.expect("it ends");
    assert_eq!((left, process.metric("hallmark_changes_waiting")), (waiting.id.clone(), 1.0));
    process.settle().await;
    let events = process.rig.audit.events();
    let of_end: Vec<_> = events.iter().filter(|event| event["action"] == "expire").collect();
    let text = |event: &serde_json::Value, field: &str| event[field].as_str().unwrap().to_owned();
    let kinds: Vec<_> = of_end.iter().map(|event| ["event", "change", "who"].map(|field| text(event, field))).collect();
    assert_eq!(kinds, [["key-intent", "over", "hallmark"], ["key-outcome", "over", "hallmark"]]);
    assert!(of_end[0]["subject"].as_str().unwrap().ends_with("of dns:d.example"), "{of_end:?}");

    process.rig.keys.deny(&caller("dns:d.example"), &waiting.id, "no").await.unwrap();
    process.round().await;
    assert_eq!(process.metric("hallmark_changes_waiting"), 0.0, "what is decided waits no more");
}

/// One whose time is over as soon as it is there.
async fn propose_for_a_moment(store: &SqliteStore, like: &KeyChange) {
    let Proposed { payload, plan, credential, .. } = store.proposed(&like.id).await.unwrap().unwrap();
    let proposal = Proposal { payload, plan, credential, patience: Duration::from_millis(1) };
    let change = KeyChange { id: "over".into(), request_id: "r2".into(), ..like.clone() };
    store.propose(&change, &proposal).await.unwrap();
}
