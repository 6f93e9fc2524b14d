//! Looks at the key sets all the while, and remembers how they changed.

use std::{
    collections::BTreeMap,
    fmt::Write,
    sync::{Arc, Mutex},
    time::Duration,
};

use serde_json::Value;

use super::{clock::Clock, tally::Tally};

/// The kids of each client's key set, in their order, from when on.
#[derive(Default)]
pub(super) struct Timeline(Mutex<BTreeMap<String, History>>);

type History = Vec<(i64, Vec<String>)>;

impl Timeline {
    /// Looks until the end of the runtime.
    pub(super) async fn watch(self: Arc<Self>, urls: Vec<(String, String)>, clock: Clock, tally: Arc<Tally>) {
        let http = reqwest::Client::builder().pool_max_idle_per_host(0).build().unwrap();
        let mut every = tokio::time::interval(LOOK_EVERY);
        loop {
            every.tick().await;
            for (client, url) in &urls {
                if let Some(kids) = kids(&http, url).await {
                    let gone = self.note(client, clock.now_ms(), kids);
                    tally.note(|seen| seen.retired += gone);
                }
            }
        }
    }

    /// The history of a client's key set, a line a change; times are relative to `now_ms`.
    pub(super) fn of(&self, client: &str, now_ms: i64) -> String {
        let mut text = String::new();
        for (since, kids) in self.0.lock().unwrap().get(client).into_iter().flatten() {
            writeln!(text, "    {:>7} s: {}", (since - now_ms) / 1000, kids.join(" ")).unwrap();
        }
        text
    }

    /// Gives how many keys left.
    fn note(&self, client: &str, now_ms: i64, kids: Vec<String>) -> u64 {
        let mut all = self.0.lock().unwrap();
        let history = all.entry(client.to_owned()).or_default();
        let before = history.last().map(|(_, kids)| kids.clone()).unwrap_or_default();
        if before != kids {
            history.push((now_ms, kids.clone()));
        }
        before.iter().filter(|kid| !kids.contains(kid)).count() as u64
    }
}

/// `None` where nobody answers: the servers get killed.
async fn kids(http: &reqwest::Client, url: &str) -> Option<Vec<String>> {
    let document: Value = http.get(url).send().await.ok()?.error_for_status().ok()?.json().await.ok()?;
    let keys = document["keys"].as_array()?;
    Some(keys.iter().filter_map(|key| key["kid"].as_str()).map(short).collect())
}

/// Enough of a kid to tell it from others.
pub(super) fn short(kid: &str) -> String {
    kid.chars().take(8).collect()
}

const LOOK_EVERY: Duration = Duration::from_millis(400);
