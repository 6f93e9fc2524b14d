//! Operators move keys: over gRPC, and by command; and nobody else does.

use std::{
    process::{Command, Output},
    time::Duration,
};

use hallmark_proto::v1::{
    DestroyKeyRequest, Key, KeyChange, KeyState, ListKeysRequest, PlanRotationRequest, RevokeKeyRequest,
    RotateKeysRequest, rotation_service_client::RotationServiceClient,
};
use serde_json::Value;
use tonic::Code;

use crate::support::{Caller, Dev, HALLMARK, Refusal, Site, eventually};

async fn keys(ops: &Caller, client: &str) -> Vec<Key> {
    let request = ListKeysRequest { client: client.to_owned(), ..Default::default() };
    ops.keys().list_keys(request).await.unwrap().into_inner().keys
}

async fn in_state(ops: &Caller, client: &str, state: KeyState) -> Vec<String> {
    let keys = keys(ops, client).await.into_iter();
    keys.filter(|key| key.state() == state && key.published_at.is_some()).map(|key| key.kid).collect()
}

fn rotate(request_id: &str, force: bool) -> RotateKeysRequest {
    let text = str::to_owned;
    let (request_id, reason, client) = (text(request_id), text("test"), text("demo"));
    RotateKeysRequest { request_id, reason, client, alg: String::new(), force }
}

fn revoke(request_id: &str, kid: &str) -> RevokeKeyRequest {
    let text = str::to_owned;
    RevokeKeyRequest { request_id: text(request_id), reason: text("test"), kid: text(kid) }
}

async fn rotated(ops: &Caller, request: RotateKeysRequest) -> Result<KeyChange, Refusal> {
    Ok(ops.keys().rotate_keys(request).await?.into_inner().change.unwrap())
}

#[tokio::test]
async fn a_forced_rotation_signs_with_the_standby_at_once() {
    let site = Site::new();
    let server = site.start();
    server.ready().await;
    let ops = server.ops();
    let [standby] = in_state(&ops, "demo", KeyState::PreActive).await.try_into().unwrap();
    let before = server.app().sign_for("demo").await.unwrap().kid;

    // The standby was published a moment ago: no verifier needs to know it.
    let refused = rotated(&ops, rotate("r1", false)).await.unwrap_err();
    assert_eq!(refused.reason, "GATE_SHUT", "{refused:?}");
    assert_eq!(server.app().sign_for("demo").await.unwrap().kid, before);

    let change = rotated(&ops, rotate("r2", true)).await.unwrap();
    // The first key was itself published a moment ago: without `--force` the way back is shut, too.
    let back = [
        format!("hallmark keys activate {before} --reason TEXT --force"),
        format!("--reason TEXT --force -- {before}"),
    ];
    let says = |advice: &String| advice.contains("to take it back") && back.iter().any(|back| advice.contains(back));
    assert!(change.advice.iter().any(says), "{change:?}");
    assert_eq!(server.app().sign_for("demo").await.unwrap().kid, standby);
    let served = server.jwks_of("demo").await;
    assert_eq!(served["keys"][0]["kid"], standby.as_str(), "the key that signs comes first");
    assert!(served["keys"].as_array().unwrap().iter().any(|key| key["kid"] == before.as_str()), "{served}");
}

#[tokio::test]
async fn the_same_request_id_does_nothing_twice() {
    let site = Site::new();
    let server = site.start();
    server.ready().await;
    let ops = server.ops();
    let first = rotated(&ops, rotate("r1", true)).await.unwrap();
    let kid = server.app().sign_for("demo").await.unwrap().kid;
    let again = rotated(&ops, rotate("r1", true)).await.unwrap();
    assert_eq!(first.id, again.id);
    assert_eq!(server.app().sign_for("demo").await.unwrap().kid, kid);
    let other: Refusal = ops.keys().revoke_key(revoke("r1", &kid)).await.unwrap_err().into();
    assert_eq!((other.code, other.reason.as_str()), (Code::InvalidArgument, "REQUEST_ID_REUSED"));
}

