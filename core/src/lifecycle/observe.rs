//! Observed time: what gates count instead of the wall clock.

use std::time::Duration;

use super::KeyPolicy;
use crate::{
    jwk,
    key::{KeyId, KeyRecord, KeyState},
};

/// What passed since the last observation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Elapsed {
    /// By the wall clock; negative where it was set back.
    pub wall_ms: i64,
    /// By the monotonic clock of this process.
    pub monotonic: Duration,
    /// How often it is observed when all goes well.
    pub interval: Duration,
    /// Whether the JWKS was being served all the while.
    pub served: bool,
}

/// The observed times of one key, to be written into its record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Observation {
    pub key: KeyId,
    pub served_for_ms: u64,
    pub kept_for_ms: u64,
}

impl Elapsed {
    /// What surely passed: the least of both clocks, and never more than two intervals, for nobody looked in between.
    pub fn observed_ms(&self) -> u64 {
        let ms = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        let wall = u64::try_from(self.wall_ms).unwrap_or(0);
        wall.min(ms(self.monotonic)).min(ms(self.interval).saturating_mul(2))
    }
}

/// The records whose observed time grows. The first observation only marks the beginning, for the key came to be where
/// it is at some moment since the one before. Those beyond the gate that needs it are left out, so that nothing is written
/// where nothing is due.
pub fn observe(policy: &KeyPolicy, records: &[KeyRecord], elapsed: &Elapsed) -> Vec<Observation> {
    observe_where(policy, records, elapsed, |_| elapsed.served)
}

/// As [`observe`], where `served` says of each key whether verifiers could read it all the while.
pub fn observe_where(
    policy: &KeyPolicy,
    records: &[KeyRecord],
    elapsed: &Elapsed,
    served: impl Fn(&KeyRecord) -> bool,
) -> Vec<Observation> {
    let passed = elapsed.observed_ms();
    let ours = records.iter().filter(|record| policy.governs(record));
    ours.filter_map(|record| {
        let counts_served = jwk::is_published(record) && below(record.served_for_ms, policy.lead) && served(record);
        let counts_kept = record.state == KeyState::Deactivated && below(record.kept_for_ms, policy.keep);
        let grown = |time: u64, counts: bool| match time {
            time if !counts => time,
            0 => 1,
            time => time.saturating_add(passed),
        };
        // Only a hand leaves it so; it must not count for the next time.
        let left_over = matches!(record.state, KeyState::PreActive | KeyState::Active) && record.kept_for_ms > 0;
        let observation = Observation {
            key: record.id,
            served_for_ms: grown(record.served_for_ms, counts_served),
            kept_for_ms: if left_over { 0 } else { grown(record.kept_for_ms, counts_kept) },
        };
        (passed > 0 && (counts_served || counts_kept || left_over)).then_some(observation)
    })
    .collect()
}

fn below(time_ms: u64, gate: Duration) -> bool {
    u128::from(time_ms) < gate.as_millis()
}
