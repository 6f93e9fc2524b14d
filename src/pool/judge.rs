//! Tells a sick key from a sick HSM, by the unspecific faults of the last seconds. A function of its arguments.

use std::{
    collections::{HashMap, HashSet, VecDeque},
    time::{Duration, Instant},
};

use hallmark_core::key::KeyId;

/// How far back faults count together.
const WINDOW: Duration = Duration::from_secs(10);
/// How many make a verdict.
const LIMIT: usize = 3;
/// How long a key is set aside before it may be tried again.
pub(super) const QUARANTINE: Duration = Duration::from_secs(30);

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Nothing to conclude yet.
    Wait,
    /// Several keys on several sessions, or the only key in use: the HSM counts as gone.
    Gone,
    /// Only this key fails while others sign: it is set aside.
    Quarantine(KeyId),
}

#[derive(Debug, Default)]
pub(super) struct Judge {
    faults: VecDeque<(Instant, u64, KeyId)>,
    last_success: Option<(Instant, KeyId)>,
    /// The key that alone made the HSM count as gone the last time; a second time it is the key.
    suspect: Option<KeyId>,
    /// The key that found the HSM gone the last time, and when. None where it has signed since.
    last_gone: Option<(Instant, KeyId)>,
    quarantined: HashMap<KeyId, Instant>,
}

impl Judge {
    /// An unspecific fault with `key` on the session numbered `session`.
    pub(super) fn fault(&mut self, now: Instant, session: u64, key: KeyId) -> Verdict {
        self.faults.push_back((now, session, key));
        while self.faults.front().is_some_and(|(at, ..)| now.duration_since(*at) > WINDOW) {
            self.faults.pop_front();
        }
        let keys: HashSet<_> = self.faults.iter().map(|(_, _, key)| *key).collect();
        let sessions: HashSet<_> = self.faults.iter().map(|(_, session, _)| *session).collect();
        if self.faults.len() < LIMIT || sessions.len() < 2 {
            return Verdict::Wait;
        }
        if keys.len() > 1 {
            self.faults.clear();
            self.suspect = None;
            return Verdict::Gone;
        }
        let other = self.last_success.filter(|(_, other)| *other != key).map(|(at, _)| at);
        // Of two tries of one job the second fails at once: what was signed before it may have been under way.
        let last_but_one = self.faults[self.faults.len() - 2].0;
        let others_sign = other.is_some_and(|at| at >= last_but_one);
        if !others_sign && other.is_some_and(|at| now.duration_since(at) <= WINDOW) {
            // They did a moment ago. The next that comes of them says whether it is the key or the HSM.
            return Verdict::Wait;
        }
        self.faults.clear();
        if others_sign || self.suspect == Some(key) {
            return self.quarantine(now, key);
        }
        self.suspect = Some(key);
        Verdict::Gone
    }

    /// A signature with `key` found the HSM gone. It may be so for this key alone: it found that a moment ago too, the HSM
    /// was connected again, and since then others have signed and it has not.
    pub(super) fn gone(&mut self, now: Instant, key: KeyId) -> Verdict {
        let before = self.last_gone.replace((now, key));
        let before = before.filter(|(at, last)| *last == key && now.duration_since(*at) <= WINDOW);
        match (before, self.last_success) {
            (Some((before, _)), Some((signed, other))) if other != key && signed > before => self.quarantine(now, key),
            _ => Verdict::Gone,
        }
    }

    /// The HSM was connected anew: it may be that which made keys fail, so each that is set aside gets its one try now.
    pub(super) fn reconnected(&mut self, now: Instant) {
        self.quarantined.values_mut().for_each(|until| *until = now);
    }

    /// A signature with `key` verified.
    pub(super) fn success(&mut self, now: Instant, key: KeyId) {
        self.last_success = Some((now, key));
        if self.suspect == Some(key) {
            self.suspect = None;
        }
        self.last_gone = self.last_gone.filter(|(_, last)| *last != key);
        self.quarantined.remove(&key);
    }

    /// When a signature verified last, with any key.
    pub(super) fn last_success(&self) -> Option<Instant> {
        self.last_success.map(|(at, _)| at)
    }

    /// Sets `key` aside.
    pub(super) fn quarantine(&mut self, now: Instant, key: KeyId) -> Verdict {
        self.quarantined.insert(key, now + QUARANTINE);
        Verdict::Quarantine(key)
    }

    /// Keys that were set aside and have not signed since.
    pub(super) fn quarantined(&self) -> Vec<KeyId> {
        self.quarantined.keys().copied().collect()
    }

    /// For how long `key` is still set aside.
    pub(super) fn quarantined_for(&self, now: Instant, key: KeyId) -> Option<Duration> {
        let until = *self.quarantined.get(&key)?;
        until.checked_duration_since(now).filter(|left| !left.is_zero())
    }

