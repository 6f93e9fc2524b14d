//! The commands that talk to a server, as people and programs use them.

use std::process::{Command, Output};

use serde_json::Value;

use crate::support::{Dev, HALLMARK, Process, claims, verifiers::AuthorizationServer};

/// Runs a command as the workload of `dev`, away from any `.hallmark` folder.
fn hallmark(dev: &Dev, arguments: &[&str]) -> Output {
    run(dev, "/connection", arguments)
}

fn as_operator(dev: &Dev, arguments: &[&str]) -> Output {
    run(dev, "/operator_connection", arguments)
}

fn run(dev: &Dev, connection: &str, arguments: &[&str]) -> Output {
    let mut command = Command::new(HALLMARK);
    command.args(arguments).env("HALLMARK_CONNECTION", dev.path(connection)).current_dir("/").output().unwrap()
}

fn out(output: &Output) -> &str {
    assert!(output.status.success(), "{}", err(output));
    std::str::from_utf8(&output.stdout).unwrap()
}

fn err(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).unwrap()
}

fn json(output: &Output) -> Value {
    serde_json::from_str(out(output)).unwrap()
}

#[test]
fn sign_prints_the_assertion_alone_so_that_it_can_be_piped() {
    let dev = Dev::start(&["--client", "clinic:ES256", "--token-endpoint", "http://as.example/token"]);
    let signed = hallmark(&dev, &["sign", "clinic"]);
    let assertion = out(&signed).strip_suffix('\n').unwrap();
    assert_eq!(assertion.split('.').count(), 3);
    assert_eq!(claims(assertion)["aud"], "http://as.example/token");
    for said in ["ES256", "http://as.example/token", "300 s", "\"clinic\""] {
        assert!(err(&signed).contains(said), "{said}: {}", err(&signed));
    }

    let answer = json(&hallmark(&dev, &["sign", "clinic", "--json", "--lifetime", "1m", "--scope", "a b"]));
    let seen = claims(answer["assertion"].as_str().unwrap());
    assert_eq!(seen["exp"].as_i64().unwrap() - seen["iat"].as_i64().unwrap(), 60);
    assert_eq!((&answer["alg"], &answer["jti"]), (&"ES256".into(), &seen["jti"]));
    let form = answer["token_request"]["form"].as_array().unwrap();
    assert!(form.iter().any(|field| field["name"] == "scope" && field["value"] == "a b"), "{form:?}");
}

