//! What several profiles make, as real authorization servers and libraries take it, through a rotation.

use std::{collections::BTreeSet, sync::Arc};

use hallmark_proto::v1::RotateKeysRequest;
use serde_json::{Value, json};
use tokio::{sync::Barrier, task::JoinSet, time::timeout};

use crate::hsm_contract::table::{self, Column};
use crate::support::{
    Caller, PATIENCE, Process, Server, Site, claims, eventually, token_request,
    verifiers::{self, AuthorizationServer},
};

/// A standby that was published for a second may sign. Nothing rotates by itself.
const TIMES: &str = "\n[unsafe_testing]\nsweep_every = \"100ms\"\nlead = \"1s\"\n";

/// Profile and algorithm; the last one has the issuer as `aud`, and a `typ` of its own.
const CLIENTS: [(&str, &str); 4] =
    [("oidc-provider", "RS384"), ("keycloak", "RS256"), ("smart-v2", "ES384"), ("rfc7523bis", "ES256")];

fn site(server: &AuthorizationServer) -> Site {
    let mut site = Site::new();
    for (profile, alg) in CLIENTS {
        site.add_client(profile, alg, &server.token_endpoint);
        site.append(&format!("profile = \"{profile}\"\nissuer = \"{}\"\n", server.issuer));
    }
    site.append(TIMES);
    site
}

/// npm's jose with a cache of its own, which no unknown `kid` renews.
struct Jose {
    url: String,
    _process: Process,
    _folder: tempfile::TempDir,
}

impl Jose {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let process = verifiers::script(verifiers::NODE, "jose-verifier.mjs", folder.path(), |_| {});
        let ready: Value = serde_json::from_str(&process.line()).unwrap();
        Self { url: ready["verify"].as_str().unwrap().to_owned(), _process: process, _folder: folder }
    }
}

/// Gets access tokens without pause, and shows each assertion to jose too, until the next key has signed some of them;
/// says when it has the first.
async fn ask_without_pause(app: Caller, client: &'static str, jwks: String, jose: String, begun: Arc<Barrier>) {
    let (mut kids, mut has_begun, mut of_the_next) = (BTreeSet::new(), false, 0);
    while of_the_next < 5 {
        let signed = app.sign_for(client).await.unwrap();
        let (status, answer) = token_request::send(&signed.token_request.unwrap()).await;
        assert_eq!(status, 200, "{client}, after {}: {answer}", kids.len());
        let aud = claims(&signed.assertion)["aud"].clone();
        let asked =
            json!({"assertion": signed.assertion, "jwks": jwks, "audience": aud, "issuer": format!("{client}-id")});
        let verdict = reqwest::Client::new().post(&jose).json(&asked).send().await.unwrap();
        let verdict: Value = verdict.json().await.unwrap();
        assert_eq!(verdict["ok"], true, "{client}: {verdict}");
        kids.insert(signed.kid);
        if kids.len() == 2 {
            of_the_next += 1;
        } else if !std::mem::replace(&mut has_begun, true) {
            begun.wait().await;
        }
    }
}

/// As soon as the next key was published for long enough.
async fn rotate(server: &Server, client: &str) {
    let (ops, mut tries) = (server.ops(), 0);
    eventually(&format!("`{client}` rotates"), PATIENCE, async || {
        tries += 1;
        let request = RotateKeysRequest {
            request_id: format!("{client}-{tries}"),
            reason: "test".to_owned(),
            client: client.to_owned(),
            alg: String::new(),
            force: false,
        };
        ops.keys().rotate_keys(request).await.ok()
    })
    .await;
}

async fn through_a_rotation(mut authorization: AuthorizationServer) {
    let site = site(&authorization);
    let server = site.start_with(|command| _ = command.arg("--unsafe-testing"));
    server.ready().await;
    let (jose, mut callers) = (Jose::start(), JoinSet::new());
    let begun = Arc::new(Barrier::new(CLIENTS.len() + 1));
    for (client, alg) in CLIENTS {
        // A verifier that keeps a set for a minute must have seen the next key in the first that it gets.
        eventually("two keys are published", PATIENCE, async || {
            let answer = reqwest::get(server.jwks_url(client)).await.unwrap();
            let set: Value = serde_json::from_slice(&answer.bytes().await.unwrap()).ok()?;
            (set["keys"].as_array()?.len() == 2).then_some(())
        })
        .await;
        authorization.register(&format!("{client}-id"), &server.jwks_url(client), alg, "").await;
    }
    let events = authorization.take_events();
    for (client, _) in CLIENTS {
        let caller = ask_without_pause(server.app(), client, server.jwks_url(client), jose.url.clone(), begun.clone());
        callers.spawn(caller);
    }
    // The verifiers have the sets of before the rotation.
    begun.wait().await;
    for (client, _) in CLIENTS {
        rotate(&server, client).await;
        // PyJWT fetches the set anew: it must have the new key already.
        let signed = server.app().sign_for(client).await.unwrap();
        let aud = claims(&signed.assertion)["aud"].as_str().unwrap().to_owned();
        verifiers::pyjwt(&signed.assertion, &server.jwks_url(client), &aud, &format!("{client}-id"));
    }
    timeout(PATIENCE, callers.join_all()).await.expect("both keys of each client sign");
    let refused: Vec<_> = events.try_iter().filter(|event| event.contains("\"refused\"")).collect();
    assert_eq!(refused, [] as [String; 0]);
    server.stop().await;
    table::compare_cell("SoftHSM", Column::MainJob, "RS256 RS384 ES256 ES384, rotation");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn oidc_provider_takes_what_profiles_make_through_a_rotation() {
    through_a_rotation(AuthorizationServer::oidc_provider()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn authlib_takes_what_profiles_make_through_a_rotation() {
    through_a_rotation(AuthorizationServer::authlib()).await;
}
