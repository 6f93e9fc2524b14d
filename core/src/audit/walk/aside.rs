//! What does not follow the main line, until the next record tells what it is.

use super::{
    Point, Walk,
    hash::{Hash, decode, encode, names},
};
use crate::audit::{
    finding::{Handle, Kind},
    line::Line,
};

/// A record that does not follow the main line, and those that follow it.
#[derive(Debug)]
pub(super) struct Aside {
    first: u64,
    first_prev: String,
    point: Point,
    /// Its numbers lie beyond the main line.
    ahead: bool,
    finding: Handle,
    /// Of the first one.
    statement: Option<String>,
    time: i64,
}

impl Walk<'_> {
    /// Neither follows the main line nor what was put aside before.
    pub(super) fn put_aside(&mut self, line: &Line<'_>, point: Point) {
        let ahead = line.seq > self.main.seq;
        let finding = if ahead { self.find_gap(line.seq) } else { self.find_repeat(line.seq, &point.hash) };
        self.aside = Some(Aside {
            first: line.seq,
            first_prev: line.prev.to_string(),
            point,
            ahead,
            finding,
            statement: line.jws().map(str::to_owned),
            time: line.time,
        });
    }

    fn find_gap(&mut self, seq: u64) -> Handle {
        let (first, last) = (self.main.seq + 1, seq - 1);
        let records = match first == last {
            true => format!("record {first} is missing"),
            false => format!("records {first} to {last} are missing"),
        };
        let text = match (&self.file.before, self.verdict.first) {
            (None, 0) => format!("{records}: the first file begins with record {seq}"),
            (Some(before), 0) => format!("{records}, before `{}`; `{before}` has none", self.file.name),
            (Some(before), _) => format!(
                "{records}: `{}` does not go on where `{before}` ends; a file is missing, or an end was cut off",
                self.file.name
            ),
            (None, _) => records,
        };
        self.find(Kind::Dropped, first, last, text)
    }

    fn find_repeat(&mut self, seq: u64, hash: &Hash) -> Handle {
        if let Some(handle) = self.findings.dropped(seq) {
            let text = format!("record {seq} stands behind record {}", self.main.seq);
            self.findings.amend(handle, |finding| {
                finding.kind = Kind::Swapped;
                finding.text.push_str("; ");
                finding.text.push_str(&text);
            });
            return handle;
        }
        match self.recent.get(seq) {
            Some(known) if known == hash => {
                self.find(Kind::Duplicated, seq, seq, format!("record {seq} stands there again"))
            }
            Some(_) => self.find(Kind::Fork, seq, seq, format!("two different records have the number {seq}")),
            None => {
                let text = format!("a second record has the number {seq}, and the first is too far back to compare");
                self.find(Kind::Fork, seq, seq, text)
            }
        }
    }

    /// Whether the line belongs to what was put aside, or says what that is.
    pub(super) fn goes_on_aside(&mut self, line: &Line<'_>, point: Point) -> bool {
        self.forget_passed_aside();
        let Some(aside) = &self.aside else { return false };
        if line.seq == aside.point.seq + 1 && names(line, &aside.point.hash) {
            self.follow_aside(line, point);
            return true;
        }
        // One record in the place of the one between the main line and this one, with another number.
        let changed = self.main.seq + 1;
        let (number, handle) = (aside.first, aside.finding);
        let is_single = number == aside.point.seq && number != line.seq;
        if line.seq != changed + 1 || !is_single {
            return false;
        }
        let text = format!("record {changed} was changed: it has the number {number}");
        self.findings.amend(handle, |finding| {
            (finding.kind, finding.first, finding.last, finding.text) = (Kind::Changed, changed, changed, text);
        });
        self.aside = None;
        self.verdict.records += 1;
        self.advance(line, point);
        true
    }

    /// Another one follows what was put aside.
    fn follow_aside(&mut self, line: &Line<'_>, point: Point) {
        let Some(aside) = &mut self.aside else { return };
        let handle = aside.finding;
        if aside.ahead {
            // That is where the log goes on, and the hash that this one names is the one to be held against others.
            aside.point.hash = decode(&line.prev).unwrap_or_default();
            self.adopt_aside();
            self.advance(line, point);
        } else if line.seq > self.main.seq {
            self.findings.amend(handle, |finding| {
                finding.last = line.seq - 1;
                if finding.kind == Kind::Fork {
                    finding.text.push_str(", and the log goes on with the second");
                }
            });
            self.aside = None;
            self.advance(line, point);
        } else {
            aside.point = point;
            self.findings.amend(handle, |finding| finding.last = finding.last.max(line.seq));
        }
    }

    /// Whether what was put aside lies beyond the main line.
    pub(super) fn has_aside_ahead(&self) -> bool {
        self.aside.as_ref().is_some_and(|aside| aside.ahead)
    }

    /// The main line goes on behind the gap.
    pub(super) fn adopt_aside(&mut self) {
        self.forget_passed_aside();
        let Some(aside) = self.aside.take().filter(|aside| aside.ahead) else { return };
        self.arrive(aside.point, aside.statement.as_deref(), aside.time);
    }

    /// A record that stood too early may be due now.
    pub(super) fn take_up_aside(&mut self) {
        let due = |aside: &Aside, main: &Point| {
            aside.ahead && aside.first == main.seq + 1 && aside.first_prev == encode(&main.hash)
        };
        match self.aside.take() {
            Some(aside) if due(&aside, &self.main) => {
                let (early, late) = (aside.first, self.main.seq);
                let text = format!("record {early} stands before record {late}");
                self.findings.amend(aside.finding, |finding| {
                    (finding.kind, finding.last, finding.text) = (Kind::Swapped, early, text);
                });
                self.arrive(aside.point, aside.statement.as_deref(), aside.time);
            }
            // What comes early waits; what stood there again is over.
            aside => self.aside = aside.filter(|aside| aside.ahead && aside.first > self.main.seq),
        }
    }

    /// The main line never goes back: what stood too early, and was not taken up when it was due, is over.
    fn forget_passed_aside(&mut self) {
        let main = self.main.seq;
        self.aside.take_if(|aside| aside.ahead && aside.first <= main);
    }
}