#[test]
fn a_refusal_says_what_to_type_next() {
    let dev = Dev::start(&["--client", "clinic:ES256"]);
    let refused = hallmark(&dev, &["sign", "nosuch"]);
    assert_eq!(refused.status.code(), Some(1));
    assert_eq!(refused.stdout, b"");
    assert!(err(&refused).starts_with("error: no client `nosuch` for this workload"), "{}", err(&refused));

    let refused = hallmark(&dev, &["sign", "nosuch", "--json"]);
    let error: Value = serde_json::from_str(err(&refused)).unwrap();
    assert_eq!(error["error"]["reason"], "CLIENT_NOT_PERMITTED");

    let refused = hallmark(&dev, &["keys", "list"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(err(&refused).contains("hint: ") && err(&refused).contains("operator.toml"), "{}", err(&refused));

    let refused = as_operator(&dev, &["keys", "create", "clinic", "--reason", "again"]);
    assert!(err(&refused).contains("hint: see what is there: hallmark keys list --client clinic"), "{}", err(&refused));

    let asked: [&[&str]; 5] = [
        &["keys", "create", "nosuch", "--reason", "try"],
        &["keys", "list", "--client", "nosuch"],
        &["keys", "timeline", "nosuch"],
        &["rotation", "plan", "nosuch"],
        &["cert", "show", "nosuch"],
    ];
    for arguments in asked {
        let refused = as_operator(&dev, arguments);
        assert_eq!(refused.status.code(), Some(1), "{arguments:?}: {}", err(&refused));
        assert!(err(&refused).contains("no client `nosuch`"), "{arguments:?}: {}", err(&refused));
        assert!(err(&refused).contains("`hallmark keys list`"), "{arguments:?}: {}", err(&refused));
    }
}

#[test]
fn without_a_server_it_says_so_at_once() {
    let mut dev = Dev::start(&["--client", "clinic:ES256"]);
    let kept = tempfile::tempdir().unwrap();
    for name in ["ca.pem", "workload.pem", "workload.key", "workload.toml"] {
        std::fs::copy(dev.dir().join(name), kept.path().join(name)).unwrap();
    }
    dev.process.stop();
    let connection = kept.path().join("workload.toml").display().to_string();
    let refused = hallmark(&dev, &["sign", "clinic", "--connection", &connection]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(err(&refused).contains("hint: is the server up?"), "{}", err(&refused));

    let nowhere = Command::new(HALLMARK).args(["sign", "clinic"]).current_dir(kept.path()).output().unwrap();
    assert!(err(&nowhere).contains("hint: start a server with `hallmark dev`"), "{}", err(&nowhere));
}

#[test]
fn keys_and_jwks_show_what_is_there() {
    let dev = Dev::start(&["--client", "clinic:RS384", "--client", "lab:ES256"]);
    let table = as_operator(&dev, &["keys", "list", "--client", "clinic"]);
    let lines: Vec<_> = out(&table).lines().collect();
    assert!(lines[0].starts_with("CLIENT"), "{lines:?}");
    assert_eq!(lines.len(), 3, "an active key and its standby: {lines:?}");
    assert!(lines.iter().any(|line| line.contains(" active ")) && lines.iter().any(|line| line.contains("pre-active")));

    let keys = json(&as_operator(&dev, &["keys", "list", "--json"]));
    let of = |client: &str| keys["keys"].as_array().unwrap().iter().filter(|key| key["client"] == client).count();
    assert_eq!((of("clinic"), of("lab")), (2, 2));

    let shown = hallmark(&dev, &["jwks", "clinic"]);
    let document: Value = serde_json::from_str(out(&shown)).unwrap();
    assert_eq!(document["keys"].as_array().unwrap().len(), 2);
    assert!(err(&shown).contains(dev.jwks_url("clinic")));
    let answer = json(&hallmark(&dev, &["jwks", "clinic", "--json"]));
    assert_eq!((&answer["jwks"], &answer["url"]), (&document, &dev.jwks_url("clinic").into()));
}

#[tokio::test]
async fn token_prints_the_access_token_or_the_servers_own_words() {
    let server = AuthorizationServer::authlib();
    let dev = Dev::start(&["--client", "clinic:RS384", "--token-endpoint", &server.token_endpoint]);
    server.register("clinic", dev.jwks_url("clinic"), "RS384", "a b").await;
    let granted = hallmark(&dev, &["token", "clinic", "--scope", "a"]);
    assert_eq!(out(&granted).lines().count(), 1);
    assert!(err(&granted).contains("status 200") && err(&granted).contains("scope `a`"), "{}", err(&granted));
    let answer = json(&hallmark(&dev, &["token", "clinic", "--scope", "a b", "--json"]));
    assert_eq!((&answer["status"], &answer["scope"]), (&200.into(), &"a b".into()));
    assert_eq!(answer["token_type"].as_str().unwrap().to_lowercase(), "bearer");

    let refused = hallmark(&dev, &["token", "clinic", "--scope", "c"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(err(&refused).contains("invalid_scope") && err(&refused).contains("hint: "), "{}", err(&refused));
}

/// Someone who pipes it into `head` sees no panic.
#[test]
fn a_closed_pipe_is_no_panic() {
    let dev = Dev::start(&["--client", "clinic:ES256"]);
    let script = format!("exec 1>&-; exec {HALLMARK} sign clinic");
    let folder = tempfile::tempdir().unwrap();
    let mut process = Process::start("closed", folder.path(), "sh", |command| {
        command.args(["-c", &script]).env("HALLMARK_CONNECTION", dev.path("/connection"));
    });
    process.wait(crate::support::PATIENCE);
    assert!(!process.log().contains("panicked"), "{}", process.log());
}

/// By the public URL, as an authorization server reads it.
#[test]
fn a_rehearsal_reads_the_public_url() {
    let dev = Dev::start(&["--client", "clinic:ES256", "--client", "lab:RS384"]);
    let rehearsed = as_operator(&dev, &["rotation", "rehearse", "clinic", "--dry-run"]);
    let said = out(&rehearsed);
    assert!(said.starts_with(dev.jwks_url("clinic")) && said.contains("✓ the next key `"), "{said}");
    assert!(!said.contains('✗') && err(&rehearsed).contains("is ready"), "{said}");

    // Another client's document: none of our keys, and strangers' instead.
    let elsewhere = ["rotation", "rehearse", "clinic", "--json", "--url", dev.jwks_url("lab")];
    let rehearsed = as_operator(&dev, &elsewhere);
    assert_eq!(rehearsed.status.code(), Some(1));
    let answer: Value = serde_json::from_slice(&rehearsed.stdout).unwrap();
    assert_eq!((&answer["ok"], &answer["confirmed"]), (&false.into(), &Value::Array(vec![])));

    let nowhere = ["rotation", "rehearse", "clinic", "--url", "https://nosuch.invalid/jwks.json"];
    let rehearsed = as_operator(&dev, &nowhere);
    assert_eq!(rehearsed.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&rehearsed.stdout).contains("✗ it can't be read"), "{rehearsed:?}");
}

#[test]
fn what_can_not_be_taken_back_asks_first() {
    let dev = Dev::start(&["--client", "clinic:ES256"]);
    let keys = json(&as_operator(&dev, &["keys", "list", "--json"]));
    let kid = keys["keys"][0]["kid"].as_str().unwrap();
    let refused = as_operator(&dev, &["keys", "revoke", kid, "--reason", "laptop stolen"]);
    assert_eq!(refused.status.code(), Some(64));
    let hint = format!("hint: if it is meant: hallmark keys revoke {kid} --reason 'laptop stolen' --yes\n");
    assert!(err(&refused).ends_with(&hint), "{}", err(&refused));
    assert_eq!(json(&as_operator(&dev, &["keys", "list", "--json"])), keys, "nothing has changed");
}

#[test]
fn one_key_and_all_their_lives() {
    let dev = Dev::start(&["--client", "clinic:ES256"]);
    let keys = json(&as_operator(&dev, &["keys", "list", "--client", "clinic", "--json"]));
    let kid = keys["keys"][0]["kid"].as_str().unwrap();
    let shown = as_operator(&dev, &["keys", "show", kid]);
    assert!(out(&shown).starts_with(&format!("kid          {kid}\n")), "{}", out(&shown));
    let refused = as_operator(&dev, &["keys", "show", "nosuch"]);
    assert!(err(&refused).contains("hint: see what is there: hallmark keys list"), "{}", err(&refused));

    let drawn = as_operator(&dev, &["keys", "timeline", "clinic"]);
    let rows: Vec<_> = out(&drawn).lines().collect();
    assert!(rows[0].starts_with("CLIENT") && rows[1].contains("active") && rows[1].chars().count() == 100, "{rows:?}");
}

/// No server, no configuration, no connection: who is about to write a `[[client]]` has none of them.
#[test]
fn profiles_are_shown_without_a_server() {
    let profiles = |arguments: &[&str]| {
        let mut command = Command::new(HALLMARK);
        command.arg("profiles").args(arguments).env_remove("HALLMARK_CONNECTION").current_dir("/").output().unwrap()
    };
    let list = json(&profiles(&["list", "--json"]));
    for profile in list["profiles"].as_array().unwrap() {
        let name = profile["name"].as_str().unwrap();
        let shown = json(&profiles(&["show", name, "--json"]));
        assert_eq!((&shown["name"], &shown["makes"]["alg"]), (&profile["name"], &profile["algs"][0]));
    }
    let unknown = profiles(&["show", "epci"]);
    assert_eq!(unknown.status.code(), Some(64));
    assert!(err(&unknown).contains("hint: did you mean `epic`?"), "{}", err(&unknown));
}
