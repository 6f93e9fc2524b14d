use std::sync::atomic::{AtomicBool, Ordering};

use hallmark_core::ports::{KeyStore, Pending};
use tokio::sync::Notify;

use super::*;
use crate::{
    service::fixture::{PATIENCE, Rig, caller},
    store::SqliteStore,
};

/// Holds back the answer to the next decision, once it is written.
struct HeldApprovals {
    inner: Arc<SqliteStore>,
    hold: AtomicBool,
    held: Notify,
    release: Notify,
}

impl ApprovalStore for HeldApprovals {
    fn propose<'a>(&'a self, change: &'a KeyChange, proposal: &'a Proposal) -> Pending<'a, BegunChange> {
        self.inner.propose(change, proposal)
    }

    fn proposed<'a>(&'a self, id: &'a str) -> Pending<'a, Option<Proposed>> {
        self.inner.proposed(id)
    }

    fn all_proposed(&self, most: u32) -> Pending<'_, Vec<Proposed>> {
        self.inner.all_proposed(most)
    }

    fn undecided(&self) -> Pending<'_, Vec<Proposed>> {
        self.inner.undecided()
    }

    fn expire<'a>(&'a self, id: &'a str) -> Pending<'a, bool> {
        self.inner.expire(id)
    }

    fn decide<'a>(&'a self, id: &'a str, decision: &'a Decision) -> Pending<'a, Decided> {
        Box::pin(async {
            let decided = self.inner.decide(id, decision).await;
            if self.hold.swap(false, Ordering::SeqCst) {
                self.held.notify_one();
                self.release.notified().await;
            }
            decided
        })
    }
}

/// A rig with keys, whose forced changes wait for a second operator.
struct Two {
    rig: Rig,
    guarded: Keys,
    approvals: Arc<HeldApprovals>,
}

impl Two {
    async fn new() -> Self {
        let store = Arc::new(SqliteStore::open("sqlite::memory:").await.unwrap());
        let rig = Rig::on(&["one"], store.clone() as Arc<dyn KeyStore>).await;
        rig.keys.create(&caller("dns:o.example"), rig.create("r1")).await.unwrap();
        let (hold, held, release) = (false.into(), Notify::new(), Notify::new());
        let approvals = Arc::new(HeldApprovals { inner: store, hold, held, release });
        let patience = Duration::from_hours(1);
        let settings = Approvals { store: approvals.clone(), require: vec![Guarded::Force], patience };
        Self { guarded: rig.keys.clone().with_approvals(settings), rig, approvals }
    }

    /// A rotation that two must agree to.
    async fn proposed(&self) -> String {
        let waiting = self.guarded.alter(&caller(DESTROYER), rotate("r2")).await.unwrap();
        assert_eq!(waiting.change.state, ChangeState::AwaitingApproval);
        waiting.change.id
    }

    /// Another operator approves it, and it is held back once that is written.
    async fn held_approval(&self, id: &str) -> tokio::task::JoinHandle<Result<Changed, Error>> {
        self.approvals.hold.store(true, Ordering::SeqCst);
        let (keys, id) = (self.guarded.clone(), id.to_owned());
        let approving = tokio::spawn(async move { keys.approve(&caller(APPROVER), &id, "seen").await });
        let held = self.approvals.held.notified();
        tokio::time::timeout(PATIENCE, held).await.expect("it is decided");
        approving
    }

    async fn state(&self, id: &str) -> ChangeState {
        self.approvals.proposed(id).await.unwrap().unwrap().change.state
    }

    fn active(&self) -> Vec<String> {
        let keys = self.rig.context.keyring.keys();
        let active = keys.records.iter().filter(|key| key.state == hallmark_core::key::KeyState::Active);
        active.filter_map(|key| Some(key.public.as_ref()?.kid.to_string())).collect()
    }
}

fn rotate(request_id: &str) -> AlterRequest {
    let what = Alteration::Rotate { client: "c".parse().unwrap(), alg: Some("ES256".parse().unwrap()) };
    AlterRequest { request_id: request_id.into(), reason: "drill".into(), what, force: true }
}

