//! Changes that need two operators: over gRPC, by command, on two replicas, over restarts.

use std::{process::Command, time::Duration};

use hallmark_proto::v1::{
    ApproveChangeRequest, DenyChangeRequest, DestroyKeyRequest, KeyChange, KeyState, ListChangesRequest,
    ListKeysRequest, RecordRegistrationRequest, RecordRegistrationResponse, RevokeKeyRequest, RotateKeysRequest,
    key_change::State,
};
use hallmark_testkit::postgres::Postgres;

use crate::support::{Caller, HALLMARK, Refusal, Server, Site, audit_log, claims, eventually};

const ANN: &str = "spiffe://test.example/ops";
const BOB: &str = "spiffe://test.example/bob";
const EVE: &str = "spiffe://test.example/eve";

/// What is forced, and destruction, wait. Three may do it all.
fn site() -> Site {
    let mut site = Site::new();
    for id in [BOB, EVE] {
        site.append(&format!("\n[[operator]]\nid = \"{id}\"\nroles = [\"destroy\"]\n"));
    }
    site.append("\n[approval]\nrequire = [\"destroy\", \"force\"]\n");
    site
}

fn bob(site: &Site, server: &Server) -> Caller {
    server.caller(Some(&site.ca.client(BOB)))
}

async fn rotate(who: &Caller, request_id: &str) -> Result<KeyChange, Refusal> {
    let (request_id, reason, client) = (request_id.to_owned(), "drill".to_owned(), "demo".to_owned());
    let request = RotateKeysRequest { request_id, reason, client, force: true, ..Default::default() };
    Ok(who.keys().rotate_keys(request).await?.into_inner().change.unwrap())
}

async fn approve(who: &Caller, id: &str) -> Result<KeyChange, Refusal> {
    let request = ApproveChangeRequest { change_id: id.to_owned(), reason: "seen".to_owned() };
    Ok(who.keys().approve_change(request).await?.into_inner().change.unwrap())
}

async fn deny(who: &Caller, id: &str) -> Result<KeyChange, Refusal> {
    let request = DenyChangeRequest { change_id: id.to_owned(), reason: "no".to_owned() };
    Ok(who.keys().deny_change(request).await?.into_inner().change.unwrap())
}

async fn active(who: &Caller) -> String {
    let request = ListKeysRequest { client: "demo".to_owned(), ..Default::default() };
    let keys = who.keys().list_keys(request).await.unwrap().into_inner().keys;
    keys.into_iter().find(|key| key.state() == KeyState::Active).map(|key| key.kid).unwrap_or_default()
}

async fn state_of(who: &Caller, id: &str) -> State {
    let listed = who.keys().list_changes(ListChangesRequest {}).await.unwrap().into_inner().changes;
    listed.into_iter().find(|change| change.id == id).map_or(State::Unspecified, |change| change.state())
}

