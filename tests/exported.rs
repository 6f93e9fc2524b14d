//! Key sets on a static host: files that are exported, and what an authorization server makes of them.

use std::{
    fs,
    path::PathBuf,
    process::{Command, Output},
};

use serde_json::Value;

use crate::{
    follower::revoke,
    support::{HALLMARK, PATIENCE, Process, Site, edge::get, eventually},
};

const SET: &str = "clients/demo/jwks.json";

/// A server whose key sets are on a static host.
struct Host {
    site: Site,
    files: PathBuf,
    _static_host: Process,
}

impl Host {
    /// `edge_ttl` of the client.
    fn new(edge_ttl: &str) -> Self {
        let mut site = Site::new();
        let files = site.folder().join("public");
        fs::create_dir(&files).unwrap();
        let static_host = Process::start("host", site.folder(), "python3", |command| {
            command.args(["-u", "-m", "http.server", "0", "--bind", "127.0.0.1", "--directory"]).arg(&files);
        });
        // Serving HTTP on 127.0.0.1 port N (http://127.0.0.1:N/) ...
        let line = static_host.line();
        let url = line.split(['(', ')']).nth(1).unwrap().trim_end_matches('/').to_owned();
        site.replace("[jwks]\n", &format!("[jwks]\npublic_url = \"{url}\"\n"));
        site.replace("keys.db\"", "keys.db\"\nlease = \"1s\"");
        site.replace("provision = \"auto\"", &format!("provision = \"auto\"\nedge_ttl = \"{edge_ttl}\""));
        Self { site, files, _static_host: static_host }
    }

    fn manifest(&self) -> Value {
        serde_json::from_slice(&fs::read(self.files.join("hallmark-manifest.json")).unwrap()).unwrap()
    }
}

fn hallmark(connection: &PathBuf, arguments: &[&str]) -> Output {
    Command::new(HALLMARK).args(arguments).arg("--connection").arg(connection).output().unwrap()
}

fn out(output: &Output) -> &str {
    assert!(output.status.success(), "{}", err(output));
    std::str::from_utf8(&output.stdout).unwrap()
}

fn err(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).unwrap()
}

#[tokio::test]
async fn files_are_what_the_server_would_serve_and_a_verifier_sees_them() {
    let host = Host::new("1m");
    let server = host.site.start();
    server.ready().await;
    let ops = host.site.connection("ops", &host.site.ca.client(crate::support::site::OPS), &server.grpc);
    let app = host.site.connection("app", host.site.app(), &server.grpc);
    let dir = host.files.display().to_string();

    let early = hallmark(&app, &["jwks", "check", "demo"]);
    assert!(!early.status.success() && err(&early).contains("answers 404"), "{}", err(&early));
    let exported = hallmark(&ops, &["jwks", "export", &dir]);
    assert!(out(&exported).starts_with("2 written"), "{}", out(&exported));
    // Nobody told the server that such a host answers for this client.
    assert!(
        err(&exported).contains("new keys do not wait until this host has them: client `demo`"),
        "{}",
        err(&exported)
    );
    assert!(err(&exported).contains("hint: set `jwks_host = \"static\"`"), "{}", err(&exported));
    let ours = get(&server.jwks_url("demo")).await;
    assert_eq!(fs::read_to_string(host.files.join(SET)).unwrap(), ours.body);
    let manifest = host.manifest();
    let entry = &manifest["files"][format!("/{SET}")];
    assert_eq!(entry["etag"], ours.etag);
    assert_eq!(entry["headers"]["Cache-Control"], "public, max-age=300, s-maxage=60");
    assert_eq!(entry["headers"]["Content-Type"], "application/json");

    let checked = hallmark(&app, &["jwks", "check", "demo"]);
    assert!(out(&checked).starts_with("OK: "), "{}", out(&checked));
    // This host sends no such header, and is plain http.
    assert!(err(&checked).contains("max-age") && err(&checked).contains("not https"), "{}", err(&checked));
    let again = hallmark(&ops, &["jwks", "export", &dir, "--json"]);
    assert_eq!(out(&again), "", "nothing changed");

    // The host is behind: a verifier would still take the key that is gone.
    let kid = serde_json::from_str::<Value>(&ours.body).unwrap()["keys"][1]["kid"].as_str().unwrap().to_owned();
    revoke(&host.site, &kid);
    let url = server.jwks_url("demo");
    eventually("it is revoked", PATIENCE, async || (!get(&url).await.body.contains(&kid)).then_some(())).await;
    let stale = hallmark(&app, &["jwks", "check", "demo"]);
    assert_eq!(stale.status.code(), Some(1));
    assert!(err(&stale).contains(&format!("no longer published: `{kid}`")), "{}", err(&stale));

    let mut watching = Process::start("export", host.site.folder(), HALLMARK, |command| {
        command.args(["jwks", "export", &dir, "--watch", "--json", "--connection"]).arg(&ops);
    });
    let first: Value = serde_json::from_str(&watching.line()).unwrap();
    assert_eq!(first["written"], serde_json::json!([format!("/{SET}")]));
    assert_eq!(first["not_waited_for"], serde_json::json!(["demo"]), "{first}");
    // The next standby may have come meanwhile.
    let sees = async || hallmark(&app, &["jwks", "check", "demo"]).status.success().then_some(());
    eventually("a verifier sees what is published", PATIENCE, sees).await;
    watching.kill();
}