/// What registering the client anew gave.
fn register(request_id: &str, client_id: &str) -> RegistrationRequest {
    let (request_id, client_id) = (request_id.into(), client_id.into());
    let (client, reason) = ("c".parse().unwrap(), "registered anew".into());
    RegistrationRequest { request_id, reason, client, client_id, registration_uri: None, force: true }
}

const DESTROYER: &str = "dns:d.example";
const APPROVER: &str = "dns:e.example";

#[tokio::test]
async fn an_approved_change_is_carried_out_where_the_approver_hangs_up() {
    let two = Two::new().await;
    let (id, before) = (two.proposed().await, two.active());
    let approving = two.held_approval(&id).await;
    approving.abort();
    assert!(approving.await.unwrap_err().is_cancelled());
    two.approvals.release.notify_one();
    let applied = async {
        while two.state(&id).await != ChangeState::Applied {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, applied).await.expect("nobody else could carry it out");
    assert_ne!(two.active(), before);
}

#[tokio::test]
async fn an_approval_that_the_audit_log_lost_can_be_given_once_more() {
    let two = Two::new().await;
    let (id, before) = (two.proposed().await, two.active());
    let approving = two.held_approval(&id).await;
    two.rig.audit.broken.store(true, Ordering::SeqCst);
    two.approvals.release.notify_one();
    assert_eq!(approving.await.unwrap().unwrap_err().reason, Reason::AuditUnavailable);
    assert_eq!((two.state(&id).await, two.active()), (ChangeState::Failed, before.clone()), "nothing was done");
    two.rig.audit.broken.store(false, Ordering::SeqCst);
    let done = two.guarded.approve(&caller(APPROVER), &id, "seen").await.unwrap();
    assert_eq!(done.change.state, ChangeState::Applied);
    assert_ne!(two.active(), before);
}

#[tokio::test]
async fn what_nobody_agreed_to_is_not_done_however_late_others_came() {
    let two = Two::new().await;
    let id = two.proposed().await;
    let approving = two.held_approval(&id).await;
    // The same rotation by another way, and a new standby: there is one more to be made.
    two.rig.keys.alter(&caller(DESTROYER), rotate("r3")).await.unwrap();
    let line = two.rig.context.keyring.keys().records.iter().find_map(|key| key.line()).unwrap();
    let es256 = hallmark_core::key::KeyLine { alg: "ES256".parse().unwrap(), ..line };
    two.rig.keys.act(&es256).await.unwrap();
    let between = two.active();
    two.approvals.release.notify_one();
    assert_eq!(approving.await.unwrap().unwrap_err().reason, Reason::ChangeOutdated);
    assert_eq!((two.active(), two.state(&id).await), (between, ChangeState::Failed));
}

#[tokio::test]
async fn a_registration_that_nobody_agreed_to_is_not_recorded_however_late_others_came() {
    let two = Two::new().await;
    let proposed = two.guarded.record_registration(&caller(DESTROYER), register("r2", "second")).await.unwrap().change;
    assert_eq!(proposed.state, ChangeState::AwaitingApproval);
    let approving = two.held_approval(&proposed.id).await;
    two.rig.keys.record_registration(&caller(DESTROYER), register("r3", "third")).await.unwrap();
    two.approvals.release.notify_one();
    assert_eq!(approving.await.unwrap().unwrap_err().reason, Reason::ChangeOutdated);
    let client_id = two.guarded.registration(&proposed.client).unwrap().client_id;
    assert_eq!((client_id.as_str(), two.state(&proposed.id).await), ("third", ChangeState::Failed));
}

#[tokio::test]
async fn who_proposed_it_approves_nothing_with_another_credential_either() {
    let two = Two::new().await;
    let id = two.proposed().await;
    let credential = Credential::Certificate { key: "renewed".into() };
    let renewed = Caller { credential, ..caller(DESTROYER) };
    assert_eq!(two.guarded.approve(&renewed, &id, "mine").await.unwrap_err().reason, Reason::SameOperator);
    assert_eq!(two.state(&id).await, ChangeState::AwaitingApproval);
}
