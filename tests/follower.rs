//! Key sets served by a process that has no HSM: whatever becomes of it or of the server that it follows, verifiers get what
//! they can rely on.

use std::{
    net::TcpListener,
    process::Command,
    time::{Duration, Instant},
};

use hallmark_proto::v1::{CreateKeysRequest, ListKeysRequest, WatchJwksRequest, WatchJwksResponse};
use reqwest::StatusCode;
use serde_json::Value;
use tonic::Code;

use crate::support::{
    Caller, PATIENCE, Refusal, Server, Site,
    edge::{EDGE, Edge, Got, get},
    eventually,
};

const SET: &str = "/clients/demo/jwks.json";

/// A site whose key sets a follower serves, and the address of its server, which stays.
fn followed() -> (Site, String) {
    let mut site = Site::new();
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    site.replace("[grpc]\nlisten = \"127.0.0.1:0\"", &format!("[grpc]\nlisten = \"127.0.0.1:{port}\""));
    site.replace("[jwks]\n", &format!("[jwks]\npublic_url = \"https://keys.example\"\nfollowers = [\"{EDGE}\"]\n"));
    site.replace("keys.db\"", "keys.db\"\nlease = \"1s\"");
    site.append(&format!("\n[[operator]]\nid = \"{EDGE}\"\nroles = [\"follow\"]\n"));
    (site, format!("https://127.0.0.1:{port}"))
}

fn kids(body: &str) -> Vec<String> {
    let set: Value = serde_json::from_str(body).unwrap();
    set["keys"].as_array().unwrap().iter().map(|key| key["kid"].as_str().unwrap().to_owned()).collect()
}

