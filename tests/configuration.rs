//! What is wrong in the configuration is said before anything else happens; what changes in it is taken whole or not.

use std::{
    process::{Command, Output},
    time::Duration,
};

use hallmark_proto::v1::ListKeysRequest;
use tonic::Code;

use crate::support::{HALLMARK, PATIENCE, Refusal, Site, caller::for_client, eventually};

/// EX_CONFIG of sysexits.
const CONFIG: i32 = 78;

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn an_unknown_key_is_an_error_that_names_the_nearest_known_one() {
    let mut site = Site::new();
    site.replace("token_endpoint", "token_endpont");
    let checked = site.check();
    assert_eq!(checked.status.code(), Some(CONFIG));
    let said = text(&checked);
    assert!(said.contains("token_endpont") && said.contains("`token_endpoint`"), "{said}");

    let mut process = site.spawn(|_| {});
    assert_eq!(process.wait(PATIENCE).code(), Some(CONFIG));
    let said = process.log();
    assert!(said.contains("token_endpont") && said.contains("`token_endpoint`"), "{said}");
}

#[test]
fn all_problems_are_said_at_once() {
    let mut site = Site::new();
    site.replace("workers = 2", "workers = 0\nwrokers = 3").replace("alg = \"ES256\"", "alg = \"HS256\"");
    let said = text(&site.check());
    for problem in ["`workers`", "wrokers", "HS256"] {
        assert!(said.contains(problem), "{problem} is not in:\n{said}");
    }
}

#[test]
fn a_sound_configuration_passes() {
    let checked = Site::new().check();
    assert!(checked.status.success(), "{}", text(&checked));
}

#[test]
fn a_pin_in_the_configuration_is_refused_and_not_repeated() {
    let mut site = Site::new();
    site.replace("pin_source", "pin = \"31415926\"\npin_source");
    let said = text(&site.check());
    assert!(said.contains("pin_source") && !said.contains("31415926"), "{said}");
}

#[test]
fn what_is_for_tests_only_needs_to_be_asked_for() {
    let mut site = Site::new();
    site.append("\n[unsafe_testing]\naudit_sync_delay = \"1ms\"\n");
    let mut process = site.spawn(|_| {});
    assert_eq!(process.wait(PATIENCE).code(), Some(CONFIG));
    assert!(process.log().contains("[unsafe_testing]"), "{}", process.log());
}

#[test]
fn bad_usage_says_so() {
    for arguments in [&["serve"][..], &["serve", "--confg", "x"], &["nosuch"]] {
        let output = Command::new(HALLMARK).args(arguments).output().unwrap();
        assert_eq!(output.status.code(), Some(64), "{arguments:?}: {}", text(&output));
    }
}

#[tokio::test]
async fn sighup_takes_new_clients_and_policy() {
    let mut site = Site::new();
    let server = site.start();
    server.ready().await;
    let app = server.app();
    assert_eq!(app.sign_for("second").await.unwrap_err().reason, "CLIENT_NOT_PERMITTED");

    site.add_client("second", "ES256", "https://as.example/token").write();
    server.reload();
    eventually("the new client signs", PATIENCE, async || app.sign_for("second").await.ok()).await;
    app.sign_for("demo").await.unwrap();
    assert_eq!(server.jwks_of("second").await["keys"].as_array().unwrap().len(), 2);

    // And back: the client that is gone from the file signs no more.
    site.replace("clients = [\"demo\", \"second\"]", "clients = [\"demo\"]").write();
    server.reload();
    eventually("the policy is taken", PATIENCE, async || {
        app.sign_for("second").await.err().filter(|refusal| refusal.reason == "CLIENT_NOT_PERMITTED")
    })
    .await;
}

#[tokio::test]
async fn a_client_that_is_gone_is_listed_and_planned_for_while_it_has_keys() {
    let mut site = Site::new();
    site.add_client("second", "ES256", "https://as.example/token");
    let server = site.start();
    server.ready().await;
    let ops = server.ops();
    let list = async |client: &str| {
        let request = ListKeysRequest { client: client.to_owned(), ..Default::default() };
        let listed = ops.keys().list_keys(request).await;
        listed.map(|listed| listed.into_inner().keys.len()).map_err(Refusal::from)
    };
    let keys = eventually("it has keys", PATIENCE, async || list("second").await.ok().filter(|keys| *keys > 0)).await;
    let unknown = list("third").await.unwrap_err();
    assert!(unknown.message.contains("no client `third`"), "{unknown:?}");

    site.replace("name = \"second\"", "name = \"third\"")
        .replace("\"demo\", \"second\"", "\"demo\", \"third\"")
        .write();
    server.reload();
    eventually("the new client is known", PATIENCE, async || list("third").await.ok()).await;
    assert!(list("second").await.unwrap() >= keys, "the keys of the client that is gone are still listed");
    assert!(list("nobody").await.is_err());
}

#[tokio::test]
async fn sighup_takes_a_wrong_configuration_not_at_all() {
    let mut site = Site::new();
    let mut server = site.start();
    server.ready().await;
    let app = server.app();
    // The first change alone would be good.
    site.replace("clients = [\"demo\"]", "clients = [\"demo\"]\naudiences = [\"https://other.example/\"]");
    site.replace("keys = [", "kyes = [").write();
    server.reload();
    let line = server.process.wait_for_log("was not taken");
    assert!(line.contains("kyes") || server.log().contains("kyes"), "{line}");
    let mut request = for_client("demo");
    request.audience = "https://other.example/".to_owned();
    let refused = app.sign(request.clone()).await.unwrap_err();
    assert_eq!(refused.code, Code::PermissionDenied, "nothing of it was taken: {refused:?}");
    app.sign_for("demo").await.unwrap();

    site.replace("kyes = [", "keys = [").write();
    server.reload();
    let limit = Duration::from_secs(20);
    eventually("the mended file is taken", limit, async || app.sign(request.clone()).await.ok()).await;
}
