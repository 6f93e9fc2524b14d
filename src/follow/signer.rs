//! Follows a server that signs: publishes what it publishes, keeps it on the disk, and says so.

use std::{
    collections::{BTreeMap, HashMap},
    fmt,
    sync::Arc,
    time::{Duration, Instant, UNIX_EPOCH},
};

use hallmark_client::{Client, DocumentKind, JwksUpdate, PublishedDocument};
use hallmark_core::{ports::Clock, time::Timestamp};
use tokio_util::sync::CancellationToken;

use super::{
    Standing,
    disk::{DiskError, StateDir, StoredDocument, StoredKind, StoredSet},
    kept::slot,
};
use crate::service::publish::Publisher;

/// Follows one server.
pub struct Follower {
    client: Client,
    state: Arc<StateDir>,
    publisher: Arc<Publisher>,
    standing: Arc<Standing>,
    clock: Arc<dyn Clock>,
    documents: BTreeMap<String, StoredDocument>,
    max_age: Duration,
    ahead_ms: i64,
    /// Whether the disk has what is published.
    saved: bool,
    confirmed: Instant,
}

impl fmt::Debug for Follower {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Follower")
    }
}

/// What ended a watch.
enum Ended {
    /// In order: watch anew at once.
    Asked,
    Lost(String),
}

