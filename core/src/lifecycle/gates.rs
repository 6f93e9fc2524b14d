//! What must have passed before a key may move, and how long that takes.

use std::{fmt, time::Duration};

use super::{KeyPolicy, Now};
use crate::{
    jwk,
    key::{KeyRecord, KeyState},
    profile::Binding,
    time::Timestamp,
};

/// Real verifiers keep a set for this long even against `no-cache`.
pub const CACHE_FLOOR: Duration = Duration::from_secs(60);
/// For the way of a request, and for a sweep that comes a little later than another one saw it.
pub const LEAD_MARGIN: Duration = Duration::from_secs(30);
/// No assertion lives longer, whatever the profile.
pub const LONGEST_ASSERTION: Duration = Duration::from_secs(300);
/// How far a verifier's clock may be behind.
pub const SKEW: Duration = Duration::from_secs(300);
/// How far the wall clock may depart from the monotonic one.
pub const DEPARTURE: Duration = Duration::from_secs(30);
/// For how long signing pauses before a swap that the verifier sees at once.
pub const SWAP_QUIET: Duration = Duration::from_secs(5);

/// For how long a key must have been served before it signs, so that no verifier still holds a set without it.
pub fn lead(max_age_high_water: Duration, profile_lead: Duration, edge_ttl: Duration) -> Duration {
    max_age_high_water.max(CACHE_FLOOR).max(profile_lead) + edge_ttl + LEAD_MARGIN
}

/// For how long a key that signed stays published, so that the last assertion under it has run out everywhere.
pub fn keep(keep_for: Duration, store_lease: Duration, max_age: Duration) -> Duration {
    keep_for.max(store_lease + LONGEST_ASSERTION + SKEW + max_age)
}

/// Whether the wall clock went another way than the monotonic one: then no date can be trusted.
pub fn departed(wall_ms: i64, monotonic: Duration) -> bool {
    let monotonic = i64::try_from(monotonic.as_millis()).unwrap_or(i64::MAX);
    u128::from(wall_ms.abs_diff(monotonic)) > DEPARTURE.as_millis()
}

/// From when on a revocation that is written at `wall` holds at every replica, and at every verifier that obeys the
/// headers. Verifiers that don't may go on accepting the key.
pub fn in_force_everywhere_at(policy: &KeyPolicy, wall: Timestamp) -> Timestamp {
    wall.plus(policy.store_lease.max(policy.lead))
}

/// What keeps a key from its next step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Gate {
    /// There is no other key that could take over.
    NoStandby,
    /// The key was not generated yet.
    NotGenerated,
    /// No verifier can know it.
    NotPublished,
    /// It must be served for so much longer.
    Lead { left: Duration },
    /// It must stay published for so much longer.
    Keep { left: Duration },
    /// The wall clock departed from the monotonic one.
    Clock,
    /// Its HSM does not answer.
    Hsm,
    /// Its objects on the HSM are missing or set aside.
    Unusable,
    /// It has no certificate that is valid now, and assertions must show one.
    Certificate,
    /// An operator has not confirmed that the authorization server has the new key.
    Registration,
    /// It was not yet seen at the public URL, as from outside.
    Rehearsal,
}

impl fmt::Display for Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NoStandby => "the line has no other key that could sign",
            Self::NotGenerated => "the key does not exist yet",
            Self::NotPublished => "the key is not published",
            Self::Lead { left } => {
                return write!(f, "verifiers may not know the key yet: it must be served for another {}", Left(*left));
            }
            Self::Keep { left } => {
                return write!(f, "assertions under the key may still be on their way for another {}", Left(*left));
            }
            Self::Clock => "the wall clock departed from the monotonic clock",
            Self::Hsm => "the HSM does not answer",
            Self::Unusable => "the key's objects on the HSM are missing or set aside",
            Self::Certificate => {
                "the key has no certificate that is valid now (`hallmark csr`, `hallmark cert install`)"
            }
            Self::Registration => "nobody has confirmed that the authorization server has the new key",
            Self::Rehearsal => "the key was not seen at the public JWKS URL yet",
        })
    }
}

/// A duration as people write it, in the largest unit that is exact; rounded up to seconds, never "0s" while something
/// is left.
pub(super) struct Span(pub(super) Duration);

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let secs = self.0.as_millis().div_ceil(1000);
        let units = [(86_400, 'd'), (3600, 'h'), (60, 'm')];
        let (size, unit) =
            units.into_iter().find(|(size, _)| secs > 0 && secs.is_multiple_of(*size)).unwrap_or((1, 's'));
        write!(f, "{}{unit}", secs / size)
    }
}

/// A time that is left, in its largest units; rounded up, so that nobody who waits so long comes too early.
struct Left(Duration);

impl fmt::Display for Left {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const UNITS: [(u128, char); 4] = [(86_400, 'd'), (3600, 'h'), (60, 'm'), (1, 's')];
        let secs = self.0.as_millis().div_ceil(1000);
        // Who waits for a week asks for no minutes, who waits for an hour for no seconds.
        let finest = match secs {
            604_801.. => 3600,
            3601.. => 60,
            _ => 1,
        };
        let mut rest = secs.next_multiple_of(finest);
        let mut parts = Vec::new();
        for (size, unit) in UNITS {
            if rest >= size {
                parts.push(format!("{}{unit}", rest / size));
            }
            rest %= size;
        }
        if parts.is_empty() { f.write_str("0s") } else { f.write_str(&parts.join(" ")) }
    }
}

/// What keeps `record` from signing; empty where nothing does.
pub fn before_signing(policy: &KeyPolicy, record: &KeyRecord, now: &Now) -> Vec<Gate> {
    let left = policy.lead.saturating_sub(Duration::from_millis(record.served_for_ms));
    let gates = [
        (record.public.is_none(), Gate::NotGenerated),
        (record.public.is_some() && !jwk::is_published(record), Gate::NotPublished),
        (!left.is_zero(), Gate::Lead { left }),
        (now.held, Gate::Clock),
        (now.unreachable.contains(&record.hsm) || now.gone.contains(&record.hsm), Gate::Hsm),
        (now.unusable.contains(&record.id), Gate::Unusable),
        (policy.certificate && !now.certified.contains(&record.id), Gate::Certificate),
        (policy.binding != Binding::Jwks && !now.registered.contains(&record.id), Gate::Registration),
        (policy.rehearse && !now.rehearsed.contains(&record.id), Gate::Rehearsal),
    ];
    gates.into_iter().filter_map(|(shut, gate)| shut.then_some(gate)).collect()
}

/// What keeps the deactivated `record` in the JWKS; empty where nothing does.
pub fn before_retiring(policy: &KeyPolicy, record: &KeyRecord, now: &Now) -> Vec<Gate> {
    debug_assert_eq!(record.state, KeyState::Deactivated);
    // Both must have passed: observed time stops a clock that jumps forward, the date one that jumps back.
    let observed = policy.keep.saturating_sub(Duration::from_millis(record.kept_for_ms));
    let by_date = record.times.deactivated.map(|since| since.plus(policy.keep).since(now.wall));
    let left = observed.max(by_date.unwrap_or_default());
    let gates = [(!left.is_zero(), Gate::Keep { left }), (now.held, Gate::Clock)];
    gates.into_iter().filter_map(|(shut, gate)| shut.then_some(gate)).collect()
}
