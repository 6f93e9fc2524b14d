//! The documents once more, laid out for answering.
//!
//! Ten thousand documents do not fit into a processor's cache, so what an answer costs beyond that of a single client is
//! the pieces of memory that it must wait for. Here they are two: a place in the table, and then path, tag and body of the
//! document in one row. Nothing in it is counted or locked, and answers take copies, so that a slow reader keeps no more
//! than what it reads.

use std::{
    collections::HashMap,
    hash::{BuildHasher, BuildHasherDefault, Hasher, RandomState},
};

use hallmark_core::time::Timestamp;

use super::set::{Kind, Slot};

/// What is at each path.
#[derive(Debug, Default)]
pub(super) struct Index {
    /// Keyed anew for each generation: which paths share a place in the table is for nobody to find out.
    paths: RandomState,
    places: HashMap<u64, Place, BuildHasherDefault<AsItIs>>,
    /// Of each document its path, tag and body.
    bytes: Vec<u8>,
}

/// What is at one path.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Found<'a> {
    pub(super) kind: Kind,
    pub(super) next_change: Timestamp,
    /// Tag and body; `None` before the client's first key.
    pub(super) document: Option<(&'a [u8], &'a [u8])>,
}

/// Small, for it is waited for as well.
#[derive(Debug)]
struct Place {
    at: usize,
    next_change: Timestamp,
    path: u32,
    etag: u32,
    body: u32,
    kind: Kind,
    published: bool,
}

impl Index {
    pub(super) fn new(slots: &HashMap<Box<str>, Slot>) -> Self {
        loop {
            let index = Self::try_new(slots);
            // Once in a billion starts two paths hash alike, and another key parts them.
            if index.places.len() == slots.len() {
                return index;
            }
        }
    }

    fn try_new(slots: &HashMap<Box<str>, Slot>) -> Self {
        let size = |(path, slot): (&Box<str>, &Slot)| {
            path.len() + slot.published.as_ref().map_or(0, |published| published.etag.len() + published.body.len())
        };
        let mut index = Self {
            paths: RandomState::new(),
            places: HashMap::with_capacity_and_hasher(slots.len(), BuildHasherDefault::default()),
            bytes: Vec::with_capacity(slots.iter().map(size).sum()),
        };
        for (path, slot) in slots {
            index.insert(path, slot);
        }
        index
    }

    fn insert(&mut self, path: &str, slot: &Slot) {
        let (etag, body): (&[u8], &[u8]) =
            slot.published.as_ref().map_or((&[], &[]), |published| (&published.etag, &published.body));
        // Nothing that was read from a store or a message is as long.
        let length = |bytes: &[u8]| u32::try_from(bytes.len()).unwrap_or(u32::MAX);
        let place = Place {
            at: self.bytes.len(),
            next_change: slot.next_change.unwrap_or(NEVER),
            path: length(path.as_bytes()),
            etag: length(etag),
            body: length(body),
            kind: slot.kind,
            published: slot.published.is_some(),
        };
        for part in [path.as_bytes(), etag, body] {
            self.bytes.extend_from_slice(part);
        }
        self.places.insert(self.paths.hash_one(path), place);
    }

    /// What is at `path`.
    pub(super) fn find(&self, path: &str) -> Option<Found<'_>> {
        let place = self.places.get(&self.paths.hash_one(path))?;
        let row = self.bytes.get(place.at..)?;
        let (ours, row) = row.split_at_checked(place.path as usize)?;
        if ours != path.as_bytes() {
            return None;
        }
        let (etag, row) = row.split_at_checked(place.etag as usize)?;
        let document = (etag, row.get(..place.body as usize)?);
        let Place { kind, next_change, published, .. } = *place;
        Some(Found { kind, next_change, document: published.then_some(document) })
    }
}

const NEVER: Timestamp = Timestamp::from_millis(i64::MAX);

/// The keys of the table are hashes already.
#[derive(Default)]
struct AsItIs(u64);

impl Hasher for AsItIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write_u64(&mut self, hash: u64) {
        self.0 = hash;
    }

    fn write(&mut self, bytes: &[u8]) {
        // Not for numbers, which are all there is here; any function would do.
        bytes.iter().for_each(|byte| self.0 = self.0.rotate_left(8) ^ u64::from(*byte));
    }
}