#[tokio::test]
async fn what_is_forced_waits_for_another_operator() {
    let site = site();
    let server = site.start();
    server.ready().await;
    let (ann, bob) = (server.ops(), bob(&site, &server));
    let before = active(&ann).await;
    let waiting = rotate(&ann, "r1").await.unwrap();
    assert_eq!(waiting.state(), State::AwaitingApproval);
    let approval = waiting.approval.unwrap();
    assert_eq!((approval.proposed_by.as_str(), approval.reason.as_str()), (ANN, "drill"));
    assert!(approval.plan.iter().any(|line| line.contains(&before) && line.contains("deactivated")), "{approval:?}");
    assert_eq!(active(&ann).await, before, "nothing has happened");
    // Asking again is asking once.
    assert_eq!(rotate(&ann, "r1").await.unwrap().id, waiting.id);

    // Not the same name, nor the same key under another one.
    assert_eq!(approve(&ann, &waiting.id).await.unwrap_err().reason, "SAME_OPERATOR");
    assert_eq!(approve(&bob, "no-such").await.unwrap_err().reason, "CHANGE_NOT_FOUND");
    assert_eq!(active(&ann).await, before);

    let done = approve(&bob, &waiting.id).await.unwrap();
    assert_eq!((done.state(), done.id.as_str()), (State::Applied, waiting.id.as_str()));
    let after = active(&ann).await;
    assert_ne!(after, before);
    // Twice is once, by whoever did it; by others it is over.
    assert_eq!(approve(&bob, &waiting.id).await.unwrap().state(), State::Applied);
    assert_eq!(active(&ann).await, after);
    assert_eq!(rotate(&ann, "r1").await.unwrap().state(), State::Applied);
    assert_eq!(deny(&ann, &waiting.id).await.unwrap_err().reason, "CHANGE_DECIDED");

    // Who and why, both, under one id.
    let events = crate::support::audit_log::read(&site.audit_dir(), "test");
    let of_change: Vec<_> = events.iter().filter(|event| event["change"] == waiting.id.as_str()).collect();
    let who_did = |action: &str| {
        let found = of_change.iter().find(|event| event["action"] == action);
        found.map(|event| event["who"].as_str().unwrap_or_default().to_owned()).unwrap_or_default()
    };
    assert_eq!((who_did("propose"), who_did("approve"), who_did("move")), (ANN.into(), BOB.into(), ANN.into()));
    let moved = of_change.iter().find(|event| event["action"] == "move").unwrap();
    assert!(moved["reason"].as_str().unwrap().contains(&format!("approved by {BOB}: seen")), "{moved}");
}

#[tokio::test]
async fn nobody_agreed_to_what_it_would_do_now() {
    let site = site();
    let server = site.start();
    server.ready().await;
    let (ann, bob) = (server.ops(), bob(&site, &server));
    let [one, two] = [rotate(&ann, "r1").await.unwrap().id, rotate(&ann, "r2").await.unwrap().id];
    approve(&bob, &one).await.unwrap();
    let signs = active(&ann).await;
    let refused = approve(&bob, &two).await.unwrap_err();
    assert!(matches!(refused.reason.as_str(), "CHANGE_OUTDATED" | "GATE_SHUT"), "{refused:?}");
    assert_eq!(active(&ann).await, signs);
    // Its proposer takes it back; then it is over for everyone.
    assert_eq!(deny(&ann, &two).await.unwrap().state(), State::Denied);
    assert_eq!(deny(&ann, &two).await.unwrap().state(), State::Denied);
    assert_eq!(approve(&bob, &two).await.unwrap_err().reason, "CHANGE_DECIDED");
    assert_eq!(rotate(&ann, "r2").await.unwrap_err().reason, "CHANGE_DECIDED");
}

#[tokio::test]
async fn a_key_is_revoked_at_once_and_destroyed_by_two() {
    let site = site();
    let server = site.start();
    server.ready().await;
    let (ann, bob) = (server.ops(), bob(&site, &server));
    let kid = active(&ann).await;
    let text = str::to_owned;
    let revoke = RevokeKeyRequest { request_id: text("r1"), reason: text("stolen"), kid: kid.clone() };
    let revoked = ann.keys().revoke_key(revoke).await.unwrap().into_inner().change.unwrap();
    assert_eq!(revoked.state(), State::Applied, "an emergency waits for nobody");

    let destroy = DestroyKeyRequest { request_id: text("r2"), reason: text("gone"), kid: kid.clone(), force: false };
    let waiting = ann.keys().destroy_key(destroy).await.unwrap().into_inner().change.unwrap();
    assert_eq!(waiting.state(), State::AwaitingApproval);
    let done = approve(&bob, &waiting.id).await.unwrap();
    assert_eq!((done.state(), done.keys[0].state()), (State::Applied, KeyState::Destroyed));
}

