//! Walks over one chain, line by line and file by file, and names what was done to it.
//!
//! The *main* line of records is the one that holds so far. A record that does not follow it is put aside until the next
//! one tells what it is: whether others follow it (records before it are missing), or the main line goes on (it was moved,
//! repeated, or its number changed). So one edit is one finding, and what stands behind it is looked at all the same.
//!
//! - [`place`]: where a line belongs;
//! - [`aside`]: what does not follow the main line;
//! - [`proof`]: what checkpoints prove;
//! - [`recent`]: the records that checkpoints may be about, in bounded memory.

use std::collections::VecDeque;

use self::{
    aside::Aside,
    hash::{Hash, decode, encode, hash},
    recent::Recent,
};
use super::{
    Place,
    checkpoint::CustodyKeys,
    finding::{Finding, Findings, Handle, Kind, Verdict},
    line::Line,
    origin,
};
use crate::time::Timestamp;

mod aside;
mod hash;
mod place;
mod proof;
mod recent;

#[cfg(test)]
mod tests;

/// What later files say of one that is about to be read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Declared {
    /// Its records after this one are void: writing them failed.
    pub void_after: Option<u64>,
    /// All of it is void: it was a try to go on after a failure, and was given up.
    pub void: bool,
    /// No file of this chain comes after it: the log may be growing there.
    pub last: bool,
}

/// What an auditor knows beside the log.
#[derive(Debug, Default)]
pub struct Knowledge<'k> {
    pub keys: Option<&'k CustodyKeys>,
    /// Records of this chain that are known from earlier, such as those of checkpoints kept elsewhere.
    pub places: Vec<Place>,
    /// The log may begin with a later record than the first: older files are kept elsewhere.
    pub partial: bool,
}

/// A walk over one chain that is under way.
#[derive(Debug)]
pub struct Walk<'k> {
    known: Knowledge<'k>,
    /// Of `known`, those that were not passed yet; ascending.
    expected: VecDeque<Place>,
    file: InFile,
    main: Point,
    aside: Option<Aside>,
    /// Lines since the last record that are none.
    unreadable: u64,
    /// The record before `main` was found changed on the word of `main` alone.
    accused: Option<Handle>,
    recent: Recent,
    last_checkpoint: Option<Place>,
    /// So far; without its end, and without findings.
    verdict: Verdict,
    findings: Findings,
}

/// The file that is being read.
#[derive(Debug, Default)]
struct InFile {
    name: String,
    declared: Declared,
    /// The file before this one, while nothing of this one was read.
    before: Option<String>,
    /// Lines that are declared void.
    void: u64,
}

/// A record, as the next one names it.
#[derive(Clone, Copy, Debug)]
struct Point {
    seq: u64,
    hash: Hash,
    /// `false` where the line of this record could not be read, so that the next can't be held against it.
    is_known: bool,
}

/// Kinds of events that are counted: more than there are.
const MOST_KINDS: usize = 64;

impl<'k> Walk<'k> {
    /// Before the first file of `instance`.
    pub fn new(instance: &str, mut known: Knowledge<'k>) -> Self {
        let mut places = std::mem::take(&mut known.places);
        places.sort_by_key(|place| place.seq);
        let hash = decode(&origin(instance)).unwrap_or_default();
        Self {
            known,
            expected: places.into(),
            file: InFile::default(),
            main: Point { seq: 0, hash, is_known: true },
            aside: None,
            unreadable: 0,
            accused: None,
            recent: Recent::default(),
            last_checkpoint: None,
            verdict: Verdict { instance: instance.to_owned(), ..Verdict::default() },
            findings: Findings::default(),
        }
    }

    /// The next file, in the order of their numbers.
    pub fn file(&mut self, name: &str, declared: Declared) {
        let before = std::mem::take(&mut self.file).name;
        let before = (!before.is_empty()).then_some(before);
        self.file = InFile { name: name.to_owned(), declared, before, void: 0 };
    }

    /// The next whole line of that file, without its newline.
    pub fn line(&mut self, bytes: &[u8]) {
        let declared = self.file.declared;
        if declared.void || declared.void_after.is_some_and(|after| self.main.seq >= after) {
            self.file.void += 1;
            return self.beyond(bytes);
        }
        let Some(line) = self.own(bytes) else {
            self.unreadable += 1;
            return;
        };
        let point = Point { seq: line.seq, hash: hash(bytes), is_known: true };
        self.settle_unreadable(&line);
        self.place(&line, point);
        self.file.before = None;
    }

