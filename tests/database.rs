//! On PostgreSQL: the database goes away under a running server and comes back, with nobody's help.

use std::time::{Duration, Instant};

use hallmark_proto::v1::{ListKeysRequest, RevokeKeyRequest, RotateKeysRequest};
use hallmark_testkit::postgres::Postgres;

use crate::support::{
    PATIENCE, Refusal, Site,
    edge::{Edge, get},
    eventually,
};

/// Long enough to sign within it after the database has stopped, on a machine that is busy.
const LEASE: Duration = Duration::from_secs(4);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn signing_goes_on_until_the_lease_ends_and_again_with_the_database() {
    let Some(cluster) = Postgres::own() else { return };
    let site = on_database(&cluster);
    let server = site.start();
    server.ready().await;
    let app = server.app();
    let sign = async || app.sign_for("demo").await.map(drop).map_err(|refusal| refusal.reason);

    cluster.stop();
    sign().await.expect("an outage must not be noticed within the lease");
    let stopped = async || (sign().await == Err("STORE_UNAVAILABLE".into())).then_some(());
    eventually("a replica that is cut off stops signing", PATIENCE, stopped).await;
    let jwks = reqwest::get(server.jwks_url("demo")).await.unwrap();
    assert_eq!(jwks.status(), 200, "the JWKS must stay up");
    let is_told = async |up: f64, alarms: f64| {
        let up = server.metric("hallmark_store_up{}").await == up;
        (up && server.metric("hallmark_alarms{alarm=\"sweep\"}").await == alarms).then_some(())
    };
    eventually("metric and alarm tell of it", PATIENCE, async || is_told(0.0, 1.0).await).await;
    let rotated = async |request_id: &str| {
        let (request_id, reason, client) = (request_id.to_owned(), "test".to_owned(), "demo".to_owned());
        let request = RotateKeysRequest { request_id, reason, client, alg: String::new(), force: true };
        server.ops().keys().rotate_keys(request).await.map(drop).map_err(|status| Refusal::from(status).reason)
    };
    assert_eq!(rotated("r1").await, Err("STORE_UNAVAILABLE".into()), "no key changes");

    cluster.start();
    eventually("signing resumes by itself", PATIENCE, async || sign().await.ok()).await;
    eventually("so do metric and alarm", PATIENCE, async || is_told(1.0, 0.0).await).await;
    rotated("r2").await.expect("keys can be changed again");
    server.stop().await;
}

/// Without an HSM: what one process manages, another one publishes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn key_sets_are_served_from_the_database_and_outlive_it() {
    let Some(cluster) = Postgres::own() else { return };
    let site = on_database(&cluster);
    let server = site.start();
    server.ready().await;
    let edge = Edge::of(&site);
    let ours = get(&server.jwks_url("demo")).await;
    edge.until(SET, "it publishes the same set", |got| got.body == ours.body).await;

    let ops = server.ops();
    let keys = ops.keys().list_keys(ListKeysRequest::default()).await.unwrap().into_inner().keys;
    let active = keys.iter().find(|key| key.client == "demo" && ours.body.contains(&key.kid)).unwrap();
    let request = RevokeKeyRequest { request_id: "r".into(), reason: "test".into(), kid: active.kid.clone() };
    ops.keys().revoke_key(request).await.unwrap();
    let revoked = Instant::now();
    let left = edge.until(SET, "a revoked key leaves", |got| !got.body.contains(&active.kid)).await;
    let took = revoked.elapsed();
    eprintln!("a revocation reached the other process after {} ms", took.as_millis());
    assert!(took < SEEN_WITHIN, "{took:?}");

    cluster.stop();
    let alone = edge.until(SET, "it notices that the database is gone", |got| got.max_age == Some(60)).await;
    assert_eq!(alone.body, left.body);
    cluster.start();
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_reads_the_database_counts_down_and_starts_without_it() {
    let Some(cluster) = Postgres::own() else { return };
    let mut site = on_database(&cluster);
    site.replace("[jwks]\n", "[jwks]\nstate_dir = \"jwks-state\"\n");
    site.append("\n[unsafe_testing]\nsweep_every = \"100ms\"\nrotate_every = \"200s\"\nlead = \"1s\"\n");
    let server = site.start_with(|command| _ = command.arg("--unsafe-testing"));
    server.ready().await;
    let edge = Edge::of(&site);
    let counts = |age: Option<u64>| age.is_some_and(|age| (60..=200).contains(&age));
    let theirs = edge.until(SET, "it counts down to the next change", |got| counts(got.max_age)).await;
    let ours = get(&server.jwks_url("demo")).await;
    assert_eq!((&ours.body, &ours.etag), (&theirs.body, &theirs.etag));
    let apart = ours.max_age.unwrap().abs_diff(theirs.max_age.unwrap());
    assert!(apart <= 5, "{ours:?} {theirs:?}");

    cluster.stop();
    let edge = edge.restart();
    let alone = edge.get(SET).await;
    assert_eq!((&alone.body, &alone.etag), (&theirs.body, &theirs.etag), "from the disk, from its first moment on");
    assert!(alone.max_age.is_some_and(|age| age <= 60), "{alone:?}");
    assert_eq!(edge.get("/readyz/jwks").await.status, 200);
    assert_eq!(edge.metric("hallmark_jwks_source_connected{}").await, 0.0);
    cluster.start();
    edge.until(SET, "it reads again", |got| got.max_age.is_some_and(|age| age > 60)).await;
}

/// Whoever reads the database knows where a client is that no configuration names any more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_client_that_is_taken_out_stays_at_its_path_wherever_it_is_served() {
    const GONE: &str = "\n[[client]]\nname = \"gone\"\ntoken_endpoint = \"https://as.example/token\"\nhsm = [\"soft\"]\n\
                        keys = [{ alg = \"ES256\" }]\nprovision = \"auto\"\njwks_path = \"/k/7f3a/jwks.json\"\n";
    const PATH: &str = "/k/7f3a/jwks.json";
    let Some(cluster) = Postgres::own() else { return };
    let mut site = on_database(&cluster);
    site.append(GONE);
    let server = site.start();
    server.ready().await;
    let has_keys = async || Some(get(&format!("http://{}{PATH}", server.jwks)).await).filter(|got| got.status == 200);
    eventually("it has keys", PATIENCE, has_keys).await;
    server.stop().await;

    site.replace(GONE, "");
    let edge = Edge::of(&site);
    edge.until(PATH, "it is there without anyone who signs", |got| got.status == 200).await;
    assert_eq!(edge.get("/clients/gone/jwks.json").await.status, 404);
    let server = site.start();
    assert_eq!(get(&format!("http://{}{PATH}", server.jwks)).await.status, 200);
    assert_eq!(get(&server.jwks_url("gone")).await.status, 404);
}

fn on_database(cluster: &Postgres) -> Site {
    let mut site = Site::new();
    let sqlite = format!("url = \"sqlite://{}/keys.db\"", site.folder().display());
    site.replace(&sqlite, &format!("url = \"{}\"\nlease = \"{}s\"", cluster.database(), LEASE.as_secs()));
    site
}

const SET: &str = "/clients/demo/jwks.json";
/// The aim is a second; the limit leaves room for a machine that is busy with other tests.
const SEEN_WITHIN: Duration = Duration::from_secs(5);