#[tokio::test]
async fn what_may_be_late_must_say_by_how_much() {
    let host = Host::new("0s");
    let server = host.site.start();
    server.ready().await;
    let ops = host.site.connection("ops", &host.site.ca.client(crate::support::site::OPS), &server.grpc);
    let app = host.site.connection("app", host.site.app(), &server.grpc);
    let dir = host.files.display().to_string();
    let refused = hallmark(&ops, &["jwks", "export", &dir]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(err(&refused).contains("no `edge_ttl`: client `demo`"), "{}", err(&refused));
    assert!(err(&refused).contains("hint: set `edge_ttl`"), "{}", err(&refused));
    assert_eq!(fs::read_dir(&host.files).unwrap().count(), 0, "and nothing is written");
    let nosuch = hallmark(&ops, &["jwks", "export", &dir, "--client", "nosuch"]);
    assert!(err(&nosuch).contains("nothing is published for client `nosuch`"), "{}", err(&nosuch));
    let workload = hallmark(&app, &["jwks", "export", &dir]);
    assert!(err(&workload).contains("is no operator with role \"follow\""), "{}", err(&workload));
}

/// Without what a verifier must find there no key takes over; with it, one does.
#[tokio::test]
async fn no_rotation_before_the_host_was_seen_to_have_the_next_key() {
    let mut host = Host::new("1m");
    host.site.replace("edge_ttl = \"1m\"", "edge_ttl = \"1m\"\njwks_host = \"static\"");
    host.site.append("\n[unsafe_testing]\nsweep_every = \"100ms\"\nrotate_every = \"2s\"\nlead = \"1s\"\n");
    let server = host.site.start_with(|command| _ = command.arg("--unsafe-testing"));
    server.ready().await;
    let ops = host.site.connection("ops", &host.site.ca.client(crate::support::site::OPS), &server.grpc);
    let dir = host.files.display().to_string();
    let overdue = async || server.metric("hallmark_rotation_overdue{client=\"demo\"}").await == 1.0;
    let alarmed = async || server.metric("hallmark_alarms{alarm=\"public-url\"}").await == 1.0;
    let first = active(&server).await;

    eventually("it is said that nothing is there", PATIENCE, async || alarmed().await.then_some(())).await;
    eventually("the next key is due", PATIENCE, async || overdue().await.then_some(())).await;
    assert_eq!(active(&server).await, first, "it is not on the host");

    let exported = hallmark(&ops, &["jwks", "export", &dir, "--json"]);
    assert_eq!(serde_json::from_str::<Value>(out(&exported)).unwrap()["not_waited_for"], serde_json::json!([]));
    assert_eq!(err(&exported), "", "nothing to warn of");
    let fresh = fs::read(host.files.join(SET)).unwrap();
    eventually("it is seen", PATIENCE, async || (!alarmed().await).then_some(())).await;
    let second =
        eventually("the next key signs", PATIENCE, async || Some(active(&server).await).filter(|kid| *kid != first))
            .await;
    assert!(String::from_utf8(fresh).unwrap().contains(&second), "and it is one that was exported");

    // What was made since is not on the host: its set is stale again.
    eventually("the one after it is due", PATIENCE, async || overdue().await.then_some(())).await;
    assert_eq!(active(&server).await, second);
    out(&hallmark(&ops, &["jwks", "export", &dir]));
    eventually("the third key signs", PATIENCE, async || Some(active(&server).await).filter(|kid| *kid != second))
        .await;
}

/// The key that signs.
async fn active(server: &crate::support::Server) -> String {
    server.app().sign_for("demo").await.unwrap().kid
}