    /// A line among what later files say is none, for a crash or a failing disk left it. It stays without weight, but a
    /// checkpoint there shows that what it signs was written for good.
    pub fn beyond(&mut self, bytes: &[u8]) {
        let Some(keys) = self.known.keys.filter(|keys| !keys.is_empty()) else { return };
        let line = self.own(bytes);
        let Some(jws) = line.as_ref().and_then(Line::jws) else { return };
        let Ok(statement) = keys.check(jws) else { return };
        if statement.instance == self.verdict.instance && statement.seq > self.main.seq {
            let text = "a signed checkpoint among what is said to be left of a crash proves that they were there";
            self.find(Kind::Rewritten, self.main.seq + 1, statement.seq, text.to_owned());
        }
    }

    /// The end of that file: `cut` bytes behind its last newline, `torn` bytes that a later file says a crash left.
    pub fn end_file(&mut self, cut: u64, torn: Option<u64>) {
        self.settle_unreadable_at_the_end();
        let (InFile { name, declared, void, .. }, seq) = (&self.file, self.main.seq);
        if let Some(torn) = torn {
            self.findings.note(format!(
                "`{name}` ends in {torn} bytes that a crash left after record {seq}; the file that the next start began \
                 says so"
            ));
        }
        if *void > 0 || declared.void || declared.void_after.is_some() {
            self.findings.note(format!(
                "writing `{name}` failed after record {seq}: {void} lines there are void, and recorded anew in the next \
                 file"
            ));
        } else if cut > 0 && declared.last {
            self.findings.note(format!(
                "`{name}` ends in {cut} bytes of an incomplete line after record {seq}: it is being written, or a crash \
                 left it and no server has started since"
            ));
        } else if cut > 0 {
            let text = format!("`{name}` ends in {cut} bytes that are no whole line, and no later file knows of it");
            self.find(Kind::CutLine, seq + 1, seq + 1, text);
        }
    }

    /// What the chain was found to be.
    pub fn finish(mut self) -> Verdict {
        self.adopt_aside();
        let Point { seq, hash, .. } = self.main;
        if let Some(last) = self.expected.back().map(|last| last.seq).filter(|last| *last > seq) {
            let text = format!("the log ends with record {seq}, and record {last} is known to exist");
            self.find(Kind::Truncated, seq + 1, last, text);
        }
        let end = (seq > 0).then(|| Place { seq, hash: encode(&hash) });
        self.findings.into_verdict(Verdict { end, ..self.verdict })
    }

    /// The last record of the main line so far.
    pub fn seq(&self) -> u64 {
        self.main.seq
    }

    /// The record that a line is, if it is one of this chain.
    fn own<'a>(&self, bytes: &'a [u8]) -> Option<Line<'a>> {
        Line::parse(bytes).filter(|line| line.instance == self.verdict.instance)
    }

    /// The main line goes on with this record.
    fn advance(&mut self, line: &Line<'_>, point: Point) {
        let events = &mut self.verdict.events;
        if let Some(count) = events.get_mut(&*line.event) {
            *count += 1;
        } else if events.len() < MOST_KINDS {
            events.insert(line.event.to_string(), 1);
        }
        self.arrive(point, line.jws(), line.time);
    }

    /// The same, with what is looked at of the record.
    fn arrive(&mut self, point: Point, jws: Option<&str>, time: i64) {
        self.main = point;
        let verdict = &mut self.verdict;
        verdict.first = if verdict.first == 0 { point.seq } else { verdict.first };
        verdict.records += 1;
        verdict.end_time = Some(Timestamp::from_millis(time));
        self.recent.push(point.seq, point.hash);
        self.compare_with_expected(point);
        if let Some(jws) = jws {
            self.checkpoint(jws);
        }
    }

    fn compare_with_expected(&mut self, point: Point) {
        while let Some(Place { seq, hash }) = self.expected.pop_front_if(|place| place.seq <= point.seq) {
            if seq == point.seq && decode(&hash) != Some(point.hash) {
                let text = format!(
                    "record {seq} is not the one that is known from earlier: it, or one before it, was changed"
                );
                self.find(Kind::Rewritten, seq, seq, text);
            }
        }
    }

    fn find(&mut self, kind: Kind, first: u64, last: u64, text: String) -> Handle {
        let (instance, file) = (self.verdict.instance.clone(), self.file.name.clone());
        self.findings.add(Finding { kind, instance, file, first, last, text })
    }
}
