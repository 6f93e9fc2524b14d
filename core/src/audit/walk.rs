//! Walks over one chain, line by line and file by file, and names what was done to it.
//!
//! The *main* line of records is the one that holds so far. A record that does not follow it is put aside until the next
//! one tells what it is: whether others follow it (records before it are missing), or the main line goes on (it was moved,
//! repeated, or its number changed). So one edit is one finding, and what stands behind it is looked at all the same.
//!
//! Memory is bounded: of records only the hashes of the last [`REMEMBERED`] are kept, for checkpoints stand some records
//! behind the one that they sign.

use std::collections::{BTreeMap, VecDeque};

use aws_lc_rs::digest;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

use super::{
    Place,
    checkpoint::{CustodyKeys, Statement},
    finding::{Finding, Findings, Handle, Kind, Proven, Verdict},
    line::Line,
    origin,
};
use crate::time::Timestamp;

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
    instance: String,
    known: Knowledge<'k>,
    /// Ascending; what was passed is gone.
    expected: VecDeque<Place>,
    file: String,
    declared: Declared,
    /// The file before this one, while nothing of this one was read.
    before: Option<String>,
    main: Point,
    aside: Option<Aside>,
    /// Lines since the last record that are none.
    unreadable: u64,
    /// The record before `main` was found changed on the word of `main` alone.
    accused: Option<Handle>,
    first: u64,
    records: u64,
    time: Option<Timestamp>,
    recent: VecDeque<(u64, Hash)>,
    checkpoints: u64,
    last_checkpoint: Option<Place>,
    proven: Option<Proven>,
    events: BTreeMap<String, u64>,
    void: u64,
    findings: Findings,
}

type Hash = [u8; 32];

#[derive(Clone, Copy, Debug)]
struct Point {
    seq: u64,
    hash: Hash,
    /// `false` where the line of this record could not be read, so that the next can't be held against it.
    is_known: bool,
}

/// A record that does not follow the main line, and those that follow it.
#[derive(Debug)]
struct Aside {
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

/// Far more records than are written while a checkpoint is being signed.
pub const REMEMBERED: usize = 1 << 18;
/// Kinds of events that are counted: more than there are.
const MOST_KINDS: usize = 64;

impl<'k> Walk<'k> {
    /// Before the first file of `instance`.
    pub fn new(instance: &str, mut known: Knowledge<'k>) -> Self {
        let mut places = std::mem::take(&mut known.places);
        places.sort_by_key(|place| place.seq);
        let hash = decode(&origin(instance)).unwrap_or_default();
        Self {
            instance: instance.to_owned(),
            known,
            expected: places.into(),
            file: String::new(),
            declared: Declared::default(),
            before: None,
            main: Point { seq: 0, hash, is_known: true },
            aside: None,
            unreadable: 0,
            accused: None,
            first: 0,
            records: 0,
            time: None,
            recent: VecDeque::new(),
            checkpoints: 0,
            last_checkpoint: None,
            proven: None,
            events: BTreeMap::new(),
            void: 0,
            findings: Findings::default(),
        }
    }

    /// The next file, in the order of their numbers.
    pub fn file(&mut self, name: &str, declared: Declared) {
        self.before = (!self.file.is_empty()).then(|| self.file.clone());
        (self.file, self.declared) = (name.to_owned(), declared);
        self.void = 0;
    }

    /// The next whole line of that file, without its newline.
    pub fn line(&mut self, bytes: &[u8]) {
        let is_void = self.declared.void || self.declared.void_after.is_some_and(|after| self.main.seq >= after);
        if is_void {
            self.void += 1;
            return self.beyond(bytes);
        }
        let line = Line::parse(bytes).filter(|line| line.instance == self.instance);
        let Some(line) = line else {
            self.unreadable += 1;
            return;
        };
        let point = Point { seq: line.seq, hash: hash(bytes), is_known: true };
        self.settle_unreadable(&line);
        self.place(&line, point);
        self.before = None;
    }

