//! Where a line belongs, as far as the main line itself can tell.

use super::{
    Point, Walk,
    hash::{Hash, names},
};
use crate::audit::{finding::Kind, line::Line};

impl Walk<'_> {
    /// Puts a record on the main line, or aside.
    pub(super) fn place(&mut self, line: &Line<'_>, point: Point) {
        let begins = self.verdict.first == 0 && line.seq > self.main.seq.max(1);
        if begins && self.known.partial && self.aside.is_none() {
            self.findings.note(format!("the log begins with record {}: what was before it is not looked at", line.seq));
            return self.advance(line, point);
        }
        let follows = line.seq == self.main.seq + 1;
        if follows && (!self.main.is_known || names(line, &self.main.hash)) {
            self.accused = None;
            self.advance(line, point);
            return self.take_up_aside();
        }
        if self.aside.is_some() && self.goes_on_aside(line, point) {
            return;
        }
        if follows {
            self.accuse(line);
            return self.advance(line, point);
        }
        if self.has_aside_ahead() {
            // Two in a row that fit nowhere: what lies before the first one is missing.
            self.adopt_aside();
            return self.place(line, point);
        }
        self.put_aside(line, point);
    }

    /// The record before this one is not what this one says; unless this one was changed itself.
    fn accuse(&mut self, line: &Line<'_>) {
        let before = self.main.seq;
        if let Some(Some(handle)) = self.accused.take() {
            let text = format!("record {before} was changed, and perhaps record {}, which it names", before - 1);
            return self.findings.amend(Some(handle), |finding| {
                (finding.first, finding.last, finding.text) = (before - 1, before, text);
            });
        }
        let (first, text) = match before {
            0 => (1, "record 1 does not begin this chain: it was changed, or others were before it".to_owned()),
            _ => (before, format!("record {before} was changed: record {} names another hash of it", line.seq)),
        };
        let handle = self.find(Kind::Changed, first, first, text);
        self.accused = (before > 0).then_some(handle);
    }

    /// Lines before this record could not be read: were they added, or are they what is missing?
    pub(super) fn settle_unreadable(&mut self, line: &Line<'_>) {
        let count = std::mem::take(&mut self.unreadable);
        if count == 0 {
            return;
        }
        let seq = self.main.seq;
        if line.seq == seq + 1 && names(line, &self.main.hash) {
            let text = format!("{count} lines that are no records of this chain stand behind record {seq}");
            self.find(Kind::Inserted, seq, seq, text);
        } else if line.seq > seq + 1 {
            let last = line.seq - 1;
            self.find(Kind::Changed, seq + 1, last, unreadable(seq + 1, last));
            self.main = Point { seq: last, hash: Hash::default(), is_known: false };
        } else {
            self.find(Kind::Changed, seq + 1, seq + 1, unreadable(seq + 1, seq + 1));
        }
    }

    /// The same where the file ends with them.
    pub(super) fn settle_unreadable_at_the_end(&mut self) {
        let count = std::mem::take(&mut self.unreadable);
        if count > 0 {
            let (first, last) = (self.main.seq + 1, self.main.seq + count);
            self.find(Kind::Changed, first, last, unreadable(first, last));
            self.main = Point { seq: last, hash: Hash::default(), is_known: false };
        }
    }
}

fn unreadable(first: u64, last: u64) -> String {
    match first == last {
        true => format!("record {first} was changed: it can't be read as a record of this chain"),
        false => format!("records {first} to {last} were changed: they can't be read as records of this chain"),
    }
}
