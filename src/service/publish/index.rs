//! The documents once more, laid out for answering.
//!
//! Ten thousand documents do not fit into a processor's cache, so what an answer costs beyond that of a single client is
//! the pieces of memory that it must wait for. Here it is one: the row of the document, with all that is asked of it side
//! by side. The table that leads there is small enough to stay in the cache. Nothing is counted or locked, and answers
//! take copies, so that a slow reader keeps no more than what it reads.
//!
//! ```text
//! table   tag: 32 bits of the path's hash | number of the row, from 1 on; 0: nobody's place
//! row     next change: 8 bytes | length of path, tag, body: 4 bytes each | what it is: 1 byte | path | tag | body
//! ```

use std::{
    collections::HashMap,
    hash::{BuildHasher, RandomState},
};

use hallmark_core::time::Timestamp;

use super::set::{Kind, Slot};

/// What is at each path.
#[derive(Debug, Default)]
pub(super) struct Index {
    /// Its key is another one in each generation: which paths lead to one place is for nobody to find out.
    paths: RandomState,
    /// A path is at the place that its hash says, or at one of those that follow, before the first that is nobody's.
    table: Vec<u64>,
    rows: Vec<u8>,
}

/// What is at one path.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Found<'a> {
    pub(super) kind: Kind,
    /// [`Slot::only_here`].
    pub(super) only_here: bool,
    pub(super) next_change: Timestamp,
    /// Tag and body; `None` before the client's first key.
    pub(super) document: Option<(&'a [u8], &'a [u8])>,
}

impl Index {
    pub(super) fn new(slots: &HashMap<Box<str>, Slot>) -> Self {
        // A third of it is nobody's at least, so that a search soon ends.
        let places = (slots.len() + slots.len() / 2 + 1).next_power_of_two();
        let rows = slots.iter().map(|(path, slot)| room(path, slot)).sum();
        let mut index = Self { paths: RandomState::new(), table: vec![0; places], rows: Vec::with_capacity(rows) };
        // Key sets side by side, for they are asked for far more often.
        for kind in [Kind::Jwks, Kind::Pem] {
            slots.iter().filter(|(_, slot)| slot.kind == kind).for_each(|(path, slot)| index.insert(path, slot));
        }
        index
    }

    fn insert(&mut self, path: &str, slot: &Slot) {
        let number = u32::try_from(self.rows.len() / UNIT + 1);
        let (etag, body) = parts(slot);
        let lengths = [path.as_bytes(), etag, body].map(|part| u32::try_from(part.len()));
        let (Ok(number), [Ok(path_len), Ok(etag_len), Ok(body_len)]) = (number, lengths) else {
            // More than 4 GiB in one document, or 64 in all: no store or message has as much.
            tracing::error!(path, "a document is too large to be published");
            return;
        };
        self.rows.extend(slot.next_change.unwrap_or(NEVER).millis().to_le_bytes());
        self.rows.extend([path_len, etag_len, body_len].into_iter().flat_map(u32::to_le_bytes));
        self.rows.push(what(slot));
        for part in [path.as_bytes(), etag, body] {
            self.rows.extend_from_slice(part);
        }
        self.rows.resize(self.rows.len().next_multiple_of(UNIT), 0);
        let hash = self.paths.hash_one(path);
        let free = self.places(hash).find(|place| self.table[*place] == 0);
        if let Some(place) = free {
            self.table[place] = hash & TAG | u64::from(number);
        }
    }