    /// A line among what later files say is none, for a crash or a failing disk left it. It stays without weight, but a
    /// checkpoint there shows that what it signs was written for good.
    pub fn beyond(&mut self, bytes: &[u8]) {
        let line = Line::parse(bytes).filter(|line| line.instance == self.instance);
        let Some(jws) = line.as_ref().and_then(Line::jws) else { return };
        let Some(keys) = self.known.keys.filter(|keys| !keys.is_empty()) else { return };
        let Ok(statement) = keys.check(jws) else { return };
        if statement.instance == self.instance && statement.seq > self.main.seq {
            let text = "a signed checkpoint among what is said to be left of a crash proves that they were there";
            self.find(Kind::Rewritten, self.main.seq + 1, statement.seq, text.to_owned());
        }
    }

    /// The end of that file: `cut` bytes behind its last newline, `torn` bytes that a later file says a crash left.
    pub fn end_file(&mut self, cut: u64, torn: Option<u64>) {
        self.settle_unreadable_at_the_end();
        if let Some(torn) = torn {
            let text = format!(
                "`{}` ends in {torn} bytes that a crash left after record {}; the file that the next start began says so",
                self.file, self.main.seq
            );
            self.findings.note(text);
        }
        let declared = self.declared;
        if self.void > 0 || declared.void || declared.void_after.is_some() {
            let text = format!(
                "writing `{}` failed after record {}: {} lines there are void, and recorded anew in the next file",
                self.file, self.main.seq, self.void
            );
            self.findings.note(text);
        } else if cut > 0 && declared.last {
            let text = format!(
                "`{}` ends in {cut} bytes of an incomplete line after record {}: it is being written, or a crash left it \
                 and no server has started since",
                self.file, self.main.seq
            );
            self.findings.note(text);
        } else if cut > 0 {
            let seq = self.main.seq + 1;
            let text =
                format!("`{}` ends in {cut} bytes that are no whole line, and no later file knows of it", self.file);
            self.find(Kind::CutLine, seq, seq, text);
        }
    }

    /// What the chain was found to be.
    pub fn finish(mut self) -> Verdict {
        self.adopt_aside();
        if let Some(last) = self.expected.back().cloned().filter(|last| last.seq > self.main.seq) {
            let text = format!("the log ends with record {}, and record {} is known to exist", self.main.seq, last.seq);
            self.find(Kind::Truncated, self.main.seq + 1, last.seq, text);
        }
        let end = (self.main.seq > 0).then(|| Place { seq: self.main.seq, hash: encode(&self.main.hash) });
        self.findings.into_verdict(Verdict {
            instance: self.instance,
            records: self.records,
            first: self.first,
            end,
            end_time: self.time,
            proven: self.proven,
            checkpoints: self.checkpoints,
            events: self.events,
            ..Verdict::default()
        })
    }

