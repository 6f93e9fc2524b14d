//! What a sweep comes to: the service's part, with a process that may die between any two writes.

use uuid::Uuid;

use super::{Died, Life, World};
use crate::{
    key::{KeyId, KeyLine, KeyRecord, KeyTimes, PublicPart},
    lifecycle::{
        Change, Step, apply,
        tests::fixture::{START, generated},
    },
    public_key::PublicKey,
    time::Timestamp,
};

impl World {
    /// Makes `changes` as the service does, until its life ends.
    pub(in crate::lifecycle::tests) fn make(&mut self, changes: &[Change], life: &mut Life) -> Result<(), Died> {
        let wall = Timestamp::from_millis(START.millis() + self.wall());
        let pauses = changes.iter().any(|change| matches!(change.step, Step::Pause { .. }));
        assert!(changes.iter().all(|change| !change.reason.is_empty()), "a change without its reason: {changes:?}");
        let moves: Vec<_> = changes.iter().filter(|change| matches!(change.step, Step::Move { .. })).collect();
        if !moves.is_empty() {
            write(life)?;
            for change in moves {
                let Step::Move { key, .. } = change.step else { continue };
                self.apply(key, change, wall);
            }
            self.note();
        }
        self.process.quiet_since = pauses.then(|| self.process.quiet_since.unwrap_or(self.real));
        for change in changes {
            match &change.step {
                Step::Generate { line, reserved, .. } => self.make_key(line, *reserved, wall, life)?,
                Step::Destroy { key } => {
                    write(life)?;
                    self.tokens.remove(key.0.as_bytes().as_slice());
                    write(life)?;
                    self.apply(*key, change, wall);
                }
                Step::Move { .. } | Step::Pause { .. } => {}
            }
        }
        self.note();
        Ok(())
    }

    fn apply(&mut self, key: KeyId, change: &Change, wall: Timestamp) {
        let record = self.record(key);
        *record = apply(record, change, wall).unwrap();
    }

    fn record(&mut self, key: KeyId) -> &mut KeyRecord {
        self.records.iter_mut().find(|record| record.id == key).unwrap()
    }

    /// The record first, then the pair, then what the record says of it: a process may die between any two.
    fn make_key(
        &mut self,
        line: &KeyLine,
        reserved: Option<KeyId>,
        wall: Timestamp,
        life: &mut Life,
    ) -> Result<(), Died> {
        let id = match reserved {
            Some(id) => id,
            None => {
                write(life)?;
                self.reserve(line, wall)
            }
        };
        write(life)?;
        let cka_id = id.0.as_bytes().to_vec();
        self.generate(&cka_id);
        write(life)?;
        let public = self.born[&cka_id].clone();
        self.record(id).public = Some(public);
        Ok(())
    }

    fn reserve(&mut self, line: &KeyLine, wall: Timestamp) -> KeyId {
        let id = KeyId(Uuid::from_u128(self.records.len() as u128 + 1));
        let (cka_id, times) = (id.0.as_bytes().to_vec(), KeyTimes::created(wall));
        self.records.push(KeyRecord { id, cka_id, times, public: None, ..generated(0, line) });
        id
    }

    fn generate(&mut self, cka_id: &[u8]) {
        if !self.tokens.contains(cka_id) {
            let n = self.born.len();
            let mut bytes = [7; 32];
            bytes[..8].copy_from_slice(&n.to_le_bytes());
            let key = PublicKey::from_ed25519(&bytes).unwrap();
            let before = self.born.insert(cka_id.to_vec(), PublicPart { kid: format!("k{n}").parse().unwrap(), key });
            assert!(before.is_none(), "a record's key was made twice");
            self.tokens.insert(cka_id.to_vec());
        }
    }
}

/// One of the writes that a process has left.
fn write(life: &mut Life) -> Result<(), Died> {
    match life {
        Some(0) => Err(Died),
        Some(left) => {
            *left -= 1;
            Ok(())
        }
        None => Ok(()),
    }
}
