//! An issuer's key set, as last read. A set that was good stays in force while no other can be had.
//!
//! One task reads, whoever asks ([`Keys::follow`]); callers whose key is not known wait for its next reading. So a caller
//! that goes away takes no reading along, and a crowd of them makes one.

use std::{
    fs::File,
    io::{self, Read},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    pin::Pin,
    sync::Arc,
    time::Duration,
};

use arc_swap::ArcSwap;
use hallmark_core::{
    error::{Error, Reason},
    key::Alg,
};
use jsonwebtoken::{
    Algorithm, DecodingKey, Validation,
    jwk::{AlgorithmParameters, Jwk, JwkSet, PublicKeyUse},
};
use tokio::{
    sync::{Notify, Semaphore, watch},
    time::{Instant, sleep_until, timeout},
};
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
    /// The last reading that is over.
    last: watch::Sender<Option<Reading>>,
    /// Somebody waits for another one.
    wanted: Notify,
    /// Those who may wait at once.
    places: Semaphore,
    /// Taken while a file is being read.
    reading: Arc<Semaphore>,
    /// The least time between two readings that callers want.
    pub(super) floor: Duration,
}

#[derive(Clone, Copy)]
struct Reading {
    began: Instant,
    good: bool,
}

impl Keys {
    pub(super) fn new(source: KeySource, fetch: Arc<dyn FetchKeys>) -> Self {
        let (current, last) = (ArcSwap::from_pointee(None), watch::Sender::new(None));
        let (wanted, places, reading) = (Notify::new(), Semaphore::new(MOST_WAITING), Arc::new(Semaphore::new(1)));
        Self { source, fetch, current, last, wanted, places, reading, floor: FLOOR }
    }

    /// A set that is there, and never read again.
    pub(super) fn given(source: KeySource, fetch: Arc<dyn FetchKeys>, set: &[u8]) -> Result<Self, String> {
        let keys = Self::new(source, fetch);
        keys.current.store(Arc::new(Some(parse(set)?)));
        Ok(keys)
    }

    /// Reads the set, again each time that it is due, and when callers want it, until `end`.
    pub(super) async fn follow(&self, end: &CancellationToken) {
        let mut not_before = Instant::now();
        loop {
            let began = Instant::now();
            let good = self.read().await;
            self.last.send_replace(Some(Reading { began, good }));
            let every = match (&self.source, self.is_known()) {
                (KeySource::Url { .. }, true) => URL_EVERY,
                _ => FILE_EVERY,
            };
            let wanted = async {
                sleep_until(not_before).await;
                self.wanted.notified().await;
            };
            tokio::select! {
                () = end.cancelled() => return,
                () = sleep_until(began + every) => {}
                () = wanted => not_before = Instant::now() + self.floor,
            }
        }
    }

    /// Whether one of the issuer's keys made the signature. A key that is not known is looked for in a reading that
    /// begins after the token came, so that no key is missed that was published before; though such readings are
    /// [`FLOOR`] apart: whoever invents keys must not have us flood the issuer.
    ///
    /// `IssuerUnavailable` where that reading failed, or none ever succeeded: nobody can say then.
    pub(super) async fn verify(&self, token: &str, alg: Alg, kid: Option<&str>) -> Result<(), Error> {
        if let Some(verdict) = self.judge(token, alg, kid) {
            return verdict;
        }
        self.wait_for_reading().await?;
        self.verify_at_once(token, alg, kid)
    }

    /// The same, by the keys that are known now.
    pub(super) fn verify_at_once(&self, token: &str, alg: Alg, kid: Option<&str>) -> Result<(), Error> {
        let unknown = || Err(invalid("is signed by a key that its issuer does not publish"));
        self.judge(token, alg, kid).unwrap_or_else(unknown)
    }

    /// `None` where the key is not known. A token that does not name its key may be signed by any.
    fn judge(&self, token: &str, alg: Alg, kid: Option<&str>) -> Option<Result<(), Error>> {
        let current = self.current.load();
        let fitting = fitting(current.as_ref().as_ref()?, alg, kid);
        let verifies = fitting.iter().any(|jwk| has_signed(token, alg, jwk));
        let named = kid.is_some() && !fitting.is_empty();
        match (verifies, named) {
            (true, _) => Some(Ok(())),
            (false, true) => Some(Err(invalid("does not verify with the key that it names"))),
            (false, false) => None,
        }
    }

    async fn wait_for_reading(&self) -> Result<(), Error> {
        let (arrived, mut last) = (Instant::now(), self.last.subscribe());
        // Who has no set at all reads often enough by himself, and the first one will do.
        let is_known = self.is_known();
        if !is_known && last.borrow().is_some() {
            return Err(unavailable());
        }
        let _place = self.places.try_acquire().map_err(|_| unavailable())?;
        if is_known {
            self.wanted.notify_one();
        }
        let newer = last.wait_for(|last| last.is_some_and(|last| !is_known || last.began >= arrived));
        match timeout(self.floor + PATIENCE + PATIENCE, newer).await.map(|last| last.is_ok_and(|last| is_good(*last))) {
            Ok(true) => Ok(()),
            Ok(false) | Err(_) => Err(unavailable()),
        }
    }

