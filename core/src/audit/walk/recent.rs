//! The hashes of the last records: checkpoints stand some records behind the one that they sign.

use std::collections::VecDeque;

use super::hash::Hash;

/// By number, ascending; at most [`REMEMBERED`].
#[derive(Debug, Default)]
pub(super) struct Recent(VecDeque<(u64, Hash)>);

impl Recent {
    pub(super) fn push(&mut self, seq: u64, hash: Hash) {
        if self.0.len() == REMEMBERED {
            self.0.pop_front();
        }
        self.0.push_back((seq, hash));
    }

    /// `None` where that record is not there, or too far back.
    pub(super) fn get(&self, seq: u64) -> Option<&Hash> {
        let at = self.0.binary_search_by_key(&seq, |(seq, _)| *seq).ok()?;
        self.0.get(at).map(|(_, hash)| hash)
    }
}

/// Far more records than are written while a checkpoint is being signed.
const REMEMBERED: usize = 1 << 18;
