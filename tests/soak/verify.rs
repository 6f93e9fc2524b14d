//! Shows assertions to real verifiers, which keep the key sets that they fetched.

use std::{
    collections::{HashMap, VecDeque},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
        mpsc::Receiver,
    },
    thread,
    time::Duration,
};

use hallmark_proto::v1::SignAssertionResponse;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::{clock::FastClock, watch::short};
use crate::support::{
    Process, claims,
    verifiers::{AuthorizationServer, NODE, script},
};

/// What a caller got, and for whom.
#[derive(Clone)]
pub(super) struct Signed {
    pub(super) client: String,
    pub(super) kid: String,
    jti: String,
    assertion: String,
    pub(super) issued_ms: i64,
    pub(super) expires_ms: i64,
}

impl Signed {
    pub(super) fn new(client: &str, reply: SignAssertionResponse) -> Self {
        let claims = claims(&reply.assertion);
        let ms = |claim: &str| claims[claim].as_i64().unwrap() * 1000;
        let (issued_ms, expires_ms) = (ms("iat"), ms("exp"));
        let SignAssertionResponse { kid, jti, assertion, .. } = reply;
        Self { client: client.to_owned(), kid, jti, assertion, issued_ms, expires_ms }
    }
}

/// Who looks at it.
#[derive(Clone, Copy, Debug)]
pub(super) enum Verifier {
    /// oidc-provider, which takes each assertion once.
    Server,
    /// npm's jose, with one of its caches.
    Library,
}

/// What came of it.
#[derive(Debug)]
pub(super) enum Verdict {
    Accepted,
    Refused(String),
    /// It was shown after its end: the test's fault.
    Expired,
    /// The verifier could not fetch the key set, because the servers were down.
    Unreachable(String),
}

pub(super) struct Verifiers {
    http: reqwest::Client,
    server: AuthorizationServer,
    refusals: Arc<Refusals>,
    verify_url: String,
    front: String,
    turn: AtomicUsize,
    _library: Process,
    _folder: tempfile::TempDir,
}

impl Verifiers {
    /// Starts both, on the fast clock. `front` is where the key sets are, `http://…`.
    pub(super) fn start(clock: &FastClock, front: String) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut server = AuthorizationServer::oidc_provider_with(|command| {
            command.args(["--fetch-timeout", FETCH_TIMEOUT_MS]);
            clock.apply(command);
        });
        let refusals = Refusals::read(server.take_events());
        let library = script(NODE, "jose-verifier.mjs", folder.path(), |command| clock.apply(command));
        let ready: Value = serde_json::from_str(&library.line()).unwrap();
        Self {
            // Node closes an idle connection soon, by the fast clock.
            http: reqwest::Client::builder().pool_max_idle_per_host(0).build().unwrap(),
            server,
            refusals,
            verify_url: ready["verify"].as_str().unwrap().to_owned(),
            front,
            turn: AtomicUsize::new(0),
            _library: library,
            _folder: folder,
        }
    }

    pub(super) fn token_endpoint(&self) -> &str {
        &self.server.token_endpoint
    }

    pub(super) fn jwks_url(&self, client: &str) -> String {
        format!("{}/clients/{client}/jwks.json", self.front)
    }

    pub(super) async fn register(&self, client: &str, alg: &str) {
        self.server.register(client, &self.jwks_url(client), alg, "").await;
    }

    /// Shows it; again while the key set can't be fetched. `on_retry` hears of each such time.
    pub(super) async fn show(&self, signed: &Signed, to: Verifier, mut on_retry: impl FnMut()) -> Verdict {
        let cache = self.turn.fetch_add(1, Ordering::Relaxed) % CACHES;
        let end = Instant::now() + PATIENCE;
        loop {
            let verdict = match to {
                Verifier::Server => self.ask_server(signed).await,
                Verifier::Library => self.ask_library(signed, cache).await,
            };
            match verdict {
                Verdict::Unreachable(_) if Instant::now() < end => on_retry(),
                verdict => return verdict,
            }
            sleep(TRY_AGAIN).await;
        }
    }

    async fn ask_server(&self, signed: &Signed) -> Verdict {
        let form = [
            ("grant_type", "client_credentials"),
            ("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"),
            ("client_assertion", &signed.assertion),
        ];
        match self.http.post(&self.server.token_endpoint).form(&form).send().await {
            Ok(answer) if answer.status() == 200 => Verdict::Accepted,
            Ok(answer) => {
                let text = answer.text().await.unwrap_or_default();
                let reason = self.refusals.of(&signed.jti).await.unwrap_or(text);
                sorted(reason, &["failed to be refreshed"], "\"exp\" (expiration) claim")
            }
            Err(error) => Verdict::Unreachable(format!("{error:?}")),
        }
    }

    async fn ask_library(&self, signed: &Signed, cache: usize) -> Verdict {
        let Signed { assertion, client, .. } = signed;
        let (jwks, audience) = (self.jwks_url(client), self.token_endpoint());
        let asked =
            json!({"assertion": assertion, "jwks": jwks, "audience": audience, "issuer": client, "cache": cache});
        let answered = async { self.http.post(&self.verify_url).json(&asked).send().await?.json().await };
        let answer: Value = match answered.await {
            Ok(answer) => answer,
            Err(error) => return Verdict::Unreachable(format!("{error:?}")),
        };
        if answer["ok"] == true {
            return Verdict::Accepted;
        }
        let fetched = answer["now"].as_i64().unwrap() - answer["fetched"].as_i64().unwrap_or(0);
        let kids: Vec<_> =
            answer["kids"].as_array().into_iter().flatten().filter_map(Value::as_str).map(short).collect();
        let reason = format!(
            "{}: {}; cache {cache} was fetched {} s ago with {}",
            answer["code"],
            answer["error"],
            fetched / 1000,
            kids.join(" ")
        );
        sorted(reason, &["ERR_JWKS_TIMEOUT", "\"TypeError\"", "Expected 200 OK"], "ERR_JWT_EXPIRED")
    }
}

