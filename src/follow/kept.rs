//! What a publisher publishes, kept on the disk.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use hallmark_core::time::Timestamp;

use super::{
    Standing,
    disk::{DiskError, StateDir, StoredDocument, StoredKind, StoredSet},
};
use crate::service::publish::{Kind, Published, PublishedSet, Publisher, Slot};

/// The last set of one publisher on the disk.
#[derive(Debug)]
pub struct Kept {
    state: Arc<StateDir>,
    /// The set that the disk has.
    saved: Option<Arc<PublishedSet>>,
    confirmed: Instant,
    failing: bool,
}

impl Kept {
    /// Publishes what is there; a set that can't be read is put aside, with an alarm, for the source has a good one.
    pub fn open(state: StateDir, publisher: &Publisher, standing: &Standing) -> Result<Self, DiskError> {
        let this = Self { state: Arc::new(state), saved: None, confirmed: Instant::now(), failing: false };
        match this.state.load() {
            Ok(Some((set, heard))) => {
                standing.heard_at(heard);
                let slots =
                    set.documents.iter().filter_map(|document| Some((document.path.as_str().into(), slot(document)?)));
                publisher.take(set.max_age(), slots.collect::<HashMap<_, _>>());
                publisher.set_ahead(set.ahead_ms);
                tracing::info!(
                    documents = set.documents.len(),
                    "serving the set on the disk until the source is heard"
                );
            }
            Ok(None) => {}
            Err(error @ DiskError::Corrupt { .. }) => {
                let aside = this.state.set_aside()?;
                tracing::error!(%error, aside = %aside.display(), "the set on the disk is not served; waiting for the source's");
            }
            Err(error) => return Err(error),
        }
        Ok(this)
    }

    /// Has the disk keep what is published at `now`; what can't be saved is served all the same, with an alarm.
    pub async fn keep(&mut self, publisher: &Publisher, standing: &Standing, now: Timestamp) {
        let (state, set) = (self.state.clone(), publisher.current());
        let is_saved = self.saved.as_ref().is_some_and(|saved| Arc::ptr_eq(saved, &set));
        if is_saved && self.confirmed.elapsed() < CONFIRM_EVERY {
            return;
        }
        self.confirmed = Instant::now();
        let (stored, ahead_ms) = (set.clone(), publisher.ahead_ms());
        let kept = tokio::task::spawn_blocking(move || match is_saved {
            true => state.confirm(now),
            false => state.save(&stored_set(&stored, ahead_ms)),
        });
        match kept.await {
            Ok(Ok(())) => (self.saved, self.failing) = (Some(set), false),
            Ok(Err(error)) => {
                standing.save_failed();
                self.saved = None;
                // Once, for it is tried again several times a second.
                if !std::mem::replace(&mut self.failing, true) {
                    tracing::error!(%error, "the set can't be saved; it is served, and would be missed after a restart\nhint: make room, or see who may write there");
                }
            }
            Err(error) => tracing::error!(%error, "saving the set panicked; please report it"),
        }
    }
}

fn stored_set(set: &PublishedSet, ahead_ms: i64) -> StoredSet {
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    let text = |bytes: &Bytes| String::from_utf8(bytes.to_vec()).ok();
    let document = |(path, slot, published): (&str, &Slot, &Arc<Published>)| {
        Some(StoredDocument {
            path: path.to_owned(),
            client: slot.client.to_string(),
            kind: match slot.kind {
                Kind::Jwks => StoredKind::Jwks,
                Kind::Pem => StoredKind::Pem,
            },
            body: text(&published.body)?,
            etag: text(&published.etag)?,
            next_change: slot.next_change,
            edge_ttl_ms: slot.edge_ttl.map(millis),
        })
    };
    StoredSet { max_age_ms: millis(set.max_age), ahead_ms, documents: set.documents().filter_map(document).collect() }
}

/// A stored document, ready to be served.
pub(super) fn slot(document: &StoredDocument) -> Option<Slot> {
    let kind = match document.kind {
        StoredKind::Jwks => Kind::Jwks,
        StoredKind::Pem => Kind::Pem,
    };
    let (body, etag) = (Bytes::from(document.body.clone()), Bytes::from(document.etag.clone()));
    Some(Slot {
        kind,
        client: document.client.parse().ok()?,
        published: Some(Arc::new(Published { body, etag })),
        next_change: document.next_change,
        edge_ttl: document.edge_ttl_ms.map(Duration::from_millis),
        // What only its signer may serve is not sent.
        only_here: false,
        // Whoever reads a set from the disk is asked by verifiers alone.
        host: None,
        since: 0,
    })
}

/// How exactly the disk says when the set was last known to hold.
const CONFIRM_EVERY: Duration = Duration::from_secs(60);