#[tokio::test]
async fn a_revoked_key_leaves_the_jwks_at_once_and_can_be_destroyed() {
    let site = Site::new();
    let server = site.start();
    server.ready().await;
    let ops = server.ops();
    let kid = server.app().sign_for("demo").await.unwrap().kid;
    let answer = ops.keys().revoke_key(revoke("r1", &kid)).await.unwrap().into_inner();
    let change = answer.change.unwrap();
    assert!(change.in_force_everywhere_at.is_some(), "{change:?}");
    assert!(!change.advice.is_empty(), "removal is not revocation: {change:?}");
    let served = server.jwks_of("demo").await;
    assert!(served["keys"].as_array().unwrap().iter().all(|key| key["kid"] != kid.as_str()), "{served}");
    assert_ne!(server.app().sign_for("demo").await.map(|signed| signed.kid).unwrap_or_default(), kid);
    // Twice is once.
    let _: Result<_, _> = ops.keys().revoke_key(revoke("r2", &kid)).await;

    let text = str::to_owned;
    let (request_id, reason) = (text("r3"), text("test"));
    let destroy = DestroyKeyRequest { request_id, reason, kid: kid.clone(), force: true };
    ops.keys().destroy_key(destroy).await.unwrap();
    assert!(in_state(&ops, "demo", KeyState::Compromised).await.is_empty());
    let gone = keys(&ops, "demo").await.into_iter().find(|key| key.kid == kid).unwrap();
    assert_eq!((gone.state(), gone.destroyed_at.is_some()), (KeyState::Destroyed, true), "the record stays");
}

#[tokio::test]
async fn a_workload_can_not() {
    let site = Site::new();
    let server = site.start();
    server.ready().await;
    let kid = server.app().sign_for("demo").await.unwrap().kid;
    let app = server.app();
    let until = Some((std::time::SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(4_000_000_000)).into());
    let plan = PlanRotationRequest { client: String::new(), until };
    let refusals: [Refusal; 3] = [
        RotationServiceClient::new(app.channel.clone()).plan_rotation(plan).await.unwrap_err().into(),
        app.keys().rotate_keys(rotate("r1", true)).await.unwrap_err().into(),
        app.keys().revoke_key(revoke("r2", &kid)).await.unwrap_err().into(),
    ];
    for refused in refusals {
        assert_eq!((refused.code, refused.reason.as_str()), (Code::PermissionDenied, "NOT_AN_OPERATOR"));
    }
    assert_eq!(server.app().sign_for("demo").await.unwrap().kid, kid);
}

#[tokio::test]
async fn forcing_takes_more_than_rotating() {
    let mut site = Site::new();
    site.replace("roles = [\"destroy\"]", "roles = [\"rotate\"]");
    let server = site.start();
    server.ready().await;
    let refused = rotated(&server.ops(), rotate("r1", true)).await.unwrap_err();
    assert_eq!((refused.code, refused.reason.as_str()), (Code::PermissionDenied, "NOT_AN_OPERATOR"));
}

fn hallmark(dev: &Dev, arguments: &[&str]) -> Output {
    let connection = dev.path("/operator_connection");
    let mut command = Command::new(HALLMARK);
    command.args(arguments).env("HALLMARK_CONNECTION", connection).current_dir("/").output().unwrap()
}

