//! An issuer's key set, as last read. A set that was good stays in force while no other can be had.

use std::{
    fs,
    path::{Path, PathBuf},
    pin::Pin,
    sync::Arc,
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use hallmark_core::{
    error::{Error, Reason},
    key::Alg,
};
use jsonwebtoken::{
    Algorithm, DecodingKey, Validation,
    jwk::{Jwk, JwkSet, PublicKeyUse},
};
use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;

use super::invalid;

/// Where an issuer's keys are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    File(PathBuf),
    Url {
        url: String,
        /// PEM; these authorities and no others.
        ca: Option<PathBuf>,
    },
}

/// What was fetched, or why not.
pub type Fetched<'a> = Pin<Box<dyn Future<Output = Result<Vec<u8>, String>> + Send + 'a>>;

/// Fetches key sets: within seconds, no more than some hundred KiB, and past no redirect.
pub trait FetchKeys: Send + Sync + 'static {
    /// The body, where the answer is 200.
    fn fetch<'a>(&'a self, url: &'a str, ca: Option<&'a Path>) -> Fetched<'a>;
}

pub(super) struct Keys {
    source: KeySource,
    fetch: Arc<dyn FetchKeys>,
    /// `None` before the first reading that succeeded.
    current: ArcSwap<Option<JwkSet>>,
    /// When the last reading began. Held while one is under way, so that all who wait share it.
    last: Mutex<Option<Instant>>,
}

impl Keys {
    pub(super) fn new(source: KeySource, fetch: Arc<dyn FetchKeys>) -> Self {
        Self { source, fetch, current: ArcSwap::from_pointee(None), last: Mutex::new(None) }
    }

    /// Reads the set, and again each time that it is due, until `end`.
    pub(super) async fn follow(&self, end: &CancellationToken) {
        loop {
            self.read_again(Duration::ZERO).await;
            let every = match (&self.source, self.current.load().is_some()) {
                (KeySource::Url { .. }, true) => URL_EVERY,
                _ => FILE_EVERY,
            };
            if end.run_until_cancelled(tokio::time::sleep(every)).await.is_none() {
                return;
            }
        }
    }

    /// Whether one of the issuer's keys made the signature. A `kid` that is not known has the set read again, though no
    /// more often than once in [`FLOOR`]: whoever invents them must not have us flood the issuer.
    pub(super) async fn verify(&self, token: &str, alg: Alg, kid: Option<&str>) -> Result<(), Error> {
        for try_again in [true, false] {
            let set = self.current.load_full();
            match set.as_ref().as_ref().and_then(|set| choose(set, alg, kid)) {
                Some(jwk) => return check_signature(token, alg, jwk),
                None if try_again => self.read_again(FLOOR).await,
                None if set.is_none() => {
                    let text = "the issuer's keys could not be read yet; try again";
                    return Err(Error::new(Reason::IssuerUnavailable, text).retry_after(Duration::from_secs(2)));
                }
                None => {}
            }
        }
        Err(invalid("is signed by a key that its issuer does not publish"))
    }

    /// Reads, unless that began within `floor`.
    async fn read_again(&self, floor: Duration) {
        let mut last = self.last.lock().await;
        if last.is_some_and(|last| last.elapsed() < floor) {
            return;
        }
        *last = Some(Instant::now());
        let read = async {
            match &self.source {
                KeySource::File(path) => fs::read(path).map_err(|error| format!("`{}`: {error}", path.display())),
                KeySource::Url { url, ca } => self.fetch.fetch(url, ca.as_deref()).await,
            }
        };
        let read = tokio::time::timeout(PATIENCE, read).await.unwrap_or_else(|_| Err("no answer in time".to_owned()));
        match read.and_then(|body| parse(&body)) {
            Ok(set) => self.current.store(Arc::new(Some(set))),
            Err(error) => {
                tracing::warn!(source = ?self.source, error, "an issuer's keys can't be read; the last ones count")
            }
        }
    }
}

fn parse(body: &[u8]) -> Result<JwkSet, String> {
    if body.len() > MAX_SET {
        return Err(format!("it is longer than {MAX_SET} bytes"));
    }
    // One key of a kind that nobody here knows must not take the others along.
    let whole: serde_json::Value = serde_json::from_slice(body).map_err(|_| "it is no JSON".to_owned())?;
    let keys = whole.get("keys").and_then(serde_json::Value::as_array).ok_or("it is no JWK Set")?;
    let keys: Vec<Jwk> =
        keys.iter().take(MAX_KEYS).filter_map(|key| serde_json::from_value(key.clone()).ok()).collect();
    if keys.is_empty() { Err("it has no key that can be used".to_owned()) } else { Ok(JwkSet { keys }) }
}

/// The key with that `kid`; without one, the only key that fits.
fn choose<'a>(set: &'a JwkSet, alg: Alg, kid: Option<&str>) -> Option<&'a Jwk> {
    let signs = |jwk: &&Jwk| !matches!(&jwk.common.public_key_use, Some(usage) if *usage != PublicKeyUse::Signature);
    let suits = |jwk: &&Jwk| {
        let said = jwk.common.key_algorithm.map(|said| said.to_string());
        said.is_none_or(|said| said.eq_ignore_ascii_case(alg.as_str()))
    };
    let mut fitting = set.keys.iter().filter(signs).filter(suits);
    match kid {
        Some(kid) => fitting.find(|jwk| jwk.common.key_id.as_deref() == Some(kid)),
        None => fitting.next().filter(|_| fitting.next().is_none()),
    }
}

fn check_signature(token: &str, alg: Alg, jwk: &Jwk) -> Result<(), Error> {
    let wrong = || invalid("does not verify with the key that it names");
    let key = DecodingKey::from_jwk(jwk).map_err(|_| wrong())?;
    let named: Algorithm = alg.as_str().parse().map_err(|_| wrong())?;
    let mut validation = Validation::new(named);
    // Dates and audience are checked by our clock and our rules.
    (validation.validate_exp, validation.validate_nbf, validation.validate_aud) = (false, false, false);
    validation.required_spec_claims.clear();
    jsonwebtoken::decode::<serde_json::Value>(token, &key, &validation).map(drop).map_err(|_| wrong())
}

/// How soon a new file counts, and how often a set that was never read is tried again.
const FILE_EVERY: Duration = Duration::from_secs(5);
/// Issuers publish a key before they use it, and one that is not known is looked for at once.
const URL_EVERY: Duration = Duration::from_secs(300);
/// The least time between two readings for keys that are not known.
const FLOOR: Duration = Duration::from_secs(5);
/// For one reading: callers wait for it.
const PATIENCE: Duration = Duration::from_secs(5);
const MAX_SET: usize = 256 * 1024;
const MAX_KEYS: usize = 200;