impl Follower {
    /// Publishes the set on the disk, if there is one: the server may be away for long.
    ///
    /// A set that can't be read is put aside, with an alarm: the server has a good one.
    pub fn start(
        client: Client,
        state: StateDir,
        publisher: Arc<Publisher>,
        standing: Arc<Standing>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, DiskError> {
        publisher.set_cut_off(true);
        let (documents, max_age) = (BTreeMap::new(), Duration::ZERO);
        let (state, confirmed) = (Arc::new(state), Instant::now());
        let mut this = Self {
            client,
            state,
            publisher,
            standing,
            clock,
            documents,
            max_age,
            ahead_ms: 0,
            saved: false,
            confirmed,
        };
        this.serve_kept()?;
        Ok(this)
    }

    fn serve_kept(&mut self) -> Result<(), DiskError> {
        match self.state.load() {
            Ok(Some((set, heard))) => {
                self.max_age = set.max_age();
                self.ahead_ms = set.ahead_ms;
                self.documents = set.documents.into_iter().map(|document| (document.path.clone(), document)).collect();
                self.saved = true;
                self.standing.heard_at(heard);
                self.publish();
                let documents = self.documents.len();
                tracing::info!(documents, "serving the set on the disk until the signer is heard");
            }
            Ok(None) => {}
            Err(error @ DiskError::Corrupt { .. }) => {
                let aside = self.state.set_aside()?;
                let aside = aside.display();
                tracing::error!(%error, %aside, "the set on the disk is not served; waiting for the signer's");
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    /// Follows until `end`.
    pub async fn run(mut self, end: CancellationToken) {
        let mut failures = 0_u32;
        let mut told = None;
        loop {
            let ended = tokio::select! {
                ended = self.watch(&mut failures) => ended,
                () = end.cancelled() => return,
            };
            if let Ended::Lost(why) = ended {
                self.publisher.set_cut_off(true);
                self.standing.connected(false);
                // Once for each cause: it may be tried for days.
                if told.as_ref() != Some(&why) {
                    tracing::warn!(why, "the signer can't be followed; serving the last set, trying on");
                }
                told = Some(why);
                let delay = FIRST_DELAY.saturating_mul(1 << failures.min(10)).min(LONGEST_DELAY);
                failures += 1;
                let delay = delay.mul_f64(rand::random_range(0.5..1.0));
                if end.run_until_cancelled(tokio::time::sleep(delay)).await.is_none() {
                    return;
                }
            } else {
                told = None;
            }
        }
    }

    async fn watch(&mut self, failures: &mut u32) -> Ended {
        let lost = |error: hallmark_client::Error| {
            let source = std::error::Error::source(&error).map(|source| format!(": {source}")).unwrap_or_default();
            Ended::Lost(format!("{}{source}", error.message()))
        };
        let mut watch = match self.client.watch_jwks(self.state.instance()).await {
            Ok(watch) => watch,
            Err(error) => return lost(error),
        };
        loop {
            let update = match watch.next().await {
                Ok(Some(update)) => update,
                Ok(None) => return Ended::Asked,
                Err(error) => return lost(error),
            };
            let generation = update.generation;
            if update.whole {
                tracing::info!(generation, documents = update.documents.len(), "following the signer");
                if !update.left_out.is_empty() {
                    let clients = update.left_out.join(", ");
                    tracing::warn!(clients, "the signer alone serves these: their verifiers take the first RSA key");
                }
            }
            if let Err(why) = self.take(update).await {
                return Ended::Lost(why);
            }
            *failures = 0;
            if self.saved {
                watch.acknowledge(generation);
            }
        }
    }

    /// Publishes what the update brings, then has it on the disk. Nothing of an update that is not sound.
    async fn take(&mut self, update: JwksUpdate) -> Result<(), String> {
        let now = self.clock.now();
        self.ahead_ms = update.sent_at.map_or(self.ahead_ms, |sent| timestamp(sent).millis() - now.millis());
        if self.adopt(&update)? || self.publisher.generation() == 0 {
            self.publish();
            self.saved = false;
        }
        self.publisher.set_ahead(self.ahead_ms);
        self.publisher.set_cut_off(false);
        self.standing.connected(true);
        self.standing.heard_at(now);
        self.keep(now).await;
        Ok(())
    }

    /// Says whether the update changed anything.
    fn adopt(&mut self, update: &JwksUpdate) -> Result<bool, String> {
        let new = update.documents.iter().map(|document| Ok((document.path.clone(), stored(document)?)));
        let new = new.collect::<Result<BTreeMap<_, _>, String>>()?;
        let mut changed = std::mem::replace(&mut self.max_age, update.max_age) != update.max_age;
        if update.whole {
            changed |= self.documents != new;
            self.documents = new;
            return Ok(changed);
        }
        for path in &update.withdrawn {
            changed |= self.documents.remove(path).is_some();
        }
        for (path, document) in new {
            changed |= self.documents.get(&path) != Some(&document);
            self.documents.insert(path, document);
        }
        Ok(changed)
    }

    /// What can't be saved is served all the same, and not acknowledged.
    async fn keep(&mut self, now: Timestamp) {
        let state = self.state.clone();
        let kept = if self.saved {
            if self.confirmed.elapsed() < CONFIRM_EVERY {
                return;
            }
            self.confirmed = Instant::now();
            tokio::task::spawn_blocking(move || state.confirm(now)).await
        } else {
            let set = StoredSet {
                max_age_ms: u64::try_from(self.max_age.as_millis()).unwrap_or(u64::MAX),
                ahead_ms: self.ahead_ms,
                documents: self.documents.values().cloned().collect(),
            };
            tokio::task::spawn_blocking(move || state.save(&set)).await
        };
        match kept {
            Ok(Ok(())) => self.saved = true,
            Ok(Err(error)) => {
                self.standing.save_failed();
                self.saved = false;
                tracing::error!(%error, "the set can't be saved; it is served, and not acknowledged: new keys wait\nhint: make room, or see who may write there");
            }
            Err(error) => tracing::error!(%error, "saving the set panicked; please report it"),
        }
    }

    fn publish(&self) {
        let slots =
            self.documents.values().filter_map(|document| Some((document.path.as_str().into(), slot(document)?)));
        self.publisher.take(self.max_age, slots.collect::<HashMap<_, _>>());
        self.publisher.set_ahead(self.ahead_ms);
    }
}

/// Refuses what could not be served as it is.
fn stored(document: &PublishedDocument) -> Result<StoredDocument, String> {
    let PublishedDocument { path, client, kind, body, etag, next_change, edge_ttl, .. } = document;
    let kind = match kind {
        DocumentKind::Jwks => StoredKind::Jwks,
        DocumentKind::Pem => StoredKind::Pem,
        _ => return Err(format!("a document of a kind that this version does not know: `{path}`")),
    };
    let tag = etag.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    let is_tag = tag.is_some_and(|tag| tag.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b',')));
    if !path.starts_with('/') || !is_tag || client.parse::<hallmark_core::key::ClientName>().is_err() {
        return Err(format!("a document that can't be served: `{path}` of `{client}` with etag `{etag}`"));
    }
    let body = String::from_utf8(body.clone()).map_err(|_| format!("a document that is no text: `{path}`"))?;
    Ok(StoredDocument {
        path: path.clone(),
        client: client.clone(),
        kind,
        body,
        etag: etag.clone(),
        next_change: next_change.map(timestamp),
        edge_ttl_ms: edge_ttl.map(|ttl| u64::try_from(ttl.as_millis()).unwrap_or(u64::MAX)),
    })
}

fn timestamp(time: std::time::SystemTime) -> Timestamp {
    let millis = time.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
    Timestamp::from_millis(i64::try_from(millis).unwrap_or(i64::MAX))
}

const FIRST_DELAY: Duration = Duration::from_millis(200);
/// A signer that is back is followed again within this time; a revocation there waits as long.
const LONGEST_DELAY: Duration = Duration::from_secs(5);
/// How exactly the disk says when the set was last known to hold.
const CONFIRM_EVERY: Duration = Duration::from_secs(60);
