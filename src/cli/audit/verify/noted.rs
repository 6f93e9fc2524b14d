//! Records that are known from earlier: what `--save` writes and `--expect` reads.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Write},
    path::Path,
};

use hallmark_core::audit::{Place, checkpoint::CustodyKeys, finding::Verdict, line::Line};
use serde::{Deserialize, Serialize};

use crate::cli::Failure;

/// Records that are known, by instance.
pub(super) type Known = BTreeMap<String, Vec<Place>>;

/// One line of a file of `--save`, or a statement like it.
#[derive(Deserialize, Serialize)]
struct Noted {
    instance: String,
    #[serde(flatten)]
    place: Place,
}

/// The end of each chain, for the next time.
pub(super) fn save(path: &Path, verdicts: &[Verdict]) -> Result<(), Failure> {
    let noted = verdicts.iter().filter_map(|v| Some(Noted { instance: v.instance.clone(), place: v.end.clone()? }));
    let lines = noted.map(|noted| serde_json::to_string(&noted).map(|line| line + "\n"));
    let written = lines.collect::<Result<String, _>>().map_err(io::Error::from).and_then(|text| {
        // Whole or not at all: a half one would be found missing next time.
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let mut file = tempfile::NamedTempFile::new_in(folder)?;
        file.write_all(text.as_bytes())?;
        file.as_file().sync_all()?;
        file.persist(path).map(drop).map_err(|error| error.error)
    });
    written.map_err(|error| Failure::new(format!("can't write `{}`", path.display())).caused_by(&error))
}

/// Reads what is known: lines of `--save`, records of a log that are checkpoints, or checkpoints alone.
pub(super) fn expected(path: &Path, keys: &CustodyKeys) -> Result<Known, Failure> {
    let fail = || Failure::new(format!("can't use --expect: `{}`", path.display()));
    let text = fs::read_to_string(path).map_err(|error| fail().caused_by(&error))?;
    let mut known = Known::new();
    for (number, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
        let noted = match serde_json::from_str::<Noted>(line) {
            Ok(noted) if !line.contains("\"jws\"") => noted,
            _ => {
                let record = Line::parse(line.as_bytes());
                let jws = record.as_ref().and_then(Line::jws).unwrap_or(line.trim());
                let statement = keys.check(jws).map_err(|error| {
                    fail()
                        .because(format!("line {}: {error}", number + 1))
                        .hint("each line is one that `--save` wrote, or a checkpoint")
                })?;
                Noted { instance: statement.instance, place: Place { seq: statement.seq, hash: statement.head } }
            }
        };
        known.entry(noted.instance).or_default().push(noted.place);
    }
    Ok(known)
}
