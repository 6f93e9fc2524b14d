//! Beside the rounds: looks at the public URLs that static hosts answer, as a verifier would.
//!
//! One pass over all such clients at a time, a few of them at once, on the replica that sweeps. A round only asks what was
//! seen ([`super::sightings`]), and waits for no host.

use std::{collections::BTreeMap, pin::Pin, time::Duration};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use hallmark_core::{
    client::{Client, JwksHost},
    key::{KeyId, KeyRecord},
    time::Timestamp,
};
use tokio_util::sync::CancellationToken;

use super::{
    Parts, Rotation,
    alarms::Alarm,
    sightings::{Shown, shown},
};

/// The public side of a key set, as from outside.
pub trait PublicView: Send + Sync + 'static {
    /// Fetches `url` through DNS and TLS, bounded in time and size. An error says what a verifier would have met.
    fn fetch<'a>(&'a self, url: &'a str) -> Look<'a>;
}

/// The document at a URL, later.
pub type Look<'a> = Pin<Box<dyn Future<Output = Result<Bytes, String>> + Send + 'a>>;

/// While this replica sweeps, until `end`.
pub(super) async fn all(rotation: &Rotation, end: &CancellationToken) {
    let mut leads = rotation.0.sightings.watch_lead();
    let looks = async {
        while leads.wait_for(|leads| *leads).await.is_ok() {
            let due = tokio::time::Instant::now() + every(rotation).mul_f64(rand::random_range(0.8..1.2));
            rotation.look_at_hosts().await;
            tokio::time::sleep_until(due).await;
        }
    };
    tokio::select! {
        () = end.cancelled() => {}
        () = looks => {}
    }
}

/// How far apart two looks may be for what is between them to count.
pub(super) fn within(rotation: &Rotation) -> Duration {
    every(rotation) * 3
}

/// A look each minute; more often where the sweep is.
fn every(rotation: &Rotation) -> Duration {
    (rotation.0.parts.every * 6).min(LOOK_EVERY)
}

impl Rotation {
    /// Looks once at each client that a static host serves.
    pub(super) async fn look_at_hosts(&self) {
        let registered = self.0.parts.context.registry.load_full();
        let hosted = registered.clients.values().filter(|client| client.jwks_host == JwksHost::Static).cloned();
        let hosted: Vec<_> = hosted.collect();
        let look = |client: Client| {
            let this = self.clone();
            async move { (client.name.to_string(), this.look_at_host(&client).await) }
        };
        let looks = stream::iter(hosted.into_iter().map(look)).buffer_unordered(AT_ONCE);
        let found: Vec<_> = looks.collect().await;
        let troubles: BTreeMap<_, _> = found.into_iter().filter_map(|(client, why)| Some((client, why?))).collect();
        self.0.alarms.replace(Alarm::PublicUrl, troubles);
    }

    /// Notes what is there; gives what an operator should hear of.
    async fn look_at_host(&self, client: &Client) -> Option<String> {
        let Parts { context, monotonic, public_view, public_url, .. } = &self.0.parts;
        let is_published = |record: &KeyRecord| record.times.published.is_some();
        if !context.keyring.keys().of(&client.name).iter().any(is_published) {
            return None;
        }
        let url = format!("{}{}", public_url.trim_end_matches('/'), client.jwks_path());
        let began = monotonic.elapsed();
        let answer = tokio::time::timeout(LONGEST_LOOK, public_view.fetch(&url)).await;
        let answer = answer.unwrap_or_else(|_| Err("did not answer in time".to_owned()));
        let reading = context.keyring.keys().clone();
        let records = reading.of(&client.name);
        match answer.and_then(|body| shown(&body, records)) {
            Ok(shown) => {
                self.0.sightings.saw(&client.name, &shown.there, began, monotonic.elapsed(), within(self));
                let now = context.keyring.store_time(context.clock.now());
                late(client, records, &shown, now, every(self) * 2).map(|late| format!("`{url}` {late}"))
            }
            Err(why) => {
                self.0.sightings.lost(&client.name);
                Some(format!("`{url}` {why}; until it can be seen, new keys of this client wait"))
            }
        }
    }
}

/// What the host should show, or should have taken away, since longer than `edge_ttl` and some `grace`.
fn late(client: &Client, records: &[KeyRecord], shown: &Shown, now: Timestamp, grace: Duration) -> Option<String> {
    let is_old = |since: Option<Timestamp>| since.is_some_and(|since| now.since(since) > client.edge_ttl + grace);
    let kids = |of: &dyn Fn(&KeyRecord) -> bool| {
        let kids = records
            .iter()
            .filter(|record| of(record))
            .filter_map(|record| Some(record.public.as_ref()?.kid.to_string()));
        kids.collect::<Vec<_>>().join("`, `")
    };
    let has = |keys: &std::collections::HashSet<KeyId>, record: &KeyRecord| keys.contains(&record.id);
    let revoked = kids(&|record| has(&shown.revoked, record) && is_old(record.times.compromised));
    let missing = kids(&|record| {
        hallmark_core::jwk::is_published(record) && !has(&shown.there, record) && is_old(record.times.published)
    });
    match (revoked.as_str(), missing.as_str()) {
        ("", "") => None,
        ("", missing) => {
            Some(format!("is older than `edge_ttl`: it lacks `{missing}`, and new keys wait until it has them"))
        }
        (revoked, _) => Some(format!("is older than `edge_ttl`: it still shows the revoked key `{revoked}`")),
    }
}

const LOOK_EVERY: Duration = Duration::from_secs(60);
/// Above what the view itself allows.
const LONGEST_LOOK: Duration = Duration::from_secs(20);
/// Few: a host that is slow is not to be flooded by its own customer. 4,800 clients a minute at 0.1 s each.
const AT_ONCE: usize = 8;
