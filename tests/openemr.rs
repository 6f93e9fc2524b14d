//! OpenEMR 7, which takes the first RSA key of the JWKS whatever the `kid` says: the set and the signing key change at
//! one moment, and no assertion is on its way then.

use std::{
    fs,
    process::{Command, Output},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use hallmark_client::{Client, Connection};
use tokio::task::JoinSet;

use crate::support::{
    HALLMARK, PATIENCE, Server, Site, edge::get, eventually, site::OPS, token_request, verifiers::AuthorizationServer,
};

const CALLERS: usize = 3;
const ROTATIONS: usize = 3;
/// A key is due two seconds after it began to sign; then there is the pause.
const TIMES: &str =
    "\n[unsafe_testing]\nsweep_every = \"100ms\"\nrotate_every = \"2s\"\nlead = \"1s\"\nkeep = \"1500ms\"\n";
/// Of `SWAP_QUIET`, five seconds, some belongs to callers' own slowness on a busy machine.
const HELD_BACK: Duration = Duration::from_secs(3);
const NO_LONGER_PROMISED: Duration = Duration::from_millis(4_800);

/// A site with one more client, `emr`, of OpenEMR at `token_endpoint`.
fn site(token_endpoint: &str) -> Site {
    let mut site = Site::new();
    site.replace("clients = [\"demo\"", "clients = [\"demo\", \"emr\"");
    site.append(&format!(
        "\n[[client]]\nname = \"emr\"\nclient_id = \"emr-id\"\nprofile = \"openemr-7\"\n\
         token_endpoint = \"{token_endpoint}\"\nhsm = [\"soft\"]\nkeys = [{{ alg = \"RS384\" }}]\nprovision = \"auto\"\n"
    ));
    site
}

async fn first_rsa_key(server: &Server) -> Option<String> {
    let answer = reqwest::get(server.jwks_url("emr")).await.unwrap();
    let set: serde_json::Value = serde_json::from_slice(&answer.bytes().await.unwrap()).ok()?;
    Some(set["keys"][0]["kid"].as_str()?.to_owned())
}

/// Gets access tokens without pause; gives how many, and the longest time between two.
async fn ask_without_pause(hallmark: Client, stop: Arc<AtomicBool>) -> (usize, Duration) {
    let (mut tokens, mut longest, mut last) = (0, Duration::ZERO, Instant::now());
    while !stop.load(Ordering::Relaxed) {
        let token = hallmark.token("emr", "").await.unwrap_or_else(|error| panic!("after {tokens} tokens: {error:?}"));
        hallmark.forget_token(&token);
        (tokens, longest, last) = (tokens + 1, longest.max(last.elapsed()), Instant::now());
    }
    (tokens, longest)
}

/// Holds each assertion back for as long as one may, then uses it; gives how many were used.
async fn use_late(server: crate::support::Caller, stop: Arc<AtomicBool>) -> usize {
    let mut used = 0;
    while !stop.load(Ordering::Relaxed) {
        let asked = Instant::now();
        let signed = match server.sign_for("emr").await {
            Ok(signed) => signed,
            Err(refused) => {
                tokio::time::sleep(refused.retry_after.unwrap_or_else(|| panic!("{refused:?}"))).await;
                continue;
            }
        };
        tokio::time::sleep(HELD_BACK).await;
        let (status, answer) = token_request::send(&signed.token_request.unwrap()).await;
        let promised = asked.elapsed() < NO_LONGER_PROMISED;
        assert!(status == 200 || !promised, "{status} {answer}");
        used += usize::from(promised);
    }
    used
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rotations_while_callers_sign_are_not_noticed_by_who_takes_the_first_key() {
    let mut openemr = AuthorizationServer::openemr_7();
    let mut site = site(&openemr.token_endpoint);
    site.append(TIMES);
    site.app().write(site.folder(), "app");
    let server = site.start_with(|command| _ = command.arg("--unsafe-testing"));
    server.ready().await;
    let mut kids = vec![eventually("there is a key", PATIENCE, async || first_rsa_key(&server).await).await];
    openemr.register("emr-id", &server.jwks_url("emr"), "RS384", "").await;
    let events = openemr.take_events();

    let (stop, mut callers) = (Arc::new(AtomicBool::new(false)), JoinSet::new());
    for _ in 0..CALLERS {
        let file = |name: &str| site.folder().join(name);
        let connection = Connection::tls(&server.grpc, file("ca.pem"), file("app.pem"), file("app.key"));
        callers.spawn(ask_without_pause(Client::connect(connection).unwrap(), stop.clone()));
    }
    let late = tokio::spawn(use_late(server.app(), stop.clone()));
    while kids.len() <= ROTATIONS {
        let next = eventually("another key is the first", PATIENCE, async || {
            first_rsa_key(&server).await.filter(|kid| kids.last() != Some(kid))
        });
        kids.push(next.await);
        assert!(kids[..kids.len() - 1].iter().all(|kid| kids.last() != Some(kid)), "a key signs once in its life");
    }
    stop.store(true, Ordering::Relaxed);

    let mut asked = 0;
    for (tokens, longest) in callers.join_all().await {
        assert!(tokens > ROTATIONS && longest >= Duration::from_secs(4), "{tokens} tokens, no pause: {longest:?}");
        assert!(longest < Duration::from_secs(12), "a caller waited for {longest:?}");
        asked += tokens;
    }
    assert!(late.await.unwrap() > 0);
    let refused: Vec<_> = events.try_iter().filter(|event| event.contains("\"refused\"")).collect();
    assert_eq!(refused, [] as [String; 0], "of {asked} and more");
    server.stop().await;
}

/// Any copy would show the key of before: there is none to be had.
#[tokio::test]
async fn nobody_else_may_keep_or_serve_the_documents() {
    let mut site = site("https://emr.example/oauth2/default/token");
    site.replace("provision = \"auto\"\n\n[[client]]", "provision = \"auto\"\nedge_ttl = \"1m\"\n\n[[client]]");
    let server = site.start();
    server.ready().await;
    eventually("there is a key", PATIENCE, async || first_rsa_key(&server).await).await;
    for document in ["jwks.json", "public_key.pem"] {
        let got = get(&server.jwks_url("emr").replace("jwks.json", document)).await;
        assert_eq!((got.status.as_u16(), got.max_age), (200, None), "no-store");
    }
    assert!(get(&server.jwks_url("demo")).await.max_age.is_some());

    site.ca.client(OPS).write(site.folder(), "ops");
    let connection = site.folder().join("ops.toml");
    let text = format!("endpoint = \"{}\"\nca = \"ca.pem\"\ncert = \"ops.pem\"\nkey = \"ops.key\"\n", server.grpc);
    fs::write(&connection, text).unwrap();
    let dir = site.folder().join("public");
    let export = |options: &[&str]| -> Output {
        let mut command = Command::new(HALLMARK);
        command.args(["jwks", "export"]).arg(&dir).args(options).arg("--connection").arg(&connection).output().unwrap()
    };
    let all = export(&[]);
    let said = String::from_utf8_lossy(&all.stderr);
    assert!(all.status.success() && said.contains("warning: left out: `emr`"), "{said}");
    assert!(dir.join("clients/demo/jwks.json").exists() && !dir.join("clients/emr").exists());
    let asked_for = export(&["--client", "emr"]);
    let said = String::from_utf8_lossy(&asked_for.stderr);
    assert_eq!(asked_for.status.code(), Some(1));
    assert!(said.contains("client `emr` can't be exported") && said.contains("hint: "), "{said}");
}
