//! Who serves the key sets elsewhere, and which generation: until each has a new key, no verifier can be said to know it.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use hallmark_core::{
    error::{Error, Reason},
    policy::Identity,
};

/// What followers acknowledged. Without followers: whether this process serves the key sets itself.
#[derive(Debug)]
pub struct Followers {
    /// Those that the configuration says serve the key sets.
    required: BTreeSet<Identity>,
    known: Mutex<HashMap<Follower, Seen>>,
    listening: AtomicBool,
}

/// One process that serves the key sets.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Follower {
    pub identity: Identity,
    /// Tells it from others of the same identity.
    pub instance: String,
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    acknowledged: u64,
    at: Instant,
}

/// A follower is there while it was heard from within this time: three of its messages.
pub const ALIVE: Duration = Duration::from_secs(30);

/// After so long without a word a follower no longer counts, if another of its identity is there. Until then it may
/// be serving what it had, cut off from us; that is also how long it does so without an alarm of its own.
pub const FORGOTTEN_AFTER: Duration = Duration::from_secs(24 * 3600);

/// Of one identity. Each costs memory here, and holds up gates while it lags.
const MOST_INSTANCES: usize = 64;

impl Followers {
    /// `required` are those that must serve a generation before it counts as served; none: this process does.
    pub fn new(required: impl IntoIterator<Item = Identity>) -> Self {
        let required = required.into_iter().collect();
        Self { required, known: Mutex::default(), listening: AtomicBool::new(false) }
    }

    /// Says whether this process's own listener is up.
    pub fn set_listening(&self, up: bool) {
        self.listening.store(up, Ordering::SeqCst);
    }

    /// Whether verifiers get generation `generation` of the [`super::publish::Publisher`] or a later one, wherever they
    /// ask. Time counts as served only while this holds.
    pub fn served(&self, generation: u64) -> bool {
        self.served_at(generation, Instant::now())
    }

    /// Who keeps [`Self::served`] from holding: followers that lag, and identities of which nobody is there.
    pub fn behind(&self, generation: u64) -> Vec<String> {
        self.behind_at(generation, Instant::now())
    }

    /// Notes that `follower` is there and serves `generation`, the one before where it lags, or 0 where it has none.
    pub fn heard(&self, follower: &Follower, generation: u64) -> Result<(), Error> {
        self.heard_at(follower, generation, Instant::now())
    }

    fn served_at(&self, generation: u64, now: Instant) -> bool {
        match self.required.is_empty() {
            true => self.listening.load(Ordering::SeqCst),
            false => self.behind_at(generation, now).is_empty(),
        }
    }

    fn behind_at(&self, generation: u64, now: Instant) -> Vec<String> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let mut behind = Vec::new();
        for identity in &self.required {
            let of_identity = || known.iter().filter(|(follower, _)| follower.identity == *identity);
            if !of_identity().any(|(_, seen)| now.duration_since(seen.at) <= ALIVE) {
                behind.push(format!("{identity} (nobody there)"));
            }
            let lags = of_identity().filter(|(_, seen)| seen.acknowledged < generation);
            behind.extend(lags.map(|(follower, _)| format!("{identity} ({})", follower.instance)));
        }
        behind.sort_unstable();
        behind
    }

    fn heard_at(&self, follower: &Follower, generation: u64, now: Instant) -> Result<(), Error> {
        // Whoever else follows may do so, and counts for nothing.
        if !self.required.contains(&follower.identity) {
            return Ok(());
        }
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|_, seen| now.duration_since(seen.at) <= FORGOTTEN_AFTER);
        let others = known.keys().filter(|known| known.identity == follower.identity && *known != follower).count();
        if others >= MOST_INSTANCES {
            let text =
                format!("`{}` has {others} followers already; give them identities of their own", follower.identity);
            return Err(Error::new(Reason::ConcurrencyLimited, text));
        }
        known.insert(follower.clone(), Seen { acknowledged: generation, at: now });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn follower(identity: &str, instance: &str) -> Follower {
        Follower { identity: identity.parse().unwrap(), instance: instance.to_owned() }
    }

    #[test]
    fn without_followers_the_own_listener_counts() {
        let followers = Followers::new([]);
        assert!(!followers.served(1), "before it is up");
        followers.set_listening(true);
        assert!(followers.served(1));
        followers.set_listening(false);
        assert!(!followers.served(1));
    }

    #[test]
    fn each_follower_must_have_it_and_be_there() {
        let (east, west) = (follower("dns:east.example", "a"), follower("dns:west.example", "a"));
        let followers = Followers::new([east.identity.clone(), west.identity.clone()]);
        followers.set_listening(true);
        let start = Instant::now();
        followers.heard_at(&east, 7, start).unwrap();
        assert!(!followers.served_at(7, start), "nobody is there in the west");
        followers.heard_at(&west, 6, start).unwrap();
        assert_eq!(followers.behind_at(7, start), ["dns:west.example (a)"]);
        assert!(followers.served_at(6, start) && !followers.served_at(7, start));
        followers.heard_at(&west, 7, start).unwrap();
        assert!(followers.served_at(7, start) && followers.served_at(7, start + ALIVE));
        assert!(!followers.served_at(7, start + ALIVE + Duration::from_millis(1)), "not heard from for too long");
    }

    /// It may be cut off from us alone, and serve what it had to verifiers that take it for the truth.
    #[test]
    fn a_second_one_that_went_silent_holds_up_until_it_is_forgotten() {
        let (one, two) = (follower("dns:edge.example", "one"), follower("dns:edge.example", "two"));
        let followers = Followers::new([one.identity.clone()]);
        let start = Instant::now();
        followers.heard_at(&one, 1, start).unwrap();
        followers.heard_at(&two, 1, start).unwrap();
        let later = start + FORGOTTEN_AFTER;
        followers.heard_at(&one, 2, later).unwrap();
        assert!(followers.served_at(1, later));
        assert_eq!(followers.behind_at(2, later), ["dns:edge.example (two)"]);
        followers.heard_at(&one, 2, later + Duration::from_millis(1)).unwrap();
        assert!(followers.served_at(2, later + Duration::from_millis(1)));
    }

    #[test]
    fn who_is_not_named_counts_for_nothing() {
        let followers = Followers::new(["dns:edge.example".parse().unwrap()]);
        followers.heard(&follower("dns:else.example", "x"), 9).unwrap();
        assert!(!followers.served(1));
        for n in 0..MOST_INSTANCES {
            followers.heard(&follower("dns:edge.example", &n.to_string()), 9).unwrap();
        }
        assert!(followers.heard(&follower("dns:edge.example", "one more"), 9).is_err());
        followers.heard(&follower("dns:edge.example", "0"), 10).unwrap();
    }
}