    /// The last record of the main line so far.
    pub fn seq(&self) -> u64 {
        self.main.seq
    }
}

/// Where a line belongs.
impl Walk<'_> {
    fn place(&mut self, line: &Line<'_>, point: Point) {
        if self.first == 0 && self.known.partial && line.seq > 1 && self.aside.is_none() {
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
        if self.aside.as_ref().is_some_and(|aside| aside.ahead) {
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

    fn put_aside(&mut self, line: &Line<'_>, point: Point) {
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
        let text = match (&self.before, self.first) {
            (None, 0) => format!("{records}: the first file begins with record {seq}"),
            (Some(before), 0) => format!("{records}, before `{}`; `{before}` has none", self.file),
            (Some(before), _) => {
                format!(
                    "{records}: `{}` does not go on where `{before}` ends; a file is missing, or an end was cut off",
                    self.file
                )
            }
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
        match self.remembered(seq) {
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
    fn goes_on_aside(&mut self, line: &Line<'_>, point: Point) -> bool {
        let Some(aside) = &mut self.aside else { return false };
        let handle = aside.finding;
        if line.seq == aside.point.seq + 1 && names(line, &aside.point.hash) {
            aside.point = point;
            if aside.ahead || line.seq > self.main.seq {
                // Others follow it: that is where the log goes on.
                let overtakes = !aside.ahead;
                self.adopt_aside_with(line, point, overtakes);
            } else {
                self.findings.amend(handle, |finding| finding.last = finding.last.max(line.seq));
            }
            return true;
        }
        // One record in the place of the one between the main line and this one, with another number.
        let changed = self.main.seq + 1;
        let is_single = aside.first == aside.point.seq && aside.first != line.seq;
        if line.seq == changed + 1 && is_single {
            let text = format!("record {changed} was changed: it has the number {}", aside.first);
            self.findings.amend(handle, |finding| {
                (finding.kind, finding.first, finding.last, finding.text) = (Kind::Changed, changed, changed, text);
            });
            self.aside = None;
            self.records += 1;
            self.advance(line, point);
            return true;
        }
        false
    }

    fn adopt_aside_with(&mut self, line: &Line<'_>, point: Point, overtakes: bool) {
        let handle = self.aside.as_ref().and_then(|aside| aside.finding);
        if overtakes {
            let last = line.seq - 1;
            self.findings.amend(handle, |finding| {
                finding.last = last;
                if finding.kind == Kind::Fork {
                    finding.text.push_str(", and the log goes on with the second");
                }
            });
            self.aside = None;
        } else {
            if let Some(aside) = &mut self.aside {
                aside.point = Point { seq: aside.first, hash: decode(&line.prev).unwrap_or_default(), is_known: true };
            }
            self.adopt_aside();
        }
        self.advance(line, point);
    }

    /// The main line goes on behind the gap.
    fn adopt_aside(&mut self) {
        let Some(aside) = self.aside.take().filter(|aside| aside.ahead) else { return };
        self.arrive(aside.point, aside.statement.as_deref(), aside.time);
    }

    /// A record that stood too early may be due now.
    fn take_up_aside(&mut self) {
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

    fn advance(&mut self, line: &Line<'_>, point: Point) {
        if self.events.len() < MOST_KINDS || self.events.contains_key(&*line.event) {
            match self.events.get_mut(&*line.event) {
                Some(count) => *count += 1,
                None => _ = self.events.insert(line.event.to_string(), 1),
            }
        }
        self.arrive(point, line.jws(), line.time);
    }

    fn arrive(&mut self, point: Point, jws: Option<&str>, time: i64) {
        self.main = point;
        self.first = if self.first == 0 { point.seq } else { self.first };
        self.records += 1;
        self.time = Some(Timestamp::from_millis(time));
        if self.recent.len() == REMEMBERED {
            self.recent.pop_front();
        }
        self.recent.push_back((point.seq, point.hash));
        while self.expected.front().is_some_and(|place| place.seq <= point.seq) {
            let Some(place) = self.expected.pop_front() else { break };
            if place.seq == point.seq && decode(&place.hash) != Some(point.hash) {
                let text = format!(
                    "record {} is not the one that is known from earlier: it, or one before it, was changed",
                    place.seq
                );
                self.find(Kind::Rewritten, place.seq, place.seq, text);
            }
        }
        if let Some(jws) = jws {
            self.checkpoint(jws);
        }
    }

    fn settle_unreadable(&mut self, line: &Line<'_>) {
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

    fn settle_unreadable_at_the_end(&mut self) {
        let count = std::mem::take(&mut self.unreadable);
        if count > 0 {
            let (first, last) = (self.main.seq + 1, self.main.seq + count);
            self.find(Kind::Changed, first, last, unreadable(first, last));
            self.main = Point { seq: last, hash: Hash::default(), is_known: false };
        }
    }
}

/// What checkpoints prove.
impl Walk<'_> {
    fn checkpoint(&mut self, jws: &str) {
        self.checkpoints += 1;
        let own = self.main.seq;
        let none = CustodyKeys::default();
        let keys = self.known.keys.unwrap_or(&none);
        match keys.check(jws) {
            Err(why) => {
                self.find(
                    Kind::BadCheckpoint,
                    own,
                    own,
                    format!("the checkpoint at record {own} proves nothing: {why}"),
                );
            }
            Ok(statement) => {
                let signed = !keys.is_empty();
                if let Some((kind, first, last, text)) = self.objection(&statement) {
                    self.find(kind, first, last, text);
                } else if statement.seq >= self.first {
                    let place = Place { seq: statement.seq, hash: statement.head };
                    self.proven = Some(Proven { place, time: statement.time, signed });
                }
            }
        }
        self.last_checkpoint = Some(Place { seq: own, hash: encode(&self.main.hash) });
    }

    fn objection(&self, statement: &Statement) -> Option<(Kind, u64, u64, String)> {
        let own = self.main.seq;
        if statement.instance != self.instance || statement.seq >= own {
            let text = format!("the checkpoint at record {own} belongs to another place");
            return Some((Kind::BadCheckpoint, own, own, text));
        }
        // Where the one that it names is not there, that was found before.
        let named = statement.previous.as_ref().filter(|named| self.remembered(named.seq).is_some());
        if let (Some(named), Some(last)) = (named, &self.last_checkpoint)
            && named != last
        {
            let text = format!(
                "the checkpoint at record {own} names record {} as the one before it, not {}",
                named.seq, last.seq
            );
            return Some((Kind::Rewritten, named.seq.min(last.seq), own, text));
        }
        if statement.seq < self.first {
            return None;
        }
        let Some(head) = decode(&statement.head) else {
            return Some((Kind::BadCheckpoint, own, own, format!("the checkpoint at record {own} has no hash")));
        };
        match self.remembered(statement.seq) {
            Some(known) if *known == head => None,
            Some(_) => {
                let first = self.proven.as_ref().map_or(1, |proven| proven.place.seq + 1);
                let text = format!(
                    "the checkpoint at record {own} signs another record {0}: one of {first} to {0} was changed, and those \
                     after it made to fit",
                    statement.seq
                );
                Some((Kind::Rewritten, first, statement.seq, text))
            }
            None => {
                let text = format!(
                    "the checkpoint at record {own} signs record {}, which is not there, or too far back",
                    statement.seq
                );
                Some((Kind::BadCheckpoint, own, own, text))
            }
        }
    }

    fn remembered(&self, seq: u64) -> Option<&Hash> {
        let at = self.recent.binary_search_by_key(&seq, |(seq, _)| *seq).ok()?;
        self.recent.get(at).map(|(_, hash)| hash)
    }

    fn find(&mut self, kind: Kind, first: u64, last: u64, text: String) -> Handle {
        let (instance, file) = (self.instance.clone(), self.file.clone());
        self.findings.add(Finding { kind, instance, file, first, last, text })
    }
}

fn unreadable(first: u64, last: u64) -> String {
    match first == last {
        true => format!("record {first} was changed: it can't be read as a record of this chain"),
        false => format!("records {first} to {last} were changed: they can't be read as records of this chain"),
    }
}

fn names(line: &Line<'_>, hash: &Hash) -> bool {
    let mut text = [0; 43];
    URL_SAFE_NO_PAD.encode_slice(hash, &mut text).is_ok() && line.prev.as_bytes() == text
}

fn hash(bytes: &[u8]) -> Hash {
    let mut hash = Hash::default();
    hash.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    hash
}

fn encode(hash: &Hash) -> String {
    URL_SAFE_NO_PAD.encode(hash)
}

fn decode(text: &str) -> Option<Hash> {
    URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok()
}

#[cfg(test)]
mod tests;