#[tokio::test]
async fn what_waits_survives_a_restart_and_a_proposer_who_may_no_longer() {
    let mut site = site();
    let server = site.start();
    server.ready().await;
    let waiting = rotate(&server.ops(), "r1").await.unwrap();
    let of_eve = rotate(&server.caller(Some(&site.ca.client(EVE))), "r2").await.unwrap();
    server.stop().await;

    site.replace(&format!("id = \"{EVE}\"\nroles = [\"destroy\"]"), &format!("id = \"{EVE}\"\nroles = [\"view\"]"));
    let server = site.start();
    server.ready().await;
    let bob = bob(&site, &server);
    assert_eq!(state_of(&bob, &waiting.id).await, State::AwaitingApproval);
    assert_eq!(approve(&bob, &of_eve.id).await.unwrap_err().reason, "CHANGE_OUTDATED");
    let eve = server.caller(Some(&site.ca.client(EVE)));
    assert_eq!(approve(&eve, &waiting.id).await.unwrap_err().reason, "NOT_AN_OPERATOR");
    assert_eq!(approve(&bob, &waiting.id).await.unwrap().state(), State::Applied);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_two_replicas_one_carries_it_out() {
    let Some(cluster) = Postgres::own() else { return };
    let (database, first) = (cluster.database(), site());
    let mut sites = [first, site()];
    let token = sites[0].token.folder().to_owned();
    let own = sites[1].token.folder().to_owned();
    let pin = [&sites[1], &sites[0]].map(|site| site.token.pin_file().display().to_string());
    // One token for both, as one network HSM would be.
    sites[1]
        .replace(&own.join("softhsm2.conf").display().to_string(), &token.join("softhsm2.conf").display().to_string());
    sites[1].replace(&pin[0], &pin[1]);
    for (n, site) in sites.iter_mut().enumerate() {
        let sqlite = format!("url = \"sqlite://{}/keys.db\"", site.folder().display());
        site.replace(&sqlite, &format!("url = \"{database}\"\nlease = \"5s\""));
        site.replace("id = \"test\"", &format!("id = \"replica-{n}\""));
    }
    let servers = [sites[0].start(), sites[1].start()];
    for server in &servers {
        server.ready().await;
    }
    let before = active(&servers[0].ops()).await;
    let waiting = rotate(&servers[0].ops(), "r1").await.unwrap();
    let bobs = [bob(&sites[0], &servers[0]), bob(&sites[1], &servers[1])];
    let eve = servers[1].caller(Some(&sites[1].ca.client(EVE)));
    let (one, two) = tokio::join!(approve(&bobs[0], &waiting.id), approve(&eve, &waiting.id));
    let done =
        [&one, &two].into_iter().filter(|answer| matches!(answer, Ok(change) if change.state() == State::Applied));
    assert_eq!(done.count(), 1, "{one:?}\n{two:?}");
    eventually("both see it", Duration::from_secs(20), async || {
        let kids = [active(&servers[0].ops()).await, active(&servers[1].ops()).await];
        (kids[0] == kids[1] && kids[0] != before).then_some(())
    })
    .await;
}

#[tokio::test]
async fn by_command() {
    let site = site();
    let server = site.start();
    server.ready().await;
    site.connections(&server);
    site.connection("bob", &site.ca.client(BOB), &server.grpc);
    let typed = |who: &str, words: &[&str]| {
        let connection = site.folder().join(format!("{who}.toml"));
        let output = Command::new(HALLMARK).args(words).env("HALLMARK_CONNECTION", connection).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        (output.status.success(), text)
    };
    let (_, said) = typed("ops", &["keys", "rotate", "demo", "--reason", "drill", "--force", "--yes"]);
    assert!(said.contains("waits for a second operator's approval"), "{said}");
    let (_, listed) = typed("ops", &["keys", "changes", "--json"]);
    let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
    let id = listed["changes"][0]["id"].as_str().unwrap();
    let (ok, said) = typed("ops", &["keys", "approve", id, "--reason", "me", "--yes"]);
    assert!(!ok && said.contains("another operator"), "{said}");
    let (ok, said) = typed("bob", &["keys", "changes"]);
    assert!(ok && said.contains("goes from pre-active to active"), "{said}");
    let (ok, said) = typed("bob", &["keys", "approve", id, "--reason", "seen", "--yes"]);
    assert!(ok && said.contains("approved"), "{said}");
    let (ok, said) = typed("bob", &["keys", "deny", id, "--reason", "late"]);
    assert!(!ok && said.contains("CHANGE") || said.contains("already"), "{said}");
}

/// All signatures would carry another `sub` at once, by one person's word.
#[tokio::test]
async fn a_registration_that_replaces_another_waits_too() {
    let mut site = site();
    site.replace("client_id = \"demo-id\"\n", "");
    let server = site.start();
    let (ann, bob) = (server.ops(), bob(&site, &server));
    let record = async |request_id: &str, client_id: &str, force: bool| {
        let (request_id, client_id) = (request_id.to_owned(), client_id.to_owned());
        let (client, reason) = ("demo".to_owned(), "registered anew".to_owned());
        let request = RecordRegistrationRequest { request_id, reason, client, client_id, force, ..Default::default() };
        ann.clients().record_registration(request).await.map(|answer| answer.into_inner()).map_err(Refusal::from)
    };
    let state = |answer: &RecordRegistrationResponse| answer.change.as_ref().unwrap().state();
    let first = record("r1", "first", false).await.unwrap();
    assert_eq!((state(&first), first.client.unwrap().client_id.as_str()), (State::Applied, "first"));
    server.ready().await;
    let signs_as = async || claims(&server.app().sign_for("demo").await.unwrap().assertion)["sub"].clone();

    let forced = record("r2", "second", true).await.unwrap();
    assert_eq!(
        (state(&forced), forced.client.as_ref().unwrap().client_id.as_str()),
        (State::AwaitingApproval, "first")
    );
    let waiting = forced.change.unwrap();
    let plan = waiting.approval.unwrap().plan.join("\n");
    assert!(plan.contains("`second` instead of `first`") && plan.contains("at once"), "{plan}");
    assert_eq!(state(&record("r2", "second", true).await.unwrap()), State::AwaitingApproval, "asked twice is once");
    assert_eq!(approve(&ann, &waiting.id).await.unwrap_err().reason, "SAME_OPERATOR");
    assert_eq!(signs_as().await, "first");
    assert_eq!(approve(&bob, &waiting.id).await.unwrap().state(), State::Applied);
    assert_eq!(signs_as().await, "second");
    assert_eq!(state(&record("r2", "second", true).await.unwrap()), State::Applied);
    let events = audit_log::read(&site.audit_dir(), "test");
    let registered = |event: &&serde_json::Value| event["action"] == "register" && event["change"] == waiting.id;
    let both = events.iter().filter(registered).filter(|event| {
        event["who"] == ANN && event["reason"].as_str().unwrap().contains(&format!("approved by {BOB}"))
    });
    assert_eq!(both.count(), 2, "intent and outcome name both");

    // What was agreed to is not what it would do by now.
    let late = record("r3", "third", true).await.unwrap().change.unwrap().id;
    let other = record("r4", "fourth", true).await.unwrap().change.unwrap().id;
    approve(&bob, &other).await.unwrap();
    assert_eq!(approve(&bob, &late).await.unwrap_err().reason, "CHANGE_OUTDATED");
    assert_eq!(signs_as().await, "fourth");

    // By command, too.
    site.connections(&server);
    let words = ["register", "demo", "--client-id", "fifth", "--force", "--yes"];
    let mut typed = Command::new(HALLMARK);
    let typed = typed.args(words).env("HALLMARK_CONNECTION", site.folder().join("ops.toml")).output().unwrap();
    let said = String::from_utf8(typed.stderr).unwrap();
    assert!(said.contains("waits for a second operator's approval") && !said.contains("recorded: `demo`"), "{said}");
}

#[test]
fn a_configuration_that_nobody_could_approve_anything_in_is_refused() {
    let mut site = Site::new();
    site.append("\n[approval]\nrequire = [\"destroy\"]\n");
    let checked = site.check();
    let text = String::from_utf8_lossy(&checked.stdout).into_owned();
    assert!(!checked.status.success() && text.contains("wants two operators"), "{text}");
}