fn sorted(reason: String, unreachable: &[&str], expired: &str) -> Verdict {
    if reason.contains(expired) {
        Verdict::Expired
    } else if unreachable.iter().any(|text| reason.contains(text)) {
        Verdict::Unreachable(reason)
    } else {
        Verdict::Refused(reason)
    }
}

/// Why the authorization server refused, by `jti`: it does not tell the caller.
#[derive(Default)]
struct Refusals {
    by_jti: Mutex<HashMap<String, String>>,
    fetches: Mutex<VecDeque<(Instant, String)>>,
}

impl Refusals {
    fn read(lines: Receiver<String>) -> Arc<Self> {
        let refusals = Arc::new(Self::default());
        let shared = refusals.clone();
        thread::spawn(move || lines.into_iter().for_each(|line| shared.note(&line)));
        refusals
    }

    fn note(&self, line: &str) {
        let Ok(event) = serde_json::from_str::<Value>(line) else { return };
        match event["event"].as_str() {
            Some("refused") => {
                let jti = event["jti"].as_str().unwrap_or_default().to_owned();
                self.by_jti.lock().unwrap().insert(jti, format!("{}: {}", event["error"], event["detail"]));
            }
            Some("jwks_fetch") => {
                let mut fetches = self.fetches.lock().unwrap();
                fetches.push_back((Instant::now(), format!("{} {}{}", event["url"], event["status"], event["error"])));
                let surplus = fetches.len().saturating_sub(FETCHES_KEPT);
                fetches.drain(..surplus);
            }
            _ => {}
        }
    }

    /// The event is on its way when the answer is.
    async fn of(&self, jti: &str) -> Option<String> {
        for _ in 0..100 {
            if let Some(reason) = self.by_jti.lock().unwrap().remove(jti) {
                return Some(format!("{reason}; last fetches: {}", self.fetches()));
            }
            sleep(Duration::from_millis(10)).await;
        }
        None
    }

    fn fetches(&self) -> String {
        let fetches = self.fetches.lock().unwrap();
        let each =
            fetches.iter().map(|(at, what)| format!("{what} {} s ago", super::clock::faked(at.elapsed()).as_secs()));
        each.collect::<Vec<_>>().join(", ")
    }
}

/// Of jose, for each key set: fetched at different times, so that one of them always sees a change late.
const CACHES: usize = 4;
/// By the fast clock.
const FETCH_TIMEOUT_MS: &str = "60000";
const FETCHES_KEPT: usize = 12;
/// Longer than a server takes to start; real time.
const PATIENCE: Duration = Duration::from_secs(10);
const TRY_AGAIN: Duration = Duration::from_millis(100);
