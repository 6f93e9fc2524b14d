//! Keys made and destroyed beside the rounds: a queue for each HSM, so that one that is slow or down holds up no other.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    sync::{Mutex, MutexGuard, PoisonError},
};

use hallmark_core::key::{HsmName, KeyLine};
use tokio_util::sync::CancellationToken;

use super::{Inner, Rotation, alarms::Alarm};

/// What is under way, and what failed since it was last time to try.
#[derive(Default)]
pub(super) struct Acts {
    state: Mutex<State>,
    end: CancellationToken,
}

#[derive(Default)]
struct State {
    busy: HashSet<HsmName>,
    /// Each with what is wrong, until it goes well or is not wanted any more.
    failed: HashMap<KeyLine, String>,
    failed_lines: HashSet<KeyLine>,
}

impl Acts {
    /// Begins nothing more.
    pub(super) fn stop(&self) {
        self.end.cancel();
    }

    /// What failed may be tried again.
    pub(super) fn forgive(&self) {
        self.state().failed_lines.clear();
    }

    /// Whether the last try for `line` failed, and it is not time for another.
    pub(super) fn has_failed(&self, line: &KeyLine) -> bool {
        self.state().failed_lines.contains(line)
    }

    /// The lines that are in trouble.
    pub(super) fn failing(&self) -> Vec<KeyLine> {
        self.state().failed.keys().cloned().collect()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Rotation {
    /// Has each HSM do what is wanted of it, if it is up and not at something already; the sweep is woken when it is done.
    pub(super) fn act(&self, lines: Vec<KeyLine>) {
        let mut by_hsm: HashMap<HsmName, Vec<KeyLine>> = HashMap::new();
        let is_up = |hsm: &HsmName| self.0.parts.context.pools.get(hsm).is_some_and(|pool| pool.is_up());
        // The others are reached by other replicas, which do it.
        for line in lines.into_iter().filter(|line| is_up(&line.hsm)) {
            let queue = by_hsm.entry(line.hsm.clone()).or_default();
            if queue.len() < MOST_AT_ONCE && !queue.contains(&line) {
                queue.push(line);
            }
        }
        for (hsm, lines) in by_hsm {
            if self.0.acts.state().busy.insert(hsm.clone()) {
                let this = self.clone();
                tokio::spawn(async move {
                    let _busy = Busy { inner: &this.0, hsm };
                    for line in lines {
                        tokio::select! {
                            () = this.0.acts.end.cancelled() => return,
                            () = this.act_on(&line) => {}
                        }
                    }
                });
            }
        }
    }

    /// Resolves once no HSM is at anything.
    #[cfg(test)]
    pub(super) async fn idle(&self) {
        while !self.0.acts.state().busy.is_empty() {
            tokio::task::yield_now().await;
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    }

    async fn act_on(&self, line: &KeyLine) {
        let result = self.0.parts.keys.act(line).await;
        self.0.parts.metrics.rotation().act(result.is_ok());
        let failed = {
            let mut state = self.0.acts.state();
            match result {
                Ok(()) => state.failed.remove(line).map(drop).unwrap_or_default(),
                Err(error) => {
                    tracing::warn!(%line, %error, "keys can't be made or destroyed yet");
                    state.failed.insert(line.clone(), error.to_string());
                    state.failed_lines.insert(line.clone());
                }
            }
            texts(&state.failed)
        };
        self.0.alarms.replace(Alarm::Act, failed);
    }

    /// Lines for which nothing is wanted any more are in no trouble.
    pub(super) fn keep_failed(&self, wanted: &[KeyLine]) {
        let failed = {
            let mut state = self.0.acts.state();
            if state.failed.is_empty() {
                return;
            }
            let wanted: HashSet<_> = wanted.iter().collect();
            state.failed.retain(|line, _| wanted.contains(line));
            texts(&state.failed)
        };
        self.0.alarms.replace(Alarm::Act, failed);
    }
}

fn texts(failed: &HashMap<KeyLine, String>) -> BTreeMap<String, String> {
    failed.iter().map(|(line, why)| (line.to_string(), why.clone())).collect()
}

/// An HSM that is at something; the sweep looks again when it is done.
struct Busy<'a> {
    inner: &'a Inner,
    hsm: HsmName,
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.inner.acts.state().busy.remove(&self.hsm);
        self.inner.parts.rules.wake.notify_one();
    }
}

/// Then the sweep looks again, for what was wanted first may matter less by then.
const MOST_AT_ONCE: usize = 64;