async fn all_followers_have_it(server: &Server) {
    eventually("each follower has acknowledged what is published", PATIENCE, async || {
        (server.metric("hallmark_followers_behind{}").await == 0.0).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_follower_before_its_server_beside_it_and_after_it() {
    let (site, grpc) = followed();
    let edge = Edge::start(&site, &grpc);
    let nothing = edge.get(SET).await;
    assert_eq!((nothing.status, nothing.max_age, nothing.body.as_str()), (StatusCode::NOT_FOUND, None, ""));
    assert_eq!(edge.get("/readyz/jwks").await.status, StatusCode::SERVICE_UNAVAILABLE);

    let server = site.start();
    server.ready().await;
    let ours = get(&server.jwks_url("demo")).await;
    let theirs = edge.until(SET, "the follower serves it", |got| got.body == ours.body).await;
    assert_eq!((theirs.etag.as_str(), theirs.max_age), (ours.etag.as_str(), Some(300)), "as the server would");
    let pem = "/clients/demo/public_key.pem";
    assert_eq!(edge.get(pem).await.body, get(&format!("http://{}{pem}", server.jwks)).await.body);
    assert_eq!(edge.get("/readyz/jwks").await.status, StatusCode::OK);
    assert_eq!(edge.metric("hallmark_jwks_source_connected{}").await, 1.0);
    all_followers_have_it(&server).await;

    let Server { mut process, .. } = server;
    process.kill();
    // Nobody vouches for the set any more: it is served, and not promised for long.
    let alone = edge.until(SET, "the follower notices", |got| got.max_age == Some(60)).await;
    assert_eq!((&alone.body, &alone.etag), (&ours.body, &ours.etag));
    assert_eq!(edge.metric("hallmark_jwks_source_connected{}").await, 0.0);

    let edge = edge.restart();
    let again = edge.get(SET).await;
    assert_eq!((&again, again.status), (&alone, StatusCode::OK), "from the disk, from its first moment on");
    assert_eq!(edge.get("/readyz/jwks").await.status, StatusCode::OK);

    let server = site.start();
    edge.until(SET, "it follows again", |got| got.max_age == Some(300)).await;
    all_followers_have_it(&server).await;
}

/// The aim is a second; the limit leaves room for a machine that is busy with other tests.
const SEEN_WITHIN: Duration = Duration::from_secs(5);

#[tokio::test]
async fn a_revoked_key_leaves_the_follower_at_once() {
    let (site, grpc) = followed();
    let server = site.start();
    server.ready().await;
    let edge = Edge::start(&site, &grpc);
    let both = edge.until(SET, "the follower serves it", |got| got.status == StatusCode::OK).await;
    let revoked_key = kids(&both.body).remove(1);
    revoke(&site, &revoked_key);
    // Another standby may be there already, in its place.
    let is_gone = |got: &Got| got.status == StatusCode::OK && !kids(&got.body).contains(&revoked_key);
    let jwks_url = server.jwks_url("demo");
    eventually("the server has revoked it", PATIENCE, async || is_gone(&get(&jwks_url).await).then_some(())).await;
    let revoked = Instant::now();
    edge.until(SET, "the follower has it too", is_gone).await;
    let took = revoked.elapsed();
    eprintln!("a revocation reached the follower after {} ms", took.as_millis());
    assert!(took < SEEN_WITHIN, "{took:?}");
    // And for good: what is on the disk is what was served last.
    all_followers_have_it(&server).await;
    let Server { mut process, .. } = server;
    process.kill();
    assert!(is_gone(&edge.restart().get(SET).await));
}

/// Writes are cut off wherever the signal finds them; after each, what is served is a set that the server had.
#[tokio::test]
async fn a_follower_that_is_killed_while_it_writes() {
    const CLIENTS: usize = 12;
    let (mut site, grpc) = followed();
    for n in 0..CLIENTS {
        site.append(&format!(
            "\n[[client]]\nname = \"c{n}\"\ntoken_endpoint = \"https://as.example/token\"\nhsm = [\"soft\"]\n\
             keys = [{{ alg = \"ES256\" }}]\n"
        ));
    }
    let server = site.start();
    server.ready().await;
    let mut edge = Edge::start(&site, &grpc);
    edge.until(SET, "the follower serves it", |got| got.status == StatusCode::OK).await;
    let ops = server.ops();
    let creating = tokio::spawn(async move {
        for n in 0..CLIENTS {
            create(&ops, &format!("c{n}")).await;
        }
    });
    let demo = server.jwks_of("demo").await.to_string();
    let mut rounds = 0;
    while !creating.is_finished() || rounds < 10 {
        edge = edge.restart();
        let got = edge.get(SET).await;
        let body: Value = serde_json::from_str(&got.body).unwrap_or_else(|error| panic!("{error}: {got:?}"));
        assert_eq!(body.to_string(), demo, "round {rounds}");
        assert!(!edge.process.log().contains("is not served"), "{}", edge.process.log());
        rounds += 1;
    }
    creating.await.unwrap();
    let last = format!("/clients/c{}/jwks.json", CLIENTS - 1);
    edge.until(&last, "all are there in the end", |got| got.status == StatusCode::OK).await;
    all_followers_have_it(&server).await;
    let Server { mut process, .. } = server;
    process.kill();
    let edge = edge.restart();
    for n in 0..CLIENTS {
        assert_eq!(edge.get(&format!("/clients/c{n}/jwks.json")).await.status, StatusCode::OK, "c{n}");
    }
}

/// What would be lost in a crash must not let a new key sign.
#[tokio::test]
async fn what_can_not_be_saved_is_served_and_not_acknowledged() {
    let (mut site, grpc) = followed();
    site.append(
        "\n[[client]]\nname = \"later\"\ntoken_endpoint = \"https://as.example/token\"\nhsm = [\"soft\"]\n\
         keys = [{ alg = \"ES256\" }]\n",
    );
    let server = site.start();
    server.ready().await;
    let edge = Edge::start(&site, &grpc);
    all_followers_have_it(&server).await;
    // A file can't be made where a folder is, whoever asks.
    let in_the_way = edge.state().join("jwks-set.new");
    std::fs::create_dir(&in_the_way).unwrap();
    create(&server.ops(), "later").await;
    edge.until("/clients/later/jwks.json", "the new client is served", |got| got.status == StatusCode::OK).await;
    eventually("the alarm", PATIENCE, async || {
        (edge.metric("hallmark_jwks_save_failures_total{}").await > 0.0).then_some(())
    })
    .await;
    assert_eq!(server.metric("hallmark_followers_behind{}").await, 1.0);
    std::fs::remove_dir(&in_the_way).unwrap();
    all_followers_have_it(&server).await;
}

#[tokio::test]
async fn who_may_follow_and_whose_word_counts() {
    let (site, _) = followed();
    let server = site.start();
    server.ready().await;
    let refused = watch(&server.app(), "").await.unwrap_err();
    assert_eq!((refused.code, refused.reason.as_str()), (Code::PermissionDenied, "NOT_AN_OPERATOR"));
    let nobody = watch(&server.caller(None), "").await.unwrap_err();
    assert_eq!(nobody.code, Code::Unauthenticated);

    let edge = server.caller(Some(&site.ca.client(EDGE)));
    let listed = edge.keys().list_keys(ListKeysRequest::default()).await.unwrap_err();
    assert_eq!(listed.code(), Code::PermissionDenied, "it may follow, and nothing else");

    // Whoever else watches counts for nothing, whatever it says.
    let mut other = watch(&server.ops(), "other").await.unwrap();
    let (generation, documents) = other.whole().await;
    assert!(documents.contains(&SET.to_owned()), "{documents:?}");
    other.acknowledge(generation + 1000);
    let mut follower = watch(&edge, "mine").await.unwrap();
    let (generation, _) = follower.whole().await;
    assert_eq!(server.metric("hallmark_followers_behind{}").await, 1.0);
    // Nobody has what was not sent: the next generation is not acknowledged by this.
    follower.acknowledge(generation + 1000);
    all_followers_have_it(&server).await;
    let kid = kids(&get(&server.jwks_url("demo")).await.body)[1].clone();
    revoke(&site, &kid);
    let change = follower.message().await;
    assert!(change.complete && !change.whole && change.generation == generation + 1, "{change:?}");
    assert_eq!(change.documents.iter().map(|document| document.path.as_str()).collect::<Vec<_>>(), [SET]);
    assert_eq!(server.metric("hallmark_followers_behind{}").await, 1.0);
    follower.acknowledge(generation + 1);
    // The next standby may follow at any time.
    tokio::select! {
        () = all_followers_have_it(&server) => {}
        () = follower.acknowledge_what_comes() => {}
    }

    let bad = watch(&edge, "no spaces please").await.unwrap().updates.message().await;
    let bad = match bad {
        // The first message may be on its way before the name was looked at.
        Ok(_) => watch(&edge, "no spaces please").await.unwrap().until_refused().await,
        Err(status) => Refusal::from(status),
    };
    assert_eq!(bad.reason, "INVALID_REQUEST");
}

/// A watch by hand.
#[derive(Debug)]
pub(crate) struct Watch {
    says: tokio::sync::mpsc::UnboundedSender<WatchJwksRequest>,
    updates: tonic::Streaming<WatchJwksResponse>,
}

pub(crate) async fn watch(caller: &Caller, instance: &str) -> Result<Watch, Refusal> {
    let (says, said) = tokio::sync::mpsc::unbounded_channel();
    says.send(WatchJwksRequest { instance: instance.to_owned(), acknowledged_generation: 0 }).unwrap();
    let said = tokio_stream::wrappers::UnboundedReceiverStream::new(said);
    let updates = caller.jwks().watch_jwks(said).await?.into_inner();
    Ok(Watch { says, updates })
}

impl Watch {
    pub(crate) async fn message(&mut self) -> WatchJwksResponse {
        let message = tokio::time::timeout(PATIENCE, self.updates.message()).await.expect("a message in time");
        message.unwrap().expect("the stream goes on")
    }

    /// Until the stream ends.
    async fn acknowledge_what_comes(&mut self) {
        while let Some(message) = self.updates.message().await.unwrap() {
            self.acknowledge(message.generation);
        }
    }

    async fn until_refused(mut self) -> Refusal {
        loop {
            match self.updates.message().await {
                Ok(message) => assert!(message.is_some(), "it ended without a word"),
                Err(status) => return status.into(),
            }
        }
    }

    pub(crate) async fn whole(&mut self) -> (u64, Vec<String>) {
        let message = self.message().await;
        assert!(message.whole && message.complete);
        (message.generation, message.documents.into_iter().map(|document| document.path).collect())
    }

    pub(crate) fn acknowledge(&self, generation: u64) {
        self.says.send(WatchJwksRequest { instance: String::new(), acknowledged_generation: generation }).unwrap();
    }
}

async fn create(ops: &Caller, client: &str) {
    let request = CreateKeysRequest {
        request_id: client.to_owned(),
        reason: "a test".to_owned(),
        client: client.to_owned(),
        alg: String::new(),
    };
    ops.keys().create_keys(request).await.unwrap();
}

/// By hand, in the store: the server reads it again several times within its lease.
pub(crate) fn revoke(site: &Site, kid: &str) {
    let script = "import sqlite3, sys\n\
                  db = sqlite3.connect(sys.argv[1], timeout=30)\n\
                  with db:\n  \
                  db.execute(\"UPDATE keys SET state = 'compromised', compromised = created WHERE kid = ?\", (sys.argv[2],))\n  \
                  db.execute(\"UPDATE store_state SET generation = generation + 1\")\n\
                  print(db.total_changes)";
    let done =
        Command::new("python3").args(["-c", script]).arg(site.folder().join("keys.db")).arg(kid).output().unwrap();
    assert_eq!(String::from_utf8_lossy(&done.stdout).trim(), "2", "{done:?}");
}
