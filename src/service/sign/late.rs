//! Whether a signature may leave whose key stopped being active while the HSM worked.

use std::time::Duration;

use hallmark_core::{
    client::Client,
    jwk,
    key::{KeyId, KeyLine, KeyRecord, KeyState},
    time::Timestamp,
};

use super::super::keyring::Reading;

/// For so long after its key was deactivated a signature may still leave. As long as a signature may take at all: what
/// was asked of the HSM before a planned rotation is good, for the key stays published until long after all that it
/// signed has expired. Beyond it something is wrong, such as a clock that jumped.
pub(super) const JUST_DEACTIVATED: Duration = Duration::from_secs(30);

/// Whether what `key` has signed for `line` is still good at `now`, though another key signs by now. A key that was
/// revoked, retired or destroyed is not; nor is one that was taken back to pre-active, for it had failed.
pub(super) fn may_leave(
    keys: &Reading,
    client: Option<&Client>,
    line: &KeyLine,
    key: KeyId,
    now: impl FnOnce() -> Timestamp,
) -> bool {
    // Verifiers that take the first RSA key have nothing but the set's first key, which changed together with the signer.
    // Whoever is not configured any more does not sign.
    if client.is_none_or(|client| client.profile.jwks.first_rsa_key) {
        return false;
    }
    let mut records = keys.of(&line.client).iter();
    records.find(|record| record.id == key).is_some_and(|record| was_just_deactivated(record, now()))
}

fn was_just_deactivated(record: &KeyRecord, now: Timestamp) -> bool {
    let ordinary = record.state == KeyState::Deactivated && record.times.compromised.is_none();
    // Both ways: who wrote it may be ahead of this process, but not by more.
    let just = |at: Timestamp| now.since(at).max(at.since(now)) <= JUST_DEACTIVATED;
    ordinary && jwk::is_published(record) && record.times.deactivated.is_some_and(just)
}

#[cfg(test)]
mod tests {
    use hallmark_core::{ports::Snapshot, profile::Profile};

    use super::*;
    use crate::service::{fixture::client, publish::sample_record, registry::Registered};

    const AT: Timestamp = Timestamp::from_secs(1_800_000_000);

    fn record(state: KeyState) -> KeyRecord {
        let mut record = sample_record("c", 1);
        (record.state, record.times.published, record.times.deactivated) = (state, Some(AT), Some(AT));
        record
    }

    /// Whether a signature leaves that ends so long after its key was deactivated.
    fn leaves(record: &KeyRecord, profile: &'static Profile, after_ms: i64) -> bool {
        let client = Client { profile, ..client(std::slice::from_ref(&record.hsm)) };
        let registered = Registered::new(vec![client.clone()], vec![], vec![]);
        let keys = Reading::new(snapshot(record), &registered, None);
        let now = Timestamp::from_millis(AT.millis() + after_ms);
        may_leave(&keys, Some(&client), &record.line().unwrap(), record.id, || now)
    }

    fn generic() -> &'static Profile {
        Profile::find(Profile::DEFAULT).unwrap()
    }

    fn snapshot(record: &KeyRecord) -> Snapshot {
        Snapshot { records: vec![record.clone()], generation: 1, paths: Vec::new(), registrations: Vec::new() }
    }

    #[test]
    fn only_a_key_that_a_rotation_replaced_is_still_good() {
        for state in KeyState::ALL {
            assert_eq!(leaves(&record(state), generic(), 1), state == KeyState::Deactivated, "{state}");
        }
        let mut edited = record(KeyState::Deactivated);
        edited.times.compromised = Some(AT);
        assert!(!leaves(&edited, generic(), 1), "a key that was ever revoked, whatever became of its state");
    }

    #[test]
    fn for_half_a_minute_and_no_longer() {
        let record = record(KeyState::Deactivated);
        for (after_ms, good) in [(0, true), (29_999, true), (30_000, true), (30_001, false)] {
            assert_eq!(leaves(&record, generic(), after_ms), good, "{after_ms}");
            assert_eq!(leaves(&record, generic(), -after_ms), good, "the other clock is ahead by {after_ms}");
        }
    }

    #[test]
    fn nothing_leaves_that_no_verifier_could_check() {
        let mut unpublished = record(KeyState::Deactivated);
        unpublished.times.published = None;
        assert!(!leaves(&unpublished, generic(), 0));
        let mut never = record(KeyState::Deactivated);
        never.times.deactivated = None;
        assert!(!leaves(&never, generic(), 0));
    }

    #[test]
    fn nothing_leaves_to_verifiers_that_take_the_first_key() {
        let first = Box::leak(Box::new({
            let mut first = generic().clone();
            first.jwks.first_rsa_key = true;
            first
        }));
        assert!(!leaves(&record(KeyState::Deactivated), first, 0));
    }

    #[test]
    fn nothing_leaves_for_a_client_that_is_not_configured_any_more() {
        let (record, registered) = (record(KeyState::Deactivated), Registered::new(vec![], vec![], vec![]));
        let keys = Reading::new(snapshot(&record), &registered, None);
        assert!(!may_leave(&keys, None, &record.line().unwrap(), record.id, || AT));
    }
}