fn json(output: &Output) -> Value {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[test]
fn from_rotation_to_destruction_by_command() {
    let dev = Dev::start(&["--client", "clinic:ES256"]);
    let list = || json(&hallmark(&dev, &["keys", "list", "--client", "clinic", "--json"]));
    let of = |state: &str| {
        let listed = list();
        let mut keys = listed["keys"].as_array().unwrap().iter().filter(|key| key["state"] == state);
        keys.next().map(|key| key["kid"].as_str().unwrap().to_owned())
    };
    let active = of("active").unwrap();
    let early = hallmark(&dev, &["keys", "rotate", "clinic", "--reason", "try"]);
    let said = String::from_utf8_lossy(&early.stderr);
    assert!(!early.status.success(), "{said}");
    assert!(said.contains("must be served for another ") && said.contains("hint: repeat the command once"), "{said}");
    let change = json(&hallmark(&dev, &["keys", "rotate", "clinic", "--reason", "try", "--force", "--yes", "--json"]));
    assert_eq!(change["state"], "applied");
    assert_eq!(of("deactivated").as_deref(), Some(active.as_str()));
    let revoked = hallmark(&dev, &["keys", "revoke", &active, "--reason", "try", "--yes"]);
    let said = String::from_utf8_lossy(&revoked.stderr);
    assert!(said.contains(&format!("revoked `{active}`")) && said.contains("in force everywhere at "), "{said}");
    let destroyed = hallmark(&dev, &["keys", "destroy", &active, "--reason", "try", "--force", "--yes", "--json"]);
    assert_eq!(json(&destroyed)["keys"][0]["state"], "destroyed");
    let again = hallmark(&dev, &["keys", "destroy", &active, "--reason", "try", "--force", "--yes"]);
    assert!(String::from_utf8_lossy(&again.stderr).contains("is destroyed already"), "{again:?}");
    let plan = json(&hallmark(&dev, &["rotation", "plan", "clinic", "--until", "1y", "--json"]));
    assert!(plan["steps"].is_array(), "{plan}");
}

#[test]
fn a_rehearsal_tells_the_server() {
    let dev = Dev::start(&["--client", "clinic:ES256"]);
    let rehearsed = json(&hallmark(&dev, &["rotation", "rehearse", "clinic", "--json"]));
    assert_eq!((&rehearsed["ok"], rehearsed["confirmed"].as_array().unwrap().len()), (&true.into(), 1), "{rehearsed}");
}

#[test]
fn a_bad_rotation_is_taken_back_by_command() {
    let dev = Dev::start(&["--client", "clinic:ES256"]);
    let in_state = |state: &str| -> Vec<String> {
        let listed = json(&hallmark(&dev, &["keys", "list", "--client", "clinic", "--json"]));
        let keys = listed["keys"].as_array().unwrap().iter().filter(|key| key["state"] == state);
        keys.map(|key| key["kid"].as_str().unwrap_or_default().to_owned()).collect()
    };
    let done =
        |arguments: &[&str]| json(&hallmark(&dev, &[arguments, &["--reason", "try", "--yes", "--json"]].concat()));
    let [good] = <[String; 1]>::try_from(in_state("active")).unwrap();
    done(&["keys", "rotate", "clinic", "--force"]);
    let [bad] = <[String; 1]>::try_from(in_state("active")).unwrap();
    assert_ne!(good, bad);

    // By force, for it was published a moment ago: it signed from its birth on, as first keys do.
    done(&["keys", "activate", &good, "--force"]);
    assert_eq!(in_state("active"), [good.as_str()], "what was replaced signs again");
    assert!(in_state("pre-active").contains(&bad), "what replaced it is a standby again");

    done(&["keys", "deactivate", &good, "--force"]);
    let signing = in_state("active");
    assert!(signing.len() == 1 && signing[0] != good, "another one signs: {signing:?}");
    done(&["keys", "retire", &good, "--force"]);
    assert_eq!(in_state("retired"), [good.as_str()]);
    let served = json(&hallmark(&dev, &["jwks", "clinic", "--json"]));
    assert!(!served.to_string().contains(&good), "it has left the JWKS: {served}");

    let drawn = hallmark(&dev, &["keys", "timeline", "clinic"]);
    let (text, said) = (String::from_utf8_lossy(&drawn.stdout), String::from_utf8_lossy(&drawn.stderr));
    assert!(drawn.status.success() && text.contains(&signing[0][..8]), "{text}{said}");
}

/// Where the configuration demands it, no key signs that nobody saw from outside.
#[tokio::test(flavor = "multi_thread")]
async fn no_key_signs_that_was_not_rehearsed() {
    let mut site = Site::new();
    site.append("\n[rotation]\nrequire_rehearsal = true\n\n[unsafe_testing]\nsweep_every = \"100ms\"\nlead = \"1s\"\n");
    let server = site.start_with(|command| _ = command.arg("--unsafe-testing"));
    server.ready().await;
    let ops = server.ops();
    let before = server.app().sign_for("demo").await.unwrap().kid;
    let mut tries = 0;
    eventually("nothing but the rehearsal is missing", PATIENCE, async || {
        tries += 1;
        let refused = rotated(&ops, rotate(&format!("r{tries}"), false)).await.unwrap_err();
        refused.message.contains("was not seen at the public JWKS URL").then_some(())
    })
    .await;
    assert_eq!(server.app().sign_for("demo").await.unwrap().kid, before);

    site.connections(&server);
    let connection = site.folder().join("ops.toml");
    let rehearse = ["rotation", "rehearse", "demo", "--json"];
    let rehearsed = Command::new(HALLMARK).args(rehearse).env("HALLMARK_CONNECTION", connection).output().unwrap();
    assert_eq!(json(&rehearsed)["ok"], true);
    eventually("the rehearsed key may sign", PATIENCE, async || rotated(&ops, rotate("rehearsed", false)).await.ok())
        .await;
    assert_ne!(server.app().sign_for("demo").await.unwrap().kid, before);
}

const PATIENCE: Duration = Duration::from_secs(20);