    fn is_known(&self) -> bool {
        self.current.load().is_some()
    }

    /// A file system may hang, and the threads that serve must not; nor must each try leave another thread behind.
    async fn read_file(&self, path: PathBuf) -> Result<Vec<u8>, String> {
        let shown = path.display().to_string();
        let place = self.reading.clone().try_acquire_owned();
        let place = place.map_err(|_| format!("`{shown}`: the reading before this one has not come back"))?;
        let read = tokio::task::spawn_blocking(move || {
            let contents = contents(&path);
            drop(place);
            contents
        });
        let read = read.await.map_err(|error| format!("`{shown}`: {error}"))?;
        read.map_err(|error| format!("`{shown}`: {error}"))
    }

    /// Whether there is a set that is as good as new.
    async fn read(&self) -> bool {
        let read = async {
            match &self.source {
                KeySource::File(path) => self.read_file(path.clone()).await,
                KeySource::Url { url, ca } => self.fetch.fetch(url, ca.as_deref()).await,
            }
        };
        let read = timeout(PATIENCE, read).await.unwrap_or_else(|_| Err("no answer in time".to_owned()));
        match read.and_then(|body| parse(&body)) {
            Ok(set) => {
                self.current.store(Arc::new(Some(set)));
                true
            }
            Err(error) => {
                tracing::warn!(source = ?self.source, error, "an issuer's keys can't be read; the last ones count");
                false
            }
        }
    }
}

/// No more of it than a set may have, and without waiting: what is in its place may be a FIFO.
fn contents(path: &Path) -> io::Result<Vec<u8>> {
    let flags = rustix::fs::OFlags::NONBLOCK.bits() as i32;
    let file = File::options().read(true).custom_flags(flags).open(path)?;
    let mut contents = Vec::new();
    file.take(MAX_SET as u64 + 1).read_to_end(&mut contents)?;
    Ok(contents)
}

fn is_good(reading: Option<Reading>) -> bool {
    reading.is_some_and(|reading| reading.good)
}

fn unavailable() -> Error {
    let text = "the keys of the token's issuer can't be read now, and it may be signed by one of them; try again";
    Error::new(Reason::IssuerUnavailable, text).retry_after(Duration::from_secs(2))
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

/// The keys with that `kid`; without one, all that may have made such a signature.
fn fitting<'a>(set: &'a JwkSet, alg: Alg, kid: Option<&str>) -> Vec<&'a Jwk> {
    let signs = |jwk: &&Jwk| !matches!(&jwk.common.public_key_use, Some(usage) if *usage != PublicKeyUse::Signature);
    let suits = |jwk: &&Jwk| {
        let said = jwk.common.key_algorithm.map(|said| said.to_string());
        said.is_none_or(|said| said.eq_ignore_ascii_case(alg.as_str()))
    };
    let is_of_kind = |jwk: &&Jwk| match &jwk.algorithm {
        AlgorithmParameters::RSA(_) => alg.is_rsa(),
        AlgorithmParameters::EllipticCurve(_) => matches!(alg, Alg::ES256 | Alg::ES384),
        AlgorithmParameters::OctetKeyPair(_) => alg == Alg::EdDSA,
        _ => false,
    };
    let named = |jwk: &&Jwk| kid.is_none_or(|kid| jwk.common.key_id.as_deref() == Some(kid));
    set.keys.iter().filter(signs).filter(is_of_kind).filter(suits).filter(named).take(MOST_TRIED).collect()
}

fn has_signed(token: &str, alg: Alg, jwk: &Jwk) -> bool {
    let (Ok(key), Ok(named)) = (DecodingKey::from_jwk(jwk), alg.as_str().parse::<Algorithm>()) else { return false };
    let mut validation = Validation::new(named);
    // Dates and audience are checked by our clock and our rules.
    (validation.validate_exp, validation.validate_nbf, validation.validate_aud) = (false, false, false);
    validation.required_spec_claims.clear();
    jsonwebtoken::decode::<serde_json::Value>(token, &key, &validation).is_ok()
}

/// How soon a new file counts, and how often a set that was never read is tried again.
const FILE_EVERY: Duration = Duration::from_secs(5);
/// Issuers publish a key before they use it, and one that is not known is looked for at once.
const URL_EVERY: Duration = Duration::from_secs(300);
/// The least time between two readings that callers want, and with it how long one may wait for its own.
const FLOOR: Duration = Duration::from_secs(5);
/// For one reading: callers wait for it.
const PATIENCE: Duration = Duration::from_secs(5);
/// Callers who wait cost memory, and come before anybody knows who they are. Further ones are told to try again.
const MOST_WAITING: usize = 256;
/// Keys that a token which names none is tried with: each costs what a signature costs.
const MOST_TRIED: usize = 4;
const MAX_SET: usize = 256 * 1024;
const MAX_KEYS: usize = 200;