    /// What is at `path`.
    pub(super) fn find(&self, path: &str) -> Option<Found<'_>> {
        let hash = self.paths.hash_one(path);
        let entries = self.places(hash).map(|place| self.table[place]).take_while(|entry| *entry != 0);
        let mut rows = entries.filter(|entry| entry & TAG == hash & TAG).map(|entry| (entry & !TAG) as usize - 1);
        rows.find_map(|row| self.row(row, path))
    }

    /// Every place, beginning with the one of `hash`.
    fn places(&self, hash: u64) -> impl Iterator<Item = usize> + use<> {
        let count = self.table.len();
        // The count is a power of two, or zero.
        (0..count).map(move |step| (hash as usize).wrapping_add(step) & (count - 1))
    }

    /// `None` where it is another path's.
    fn row(&self, row: usize, path: &str) -> Option<Found<'_>> {
        let (next_change, row) = self.rows.get(row * UNIT..)?.split_first_chunk()?;
        let (path_len, row) = length(row)?;
        let (etag_len, row) = length(row)?;
        let (body_len, row) = length(row)?;
        let (what, row) = row.split_first()?;
        let (ours, row) = row.split_at_checked(path_len)?;
        if ours != path.as_bytes() {
            return None;
        }
        let (etag, row) = row.split_at_checked(etag_len)?;
        let body = row.get(..body_len)?;
        Some(Found {
            kind: if what & PEM == 0 { Kind::Jwks } else { Kind::Pem },
            only_here: what & ONLY_HERE != 0,
            next_change: Timestamp::from_millis(i64::from_le_bytes(*next_change)),
            document: (what & PUBLISHED != 0).then_some((etag, body)),
        })
    }
}

fn parts(slot: &Slot) -> (&[u8], &[u8]) {
    slot.published.as_ref().map_or((&[], &[]), |published| (&published.etag, &published.body))
}

fn what(slot: &Slot) -> u8 {
    let kind = match slot.kind {
        Kind::Jwks => 0,
        Kind::Pem => PEM,
    };
    let published = if slot.published.is_some() { PUBLISHED } else { 0 };
    kind | published | if slot.only_here { ONLY_HERE } else { 0 }
}

fn room(path: &str, slot: &Slot) -> usize {
    let (etag, body) = parts(slot);
    (HEAD + path.len() + etag.len() + body.len()).next_multiple_of(UNIT)
}

fn length(row: &[u8]) -> Option<(usize, &[u8])> {
    let (length, row) = row.split_first_chunk()?;
    Some((u32::from_le_bytes(*length) as usize, row))
}

const NEVER: Timestamp = Timestamp::from_millis(i64::MAX);
const TAG: u64 = 0xffff_ffff_0000_0000;
/// Rows begin at multiples of so many bytes.
const UNIT: usize = 16;
/// What a row has before its path.
const HEAD: usize = 8 + 3 * 4 + 1;
const PEM: u8 = 1;
const PUBLISHED: u8 = 2;
const ONLY_HERE: u8 = 4;

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::service::publish::Published;

    fn slot(n: usize) -> Slot {
        Slot {
            kind: if n.is_multiple_of(2) { Kind::Jwks } else { Kind::Pem },
            client: "a".parse().unwrap(),
            published: (!n.is_multiple_of(5)).then(|| Arc::new(Published::new("x".repeat(n).as_bytes()))),
            next_change: (!n.is_multiple_of(3)).then(|| Timestamp::from_millis(n.try_into().unwrap())),
            edge_ttl: None,
            only_here: n.is_multiple_of(7),
            host: None,
            since: 1,
        }
    }

    #[test]
    fn every_path_leads_to_its_own_document_and_no_other_to_any() {
        for count in [0, 1, 2, 3, 1000] {
            let slots: HashMap<Box<str>, _> = (0..count).map(|n| (format!("/{n}").into(), slot(n))).collect();
            let index = Index::new(&slots);
            for (path, slot) in &slots {
                let next_change = slot.next_change.unwrap_or(NEVER);
                let document = slot.published.as_deref().map(|p| (&p.etag[..], &p.body[..]));
                let Slot { kind, only_here, .. } = *slot;
                assert_eq!(index.find(path), Some(Found { kind, only_here, next_change, document }), "{path}");
                assert_eq!(index.find(&path[1..]), None, "{path}");
            }
            assert!(["", "/", "/x", &format!("/{count}")].iter().all(|path| index.find(path).is_none()), "{count}");
        }
        assert_eq!(Index::default().find("/0"), None);
    }
}
