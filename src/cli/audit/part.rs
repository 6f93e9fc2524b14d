//! A file of `audit export`, as `audit verify --part` reads it.

use std::{collections::BTreeMap, fs::File, path::Path};

use hallmark_core::audit::{
    Chain, Place,
    checkpoint::CustodyKeys,
    finding::{Finding, Kind, MOST_FINDINGS, Verdict},
    line::Line,
    walk::{Declared, Knowledge, Walk},
};
use serde::{Deserialize, Serialize};

use crate::{audit::reading::Lines, cli::Failure};

/// The first line of an export.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Head {
    pub(super) export: About,
}

/// What was asked for.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct About {
    /// Whether every record of that time is in it, so that the chain can be followed.
    pub(super) complete: bool,
    pub(super) from: Option<i64>,
    pub(super) to: Option<i64>,
    pub(super) client: Option<String>,
    pub(super) workload: Option<String>,
    pub(super) kind: Option<String>,
}

/// Each other line: a record as it stands in the log, and its hash.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Exported {
    pub(super) instance: String,
    pub(super) seq: u64,
    /// Base64url of the SHA-256 of `line`, which the next record's `prev` repeats.
    pub(super) hash: String,
    pub(super) line: String,
}

/// A part of a log, to be read once.
pub(super) struct Part {
    name: String,
    about: About,
    lines: Lines<File>,
}

/// Reads what was asked for; the records are still to come.
pub(super) fn open(path: &Path) -> Result<Part, Failure> {
    let name = path.display().to_string();
    let file = File::open(path).map_err(|error| failure(&name, error.to_string()))?;
    let mut lines = Lines::new(file, u64::MAX);
    let head = lines.next_line().map_err(|error| failure(&name, error.to_string()))?.unwrap_or_default();
    let head = serde_json::from_slice::<Head>(head).map_err(|error| failure(&name, format!("line 1: {error}")))?;
    Ok(Part { name, about: head.export, lines })
}

impl Part {
    /// What the log must have, by instance. In memory: about a hundred bytes for each record.
    pub(super) fn places(self, mut take: impl FnMut(String, Place)) -> Result<(), Failure> {
        self.each(|record| {
            // The line's own hash, whatever the file says that it is.
            let place = Chain::after(&record.instance, &record.line).map(|chain| chain.place());
            let place = place.unwrap_or(Place { seq: record.seq, hash: String::new() });
            take(record.instance, place);
        })
    }

    /// Checks it by itself.
    pub(super) fn verify(self, keys: &CustodyKeys) -> Result<Vec<Verdict>, Failure> {
        let (name, complete) = (self.name.clone(), self.about.complete);
        let mut chains: BTreeMap<String, PartOfChain<'_>> = BTreeMap::new();
        self.each(|record| {
            let instance = record.instance.clone();
            chains.entry(instance).or_insert_with_key(|i| PartOfChain::new(i, &name, complete, keys)).take(&record);
        })?;
        Ok(chains.into_iter().map(|(instance, chain)| chain.finish(instance)).collect())
    }

    fn each(mut self, mut take: impl FnMut(Exported)) -> Result<(), Failure> {
        let mut number = 1;
        while let Some(line) = self.lines.next_line().map_err(|error| failure(&self.name, error.to_string()))? {
            number += 1;
            take(serde_json::from_slice(line).map_err(|error| failure(&self.name, format!("line {number}: {error}")))?);
        }
        match self.lines.cut {
            0 => Ok(()),
            _ => Err(failure(&self.name, format!("line {}: it has no end", number + 1))),
        }
    }
}

fn failure(name: &str, why: String) -> Failure {
    let failure = Failure::new(format!("can't use --part: `{name}`")).because(why);
    failure.hint("it is a file that `hallmark audit export --format json` wrote")
}

/// What a part has of one chain, so far.
struct PartOfChain<'k> {
    name: String,
    /// Where every record is there.
    walk: Option<Walk<'k>>,
    records: u64,
    first: u64,
    end: Option<Place>,
    /// Records that are not what the part says of them.
    changed: Vec<Finding>,
    more: u64,
}

impl<'k> PartOfChain<'k> {
    fn new(instance: &str, name: &str, complete: bool, keys: &'k CustodyKeys) -> Self {
        let walk = complete.then(|| {
            let mut walk = Walk::new(instance, Knowledge { keys: Some(keys), places: Vec::new(), partial: true });
            walk.file(name, Declared { last: true, ..Declared::default() });
            walk
        });
        Self { name: name.to_owned(), walk, records: 0, first: 0, end: None, changed: Vec::new(), more: 0 }
    }

    fn take(&mut self, record: &Exported) {
        if let Some(walk) = &mut self.walk {
            walk.line(record.line.as_bytes());
        }
        self.records += 1;
        self.first = if self.records == 1 { record.seq } else { self.first };
        self.end = Some(Place { seq: record.seq, hash: record.hash.clone() });
        if is_as_said(record) {
            return;
        }
        if self.changed.len() == MOST_FINDINGS {
            self.more += 1;
            return;
        }
        let Exported { instance, seq, .. } = record;
        let text = format!("record {seq} was changed: it has another hash, number or instance than the export says");
        let (instance, file, kind) = (instance.clone(), self.name.clone(), Kind::Changed);
        self.changed.push(Finding { kind, instance, file, first: *seq, last: *seq, text });
    }

    fn finish(self, instance: String) -> Verdict {
        let mut verdict = match self.walk {
            Some(mut walk) => {
                walk.end_file(0, None);
                walk.finish()
            }
            None => Verdict {
                instance,
                records: self.records,
                first: self.first,
                end: self.end,
                notes: vec![LEFT_OUT.to_owned()],
                ..Verdict::default()
            },
        };
        verdict.findings.extend(self.changed);
        verdict.more_findings += self.more;
        verdict
    }
}

/// Whether the line is that of the record that the part says it is.
fn is_as_said(record: &Exported) -> bool {
    let Exported { instance, seq, hash, line } = record;
    Line::parse(line.as_bytes()).is_some_and(|parsed| parsed.seq == *seq && parsed.instance == *instance)
        && Chain::after(instance, line).is_some_and(|chain| chain.place().hash == *hash)
}

const LEFT_OUT: &str =
    "records between these were left out: only the log shows that these are in it, so name its folder too";
