//! A file of `audit export`, as `audit verify --part` reads it.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{BufRead, BufReader},
    path::Path,
};

use hallmark_core::audit::{
    Chain, Place,
    checkpoint::CustodyKeys,
    finding::{Finding, Kind, Verdict},
    line::Line,
    walk::{Declared, Knowledge, Walk},
};
use serde::{Deserialize, Serialize};

use crate::cli::Failure;

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

/// A part of a log.
pub(super) struct Part {
    name: String,
    about: About,
    records: BTreeMap<String, Vec<Exported>>,
}

/// Reads it, into memory.
pub(super) fn read(path: &Path) -> Result<Part, Failure> {
    let fail = |why: String| {
        let failure = Failure::new(format!("can't use --part: `{}`", path.display())).because(why);
        failure.hint("it is a file that `hallmark audit export --format json` wrote")
    };
    let file = File::open(path).map_err(|error| fail(error.to_string()))?;
    let mut lines = BufReader::new(file).lines();
    let head = lines.next().transpose().map_err(|error| fail(error.to_string()))?.unwrap_or_default();
    let Head { export: about } = serde_json::from_str(&head).map_err(|error| fail(format!("line 1: {error}")))?;
    let mut records: BTreeMap<String, Vec<Exported>> = BTreeMap::new();
    for (number, line) in lines.enumerate() {
        let line = line.map_err(|error| fail(error.to_string()))?;
        let record: Exported =
            serde_json::from_str(&line).map_err(|error| fail(format!("line {}: {error}", number + 2)))?;
        records.entry(record.instance.clone()).or_default().push(record);
    }
    Ok(Part { name: path.display().to_string(), about, records })
}

impl Part {
    /// What the log must have.
    pub(super) fn places(&self) -> impl Iterator<Item = (String, Place)> {
        let of_line = |record: &Exported| {
            // The line's own hash, whatever the file says that it is.
            let place = Chain::after(&record.instance, &record.line).map(|chain| chain.place());
            (record.instance.clone(), place.unwrap_or(Place { seq: record.seq, hash: String::new() }))
        };
        self.records.values().flatten().map(of_line)
    }

    /// Checks it by itself.
    pub(super) fn verify(&self, keys: &CustodyKeys) -> Vec<Verdict> {
        self.records.iter().map(|(instance, records)| self.verify_chain(instance, records, keys)).collect()
    }

    fn verify_chain(&self, instance: &str, records: &[Exported], keys: &CustodyKeys) -> Verdict {
        let mut verdict = if self.about.complete {
            let mut walk = Walk::new(instance, Knowledge { keys: Some(keys), places: Vec::new(), partial: true });
            walk.file(&self.name, Declared { last: true, ..Declared::default() });
            records.iter().for_each(|record| walk.line(record.line.as_bytes()));
            walk.end_file(0, None);
            walk.finish()
        } else {
            let note =
                "records between these were left out: only the log shows that these are in it, so name its folder too";
            Verdict {
                instance: instance.to_owned(),
                records: records.len() as u64,
                first: records.first().map_or(0, |record| record.seq),
                end: records.last().map(|last| Place { seq: last.seq, hash: last.hash.clone() }),
                notes: vec![note.to_owned()],
                ..Verdict::default()
            }
        };
        verdict.findings.extend(records.iter().filter_map(|record| self.own(record)));
        verdict
    }

    /// Whether a record is what the file says of it.
    fn own(&self, record: &Exported) -> Option<Finding> {
        let Exported { instance, seq, hash, line } = record;
        let is_own = Line::parse(line.as_bytes())
            .is_some_and(|parsed| parsed.seq == *seq && parsed.instance == *instance)
            && Chain::after(instance, line).is_some_and(|chain| chain.place().hash == *hash);
        let text = || format!("record {seq} was changed: it has another hash, number or instance than the export says");
        let file = self.name.clone();
        (!is_own).then(|| Finding {
            kind: Kind::Changed,
            instance: instance.clone(),
            file,
            first: *seq,
            last: *seq,
            text: text(),
        })
    }
}
