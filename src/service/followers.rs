//! Who serves the key sets elsewhere, and which generation: until each has a new key, no verifier can be said to know it.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use hallmark_core::{
    error::{Error, Reason},
    policy::Identity,
    ports::FollowerAck,
};

/// What followers acknowledged. Without followers: whether this process serves the key sets itself.
#[derive(Debug)]
pub struct Followers {
    /// Those that the configuration says serve the key sets.
    required: BTreeSet<Identity>,
    known: Mutex<HashMap<Follower, Seen>>,
    /// What the store says, of the followers of all replicas.
    shared: Mutex<Shared>,
    listening: AtomicBool,
}

/// Which generation is to be served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// By those who follow this process: of its [`super::publish::Publisher`].
    pub published: u64,
    /// By those who follow another replica: of the store.
    pub stored: u64,
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

#[derive(Debug, Default)]
struct Shared {
    acks: Vec<FollowerAck>,
    read: Option<Instant>,
    /// What the store was told, so that it is told news alone.
    told: HashMap<Follower, (u64, Instant)>,
    forgotten: BTreeSet<Follower>,
}

/// The last that is known of one follower.
struct Last {
    silent: Duration,
    lags: bool,
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
        Self { required, known: Mutex::default(), shared: Mutex::default(), listening: AtomicBool::new(false) }
    }

    /// Says whether this process's own listener is up.
    pub fn set_listening(&self, up: bool) {
        self.listening.store(up, Ordering::SeqCst);
    }

    /// Whether verifiers get what is `wanted` or later, wherever they ask. Time counts as served only while this holds.
    pub fn served(&self, wanted: Wanted) -> bool {
        self.served_at(wanted, Instant::now())
    }

    /// Who keeps [`Self::served`] from holding: followers that lag, and identities of which nobody is there.
    pub fn behind(&self, wanted: Wanted) -> Vec<String> {
        self.behind_at(wanted, Instant::now())
    }

    /// Whether anyone else serves the key sets.
    pub fn are_required(&self) -> bool {
        !self.required.is_empty()
    }

    /// What followers said here that the store does not know yet. `stored` says which generation of the store is served by
    /// whoever serves one of the [`super::publish::Publisher`]'s.
    pub fn news(&self, stored: impl Fn(u64) -> u64) -> Vec<FollowerAck> {
        let (known, mut shared) = (lock(&self.known), lock(&self.shared));
        shared.told.retain(|follower, _| known.contains_key(follower));
        let news = known.iter().filter_map(|(follower, seen)| {
            let now = (stored(seen.acknowledged), seen.at);
            let before = shared.told.insert(follower.clone(), now);
            (before != Some(now)).then(|| FollowerAck {
                identity: follower.identity.clone(),
                process: follower.instance.clone(),
                instance: String::new(),
                generation: now.0,
                silent: seen.at.elapsed(),
            })
        });
        news.collect()
    }

    /// The store could not be told: what was [`Self::news`] is news again.
    pub fn not_told(&self) {
        lock(&self.shared).told.clear();
    }

    /// Takes over what the store says of followers of other replicas than `instance`, and of an earlier life of this one.
    /// Gives those that no longer count, for they were not heard of for [`FORGOTTEN_AFTER`]; an alarm for each.
    pub fn take(&self, acks: Vec<FollowerAck>, instance: &str) -> usize {
        let listed = |ack: &FollowerAck| self.required.contains(&ack.identity);
        let (known, mut shared) = (lock(&self.known), lock(&self.shared));
        let (old, now): (Vec<_>, Vec<_>) =
            acks.into_iter().filter(listed).partition(|ack| ack.silent > FORGOTTEN_AFTER);
        let of = |ack: &FollowerAck| Follower { identity: ack.identity.clone(), instance: ack.process.clone() };
        let forgotten: BTreeSet<_> = old.iter().map(of).collect();
        for Follower { identity, instance } in forgotten.difference(&shared.forgotten) {
            let why = "it was not heard of for a day, and new keys no longer wait for it";
            tracing::error!(alarm = "followers", subject = %identity, instance, why, "alarm");
        }
        // Of what was said here, we know best.
        let elsewhere = |ack: &FollowerAck| ack.instance != instance || !known.contains_key(&of(ack));
        shared.acks = now.into_iter().filter(elsewhere).collect();
        (shared.read, shared.forgotten) = (Some(Instant::now()), forgotten);
        shared.forgotten.len()
    }

    /// Notes that `follower` is there and serves `generation`, the one before where it lags, or 0 where it has none.
    pub fn heard(&self, follower: &Follower, generation: u64) -> Result<(), Error> {
        self.heard_at(follower, generation, Instant::now())
    }

    fn served_at(&self, wanted: Wanted, now: Instant) -> bool {
        match self.required.is_empty() {
            true => self.listening.load(Ordering::SeqCst),
            false => self.behind_at(wanted, now).is_empty(),
        }
    }

    fn behind_at(&self, wanted: Wanted, now: Instant) -> Vec<String> {
        let last = self.last(wanted, now);
        let mut behind = Vec::new();
        for identity in &self.required {
            let of_identity = || last.iter().filter(|(follower, _)| follower.identity == *identity);
            if !of_identity().any(|(_, last)| last.silent <= ALIVE) {
                behind.push(format!("{identity} (nobody there)"));
            }
            let lags = of_identity().filter(|(_, last)| last.lags);
            behind.extend(lags.map(|(follower, _)| format!("{identity} ({})", follower.instance)));
        }
        behind.sort_unstable();
        behind
    }

    /// What is known of each, from whichever replica heard of it last.
    fn last(&self, wanted: Wanted, now: Instant) -> HashMap<Follower, Last> {
        let (known, shared) = (lock(&self.known), lock(&self.shared));
        let of_seen =
            |seen: &Seen| Last { silent: now.duration_since(seen.at), lags: seen.acknowledged < wanted.published };
        let mut last: HashMap<_, _> = known.iter().map(|(follower, seen)| (follower.clone(), of_seen(seen))).collect();
        let since = shared.read.map(|read| now.duration_since(read)).unwrap_or_default();
        for ack in &shared.acks {
            let follower = Follower { identity: ack.identity.clone(), instance: ack.process.clone() };
            let said = Last { silent: ack.silent + since, lags: ack.generation < wanted.stored };
            if last.get(&follower).is_none_or(|here| said.silent < here.silent) {
                last.insert(follower, said);
            }
        }
        last.retain(|_, last| last.silent <= FORGOTTEN_AFTER);
        last
    }

    fn heard_at(&self, follower: &Follower, generation: u64, now: Instant) -> Result<(), Error> {
        // Whoever else follows may do so, and counts for nothing.
        if !self.required.contains(&follower.identity) {
            return Ok(());
        }
        let mut known = lock(&self.known);
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

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The same of both kinds.
    fn both(generation: u64) -> Wanted {
        Wanted { published: generation, stored: generation }
    }

    fn follower(identity: &str, instance: &str) -> Follower {
        Follower { identity: identity.parse().unwrap(), instance: instance.to_owned() }
    }

    #[test]
    fn without_followers_the_own_listener_counts() {
        let followers = Followers::new([]);
        assert!(!followers.served(both(1)), "before it is up");
        followers.set_listening(true);
        assert!(followers.served(both(1)));
        followers.set_listening(false);
        assert!(!followers.served(both(1)));
    }

    #[test]
    fn each_follower_must_have_it_and_be_there() {
        let (east, west) = (follower("dns:east.example", "a"), follower("dns:west.example", "a"));
        let followers = Followers::new([east.identity.clone(), west.identity.clone()]);
        followers.set_listening(true);
        let start = Instant::now();
        followers.heard_at(&east, 7, start).unwrap();
        assert!(!followers.served_at(both(7), start), "nobody is there in the west");
        followers.heard_at(&west, 6, start).unwrap();
        assert_eq!(followers.behind_at(both(7), start), ["dns:west.example (a)"]);
        assert!(followers.served_at(both(6), start) && !followers.served_at(both(7), start));
        followers.heard_at(&west, 7, start).unwrap();
        assert!(followers.served_at(both(7), start) && followers.served_at(both(7), start + ALIVE));
        assert!(!followers.served_at(both(7), start + ALIVE + Duration::from_millis(1)), "not heard from for too long");
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
        assert!(followers.served_at(both(1), later));
        assert_eq!(followers.behind_at(both(2), later), ["dns:edge.example (two)"]);
        followers.heard_at(&one, 2, later + Duration::from_millis(1)).unwrap();
        assert!(followers.served_at(both(2), later + Duration::from_millis(1)));
    }

    #[test]
    fn who_is_not_named_counts_for_nothing() {
        let followers = Followers::new(["dns:edge.example".parse().unwrap()]);
        followers.heard(&follower("dns:else.example", "x"), 9).unwrap();
        assert!(!followers.served(both(1)));
        for n in 0..MOST_INSTANCES {
            followers.heard(&follower("dns:edge.example", &n.to_string()), 9).unwrap();
        }
        assert!(followers.heard(&follower("dns:edge.example", "one more"), 9).is_err());
        followers.heard(&follower("dns:edge.example", "0"), 10).unwrap();
    }

    fn ack(process: &str, instance: &str, generation: u64, silent: Duration) -> FollowerAck {
        let identity = "dns:edge.example".parse().unwrap();
        FollowerAck { identity, process: process.into(), instance: instance.into(), generation, silent }
    }

    #[test]
    fn who_follows_another_replica_counts_as_well() {
        let here = follower("dns:edge.example", "here");
        let followers = Followers::new([here.identity.clone()]);
        let wanted = Wanted { published: 3, stored: 70 };
        let said = |generation| vec![ack("there", "other", generation, Duration::ZERO)];
        followers.take(said(70), "me");
        assert!(followers.served(wanted), "it is there, and has what is stored");
        followers.heard(&here, 3).unwrap();
        assert!(followers.served(wanted));
        followers.take(said(69), "me");
        assert_eq!(followers.behind(wanted), ["dns:edge.example (there)"]);
        // It comes here, and the store does not know yet.
        followers.heard(&follower("dns:edge.example", "there"), 3).unwrap();
        followers.take(vec![ack("there", "other", 69, Duration::from_secs(5))], "me");
        assert!(followers.served(wanted), "its last word counts");
        assert_eq!(followers.take(Vec::new(), "me"), 0);
        // And goes elsewhere.
        followers.heard_at(&follower("dns:edge.example", "there"), 2, Instant::now() - Duration::from_secs(9)).unwrap();
        assert!(!followers.served(wanted));
        followers.take(said(71), "me");
        assert!(followers.served(wanted));
    }

    #[test]
    fn what_was_said_to_an_earlier_life_counts_until_it_is_forgotten() {
        let followers = Followers::new(["dns:edge.example".parse().unwrap()]);
        let day = FORGOTTEN_AFTER;
        let said = |silent| vec![ack("gone", "me", 1, silent), ack("there", "other", 9, Duration::ZERO)];
        assert_eq!(followers.take(said(day - Duration::from_secs(5)), "me"), 0);
        assert_eq!(followers.behind(both(9)), ["dns:edge.example (gone)"], "it may serve what it had");
        assert_eq!(followers.take(said(day + Duration::from_millis(1)), "me"), 1, "an alarm");
        assert!(followers.served(both(9)));
    }

    #[test]
    fn the_store_is_told_news_alone() {
        let here = follower("dns:edge.example", "here");
        let followers = Followers::new([here.identity.clone()]);
        let news = |stored: u64| followers.news(|_| stored).iter().map(|ack| ack.generation).collect::<Vec<_>>();
        assert_eq!(news(1), [0; 0]);
        followers.heard(&here, 3).unwrap();
        assert_eq!((news(1), news(1)), (vec![1], vec![]));
        assert_eq!(news(2), [2], "the set that it serves shows a later state of the store");
        followers.heard(&here, 3).unwrap();
        assert_eq!(news(2), [2], "it was heard of again");
        followers.not_told();
        assert_eq!(news(2), [2]);
    }
}
