//! What checkpoints prove.

use super::{
    Walk,
    hash::{decode, encode},
};
use crate::audit::{
    Place,
    checkpoint::{CustodyKeys, Statement},
    finding::{Kind, Proven},
};

/// What speaks against a checkpoint: the kind of finding, its records, and the text.
type Objection = (Kind, u64, u64, String);

impl Walk<'_> {
    /// Looks at the checkpoint in the record that the main line ends with.
    pub(super) fn checkpoint(&mut self, jws: &str) {
        self.verdict.checkpoints += 1;
        let own = self.main.seq;
        let none = CustodyKeys::default();
        let keys = self.known.keys.unwrap_or(&none);
        let checked = keys.check(jws).map_err(|why| bad(own, format!("proves nothing: {why}")));
        match checked.and_then(|statement| self.compare(&statement).map(|()| statement)) {
            Err((kind, first, last, text)) => _ = self.find(kind, first, last, text),
            Ok(Statement { seq, head, time, .. }) if seq >= self.verdict.first && !self.is_proven(seq) => {
                let signed = !keys.is_empty();
                self.verdict.proven = Some(Proven { place: Place { seq, hash: head }, time, signed });
            }
            // It is about records that are kept elsewhere, or proven without it.
            Ok(_) => {}
        }
        self.last_checkpoint = Some(Place { seq: own, hash: encode(&self.main.hash) });
    }

    fn is_proven(&self, seq: u64) -> bool {
        self.verdict.proven.as_ref().is_some_and(|proven| proven.place.seq > seq)
    }

    /// Whether the chain is as the checkpoint says.
    fn compare(&self, statement: &Statement) -> Result<(), Objection> {
        let own = self.main.seq;
        let Statement { instance, seq, head, previous, .. } = statement;
        if *instance != self.verdict.instance || *seq >= own {
            return Err(bad(own, "belongs to another place".to_owned()));
        }
        // Where the one that it names is not there, that was found before.
        let named = previous.as_ref().filter(|named| self.recent.get(named.seq).is_some());
        if let (Some(named), Some(last)) = (named, &self.last_checkpoint)
            && named != last
        {
            let (named, last) = (named.seq, last.seq);
            let text = format!("the checkpoint at record {own} names record {named} as the one before it, not {last}");
            return Err((Kind::Rewritten, named.min(last), own, text));
        }
        if *seq < self.verdict.first {
            return Ok(());
        }
        let head = decode(head).ok_or_else(|| bad(own, "has no hash".to_owned()))?;
        match self.recent.get(*seq) {
            Some(known) if *known == head => Ok(()),
            Some(_) => Err(self.rewritten(*seq)),
            None => Err(bad(own, format!("signs record {seq}, which is not there, or too far back"))),
        }
    }

    /// The checkpoint that the main line ends with signs another record than the one with that number.
    fn rewritten(&self, seq: u64) -> Objection {
        let (own, proven) = (self.main.seq, self.verdict.proven.as_ref().map_or(0, |proven| proven.place.seq));
        // Where two checkpoints say different things of it, it is that one.
        let first = (proven + 1).min(seq);
        let text = format!(
            "the checkpoint at record {own} signs another record {seq}: one of {first} to {seq} was changed, and those \
             after it made to fit"
        );
        (Kind::Rewritten, first, seq, text)
    }
}

/// The checkpoint at record `own` proves nothing.
fn bad(own: u64, why: String) -> Objection {
    (Kind::BadCheckpoint, own, own, format!("the checkpoint at record {own} {why}"))
}
