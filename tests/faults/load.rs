//! Callers that sign without pause, and look closely at what they get.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use hallmark_core::{
    key::Alg,
    public_key::{Curve, PublicKey},
};
use hallmark_proto::v1::SignAssertionResponse;
use serde_json::Value;
use tokio::task::JoinSet;
use tonic::Code;

use crate::support::{Refusal, Server, caller};

/// What the clients of the load are called, and what they sign with.
pub(super) const CLIENTS: &[(&str, &str)] = &[("demo", "ES256"), ("second", "ES384"), ("third", "ES256")];

/// One caller for each client, until it is dropped.
pub(super) struct Load {
    seen: Arc<Mutex<Seen>>,
    _callers: JoinSet<()>,
}

/// What came of it so far.
#[derive(Default)]
struct Seen {
    /// For each client, when the request began that was answered with its last assertion.
    signed: BTreeMap<&'static str, Instant>,
    signatures: BTreeMap<&'static str, usize>,
    /// How often each reason was given since this was asked last.
    refused: BTreeMap<(&'static str, String), usize>,
    /// Answers that must not be.
    wrong: Vec<String>,
    /// The longest that anyone waited for an answer.
    longest: Duration,
}

impl Load {
    pub(super) fn start(server: &Server) -> Self {
        let seen = Arc::new(Mutex::new(Seen::default()));
        let mut callers = JoinSet::new();
        for (client, _) in CLIENTS {
            let jwks = server.jwks_url(client);
            callers.spawn(sign_for(client, server.app(), Published { url: jwks, keys: HashMap::new() }, seen.clone()));
        }
        Self { seen, _callers: callers }
    }

    /// Whether each client has an assertion that was asked for after `since`.
    pub(super) fn all_signed_since(&self, since: Instant) -> bool {
        let seen = self.seen.lock().unwrap();
        CLIENTS.iter().all(|(client, _)| seen.signed.get(client).is_some_and(|at| *at >= since))
    }

    /// As [`Load::all_signed_since`], for one client.
    pub(super) fn signed_since(&self, client: &str, since: Instant) -> bool {
        self.seen.lock().unwrap().signed.get(client).is_some_and(|at| *at >= since)
    }

    /// Client and reason of each refusal since this was asked last, and how often. Panics where an answer was wrong.
    pub(super) fn refused(&self, what: &str) -> BTreeMap<(&'static str, String), usize> {
        let (wrong, refused) = {
            let mut seen = self.seen.lock().unwrap();
            (std::mem::take(&mut seen.wrong), std::mem::take(&mut seen.refused))
        };
        assert!(wrong.is_empty(), "{what}: {wrong:#?}");
        refused
    }

    /// How many assertions the clients got but for one, from the start on.
    pub(super) fn signatures_but_of(&self, client: &str) -> usize {
        let seen = self.seen.lock().unwrap();
        seen.signatures.iter().filter(|(other, _)| **other != client).map(|(_, count)| count).sum()
    }

    /// The longest that anyone waited since this was asked last.
    pub(super) fn longest(&self) -> Duration {
        std::mem::take(&mut self.seen.lock().unwrap().longest)
    }
}

async fn sign_for(client: &'static str, app: caller::Caller, mut published: Published, seen: Arc<Mutex<Seen>>) {
    loop {
        let began = Instant::now();
        let answer = app.sign(caller::within(DEADLINE, caller::for_client(client))).await;
        let took = began.elapsed();
        let wrong = match &answer {
            Ok(signed) => published.check(client, signed).await.err(),
            Err(refusal) => unfit(refusal),
        };
        let pause = if answer.is_ok() { Duration::from_millis(2) } else { Duration::from_millis(10) };
        let note = |mut seen: std::sync::MutexGuard<'_, Seen>| {
            seen.wrong.extend(wrong);
            seen.longest = seen.longest.max(took);
            match answer {
                Ok(_) => {
                    seen.signed.insert(client, began);
                    *seen.signatures.entry(client).or_default() += 1;
                }
                Err(refusal) => *seen.refused.entry((client, refusal.reason)).or_default() += 1,
            }
        };
        note(seen.lock().unwrap());
        tokio::time::sleep(pause).await;
    }
}

/// What is wrong with a refusal: a caller must learn whether and when to come back, and never that we have a bug.
fn unfit(refusal: &Refusal) -> Option<String> {
    let with_delay = refusal.retry_after.is_some();
    let fits = match (refusal.code, refusal.reason.as_str()) {
        (Code::Unavailable, "HSM_UNAVAILABLE" | "KEY_QUARANTINED") | (Code::ResourceExhausted, "OVERLOADED") => {
            with_delay
        }
        // It waits for an operator, and nobody knows until when.
        (Code::Unavailable, "PIN_REFUSED") => true,
        (Code::FailedPrecondition, "HSM_REFUSED" | "KEY_ABSENT" | "CUSTODY_TOO_WEAK" | "ALG_UNSUPPORTED") => true,
        (Code::DeadlineExceeded, "DEADLINE_EXCEEDED") => true,
        _ => false,
    };
    (!fits).then(|| format!("{refusal:?}"))
}

/// A client's keys as verifiers see them, fetched when one is missing.
struct Published {
    url: String,
    keys: HashMap<String, PublicKey>,
}

impl Published {
    /// Verifies an assertion with the published key, and looks whether it is what was asked for.
    async fn check(&mut self, client: &str, signed: &SignAssertionResponse) -> Result<(), String> {
        if !self.keys.contains_key(&signed.kid) {
            let jwks: Value = reqwest::get(&self.url).await.unwrap().json().await.unwrap();
            self.keys = jwks["keys"].as_array().unwrap().iter().map(key).collect();
        }
        let key = self.keys.get(&signed.kid).ok_or_else(|| format!("not published: {}", signed.kid))?;
        let (input, signature) = signed.assertion.rsplit_once('.').unwrap();
        let signature = BASE64_URL_SAFE_NO_PAD.decode(signature).unwrap();
        let alg: Alg = signed.alg.parse().unwrap();
        let claims = crate::support::claims(&signed.assertion);
        match key.verifier(alg).unwrap().verifies(input.as_bytes(), &signature) {
            false => Err(format!("does not verify: {}", signed.kid)),
            true if claims["sub"] != format!("{client}-id") => Err(format!("of another client: {claims}")),
            true => Ok(()),
        }
    }
}

fn key(jwk: &Value) -> (String, PublicKey) {
    let number = |name: &str| BASE64_URL_SAFE_NO_PAD.decode(jwk[name].as_str().unwrap()).unwrap();
    let curve = if jwk["crv"] == "P-384" { Curve::P384 } else { Curve::P256 };
    let point = [vec![4], number("x"), number("y")].concat();
    (jwk["kid"].as_str().unwrap().to_owned(), PublicKey::from_ec_point(curve, &point).unwrap())
}

/// How long a caller waits.
const DEADLINE: Duration = Duration::from_secs(5);