    /// Whether `key` may be tried. After its quarantine it may once; others find it set aside again unless that succeeds.
    pub(super) fn begin_try(&mut self, now: Instant, key: KeyId) -> bool {
        match self.quarantined.get_mut(&key) {
            Some(until) if *until > now => false,
            Some(until) => {
                *until = now + QUARANTINE;
                true
            }
            None => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use uuid::Uuid;

    use super::*;

    const A: KeyId = KeyId(Uuid::from_u128(1));
    const B: KeyId = KeyId(Uuid::from_u128(2));

    #[test]
    fn several_keys_on_several_sessions_are_a_sick_hsm() {
        let (mut judge, now) = (Judge::default(), Instant::now());
        assert_eq!(judge.fault(now, 1, A), Verdict::Wait);
        assert_eq!(judge.fault(now, 2, B), Verdict::Wait);
        assert_eq!(judge.fault(now, 2, A), Verdict::Gone);
    }

    #[test]
    fn one_key_that_fails_while_others_sign_is_set_aside() {
        let (mut judge, now) = (Judge::default(), Instant::now());
        judge.fault(now, 1, A);
        judge.fault(now, 2, A);
        judge.success(now, B);
        assert_eq!(judge.fault(now, 3, A), Verdict::Quarantine(A));
        assert!(judge.quarantined_for(now, A).is_some());
        assert!(judge.quarantined_for(now, B).is_none());
    }

    /// The first three faults of a sick HSM may be those of one key.
    #[test]
    fn a_key_that_fails_first_is_not_set_aside_for_what_others_signed_before() {
        let (mut judge, now) = (Judge::default(), Instant::now());
        let later = |ms| now + Duration::from_millis(ms);
        judge.success(now, B);
        for (ms, session) in [(1, 1), (2, 2), (3, 3), (4, 4)] {
            assert_eq!(judge.fault(later(ms), session, A), Verdict::Wait);
        }
        assert_eq!(judge.fault(later(5), 5, B), Verdict::Gone);

        // And where the others just have nothing to do, it counts as the only key in use.
        let quiet = now + WINDOW + Duration::from_secs(1);
        for (session, verdict) in [(1, Verdict::Wait), (2, Verdict::Wait), (3, Verdict::Gone)] {
            assert_eq!(judge.fault(quiet, session, A), verdict);
        }
    }

    #[test]
    fn a_key_that_alone_finds_the_hsm_gone_is_set_aside_the_second_time() {
        let (mut judge, now) = (Judge::default(), Instant::now());
        let later = |ms| now + Duration::from_millis(ms);
        judge.success(now, B);
        assert_eq!(judge.gone(later(1), A), Verdict::Gone);
        assert_eq!(judge.gone(later(2), A), Verdict::Gone, "nothing was signed since");
        judge.success(later(3), B);
        assert_eq!(judge.gone(later(4), B), Verdict::Gone, "another key");
        judge.success(later(5), B);
        assert_eq!(judge.gone(later(6), A), Verdict::Gone);
        judge.success(later(7), B);
        assert_eq!(judge.gone(later(8), A), Verdict::Quarantine(A));
        judge.success(later(9), B);
        assert_eq!(judge.gone(later(8) + 2 * WINDOW, A), Verdict::Gone, "long ago");
        judge.success(later(9) + 2 * WINDOW, A);
        judge.success(later(10) + 2 * WINDOW, B);
        assert_eq!(judge.gone(later(11) + 2 * WINDOW, A), Verdict::Gone, "it has signed since: the HSM comes and goes");
    }

    #[test]
    fn a_key_that_was_set_aside_is_tried_once_when_the_hsm_is_back() {
        let (mut judge, now) = (Judge::default(), Instant::now());
        judge.quarantine(now, A);
        judge.reconnected(now);
        assert!(judge.quarantined_for(now, A).is_none());
        assert!(judge.begin_try(now, A));
        assert!(!judge.begin_try(now, A), "a second caller must wait for the first one's try");
    }

    #[test]
    fn the_only_key_in_use_is_given_one_reconnect() {
        let (mut judge, now) = (Judge::default(), Instant::now());
        for (session, verdict) in [(1, Verdict::Wait), (2, Verdict::Wait), (3, Verdict::Gone)] {
            assert_eq!(judge.fault(now, session, A), verdict);
        }
        for (session, verdict) in [(4, Verdict::Wait), (5, Verdict::Wait), (6, Verdict::Quarantine(A))] {
            assert_eq!(judge.fault(now, session, A), verdict);
        }
    }

    #[test]
    fn faults_far_apart_do_not_add_up() {
        let (mut judge, now) = (Judge::default(), Instant::now());
        for n in 0..9 {
            assert_eq!(judge.fault(now + WINDOW * n * 2, n.into(), A), Verdict::Wait);
        }
    }

    #[test]
    fn one_try_is_let_through_when_the_time_is_up() {
        let (mut judge, now) = (Judge::default(), Instant::now());
        judge.quarantine(now, A);
        let later = now + QUARANTINE;
        assert!(!judge.begin_try(now, A));
        assert!(judge.begin_try(later, A));
        assert!(!judge.begin_try(later, A), "a second caller must wait for the first one's try");
        judge.success(later, A);
        assert!(judge.begin_try(later, A) && judge.begin_try(later, A));
    }
}
