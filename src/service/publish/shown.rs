//! Which generations of the store the published ones show. The store's are the same for all replicas; the published ones
//! are counted by each process for itself.

use std::{
    collections::VecDeque,
    sync::{Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

/// What was published lately, and of which readings of the store.
#[derive(Debug, Default)]
pub struct Shown(Mutex<VecDeque<Entry>>);

#[derive(Clone, Copy, Debug)]
struct Entry {
    published: u64,
    since: Instant,
    /// The first and the last generation of the store that it shows: not every change of records changes a document.
    first: u64,
    last: u64,
}

impl Shown {
    /// What is published now was made of `stored`.
    pub fn note(&self, published: u64, stored: u64) {
        self.note_at(published, stored, Instant::now());
    }

    /// The generation of the store that is served by whoever serves `published`; 0 where that is not known any more.
    pub fn stored(&self, published: u64) -> u64 {
        let entries = self.entries();
        entries.iter().rev().find(|entry| entry.published <= published).map_or(0, |entry| entry.last)
    }

    /// The generation of the store that everyone must serve who was told of it some time ago: replicas see each other's
    /// changes a moment later, and tell each other of their followers once a second.
    pub fn due(&self) -> u64 {
        self.due_at(Instant::now())
    }

    fn note_at(&self, published: u64, stored: u64, now: Instant) {
        let mut entries = self.entries();
        if entries.back().is_some_and(|entry| entry.last > stored) {
            // A backup was put back.
            entries.clear();
        }
        match entries.back_mut() {
            Some(entry) if entry.published == published => entry.last = stored,
            _ => entries.push_back(Entry { published, since: now, first: stored, last: stored }),
        }
        if entries.len() > MOST {
            entries.pop_front();
        }
    }

    fn due_at(&self, now: Instant) -> u64 {
        let entries = self.entries();
        let told = entries.iter().rev().find(|entry| now.duration_since(entry.since) >= HEARSAY);
        told.or(entries.front()).map_or(0, |entry| entry.first)
    }

    fn entries(&self) -> MutexGuard<'_, VecDeque<Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A follower that is further behind serves nothing that counts.
const MOST: usize = 1024;

/// For news to reach a follower of another replica, and its word to come back. It counts as if the follower had served a key
/// for so much longer: the lead has half a minute to spare.
const HEARSAY: Duration = Duration::from_secs(3);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_published_stands_for_what_is_stored() {
        let (shown, start) = (Shown::default(), Instant::now());
        assert_eq!((shown.stored(9), shown.due_at(start)), (0, 0));
        shown.note_at(1, 10, start);
        shown.note_at(1, 12, start);
        shown.note_at(2, 15, start + HEARSAY);
        assert_eq!([0, 1, 2, 9].map(|published| shown.stored(published)), [0, 12, 15, 15]);
        assert_eq!(shown.due_at(start), 10, "the first is due at once");
        assert_eq!(shown.due_at(start + HEARSAY), 10, "news is not");
        assert_eq!(shown.due_at(start + HEARSAY * 2), 15);
        shown.note_at(3, 4, start + HEARSAY * 2);
        assert_eq!((shown.stored(2), shown.stored(3)), (0, 4), "a backup was put back");
        for n in 4..=4 + MOST as u64 {
            shown.note_at(n, n + 1, start + HEARSAY * 2);
        }
        assert_eq!(shown.stored(4), 0);
    }
}
