//! `hallmark audit verify`.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, IsTerminal, Write},
    path::Path,
    time::{Duration, Instant},
};

use hallmark_core::audit::{
    Place,
    checkpoint::CustodyKeys,
    finding::{Finding, Verdict},
    line::Line,
    walk::Knowledge,
};
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::{chains, part, shown_time, trusted};
use crate::{
    audit::reading::{self, ChainFiles},
    cli::{
        Failure,
        args::VerifyLogArgs,
        output::{Output, printable},
    },
};

/// Something was done to the log.
const FOUND: u8 = 1;
/// Nothing was found, and nothing proves that there is nothing to be found.
const UNPROVEN: u8 = 3;

/// Records that are known, by instance.
pub(super) type Known = BTreeMap<String, Vec<Place>>;

pub(super) async fn run(args: VerifyLogArgs, json: bool) -> Result<u8, Failure> {
    let keys = trusted(&args.custody_keys, args.places.config.as_deref()).await?;
    let mut known = args.expect.as_deref().map(|path| expected(path, &keys)).transpose()?.unwrap_or_default();
    if let Some(path) = &args.part {
        let exported = part::read(path)?;
        if args.places.places.is_empty() && args.places.config.is_none() {
            return report(&args, &exported.verify(&keys), &Rate::default(), json);
        }
        exported.places().for_each(|(instance, place)| known.entry(instance).or_default().push(place));
    }
    let chains = chains(&args.places)?;
    let (verdicts, rate) = tokio::task::spawn_blocking({
        let args = args.clone();
        move || verify(&chains, &keys, known, args.partial, !json)
    })
    .await
    .map_err(|error| Failure::new("reading the log ended early").caused_by(&error))??;
    report(&args, &verdicts, &rate, json)
}

fn verify(
    chains: &[ChainFiles],
    keys: &CustodyKeys,
    mut known: Known,
    partial: bool,
    shown: bool,
) -> Result<(Vec<Verdict>, Rate), Failure> {
    let total = chains.iter().flat_map(|chain| &chain.files).map(|file| file.len).sum();
    let mut progress = Progress::new(total, shown);
    let mut verdicts = Vec::new();
    // What is known of an instance without files is missing whole.
    let lost: Vec<_> =
        known.keys().filter(|name| !chains.iter().any(|chain| chain.instance == **name)).cloned().collect();
    let lost = lost.into_iter().map(|instance| ChainFiles { instance, files: Vec::new() });
    for chain in chains.iter().cloned().chain(lost) {
        let places = known.remove(&chain.instance).unwrap_or_default();
        let knowledge = Knowledge { keys: Some(keys), places, partial };
        let verdict = reading::walk(&chain, knowledge, &mut |bytes| progress.add(bytes));
        verdicts.push(verdict.map_err(|error| Failure::new("can't read the audit log").caused_by(&error))?);
    }
    let records = verdicts.iter().map(|verdict| verdict.records).sum();
    Ok((verdicts, progress.end(records)))
}

fn report(args: &VerifyLogArgs, verdicts: &[Verdict], rate: &Rate, json: bool) -> Result<u8, Failure> {
    let found = verdicts.iter().any(|verdict| !verdict.findings.is_empty());
    let proven = |verdict: &Verdict| verdict.proven.as_ref().is_some_and(|proven| proven.signed);
    let all_proven = !verdicts.is_empty() && verdicts.iter().all(proven);
    if json {
        let whole = !found;
        Output::json(&json!({ "whole": whole, "proven": whole && all_proven, "chains": verdicts })).print()?;
    } else {
        let stdout = verdicts.iter().map(text).collect();
        Output { stdout, stderr: rate.text() }.print()?;
    }
    if let Some(path) = args.save.as_deref().filter(|_| !found) {
        save(path, verdicts)?;
    }
    Ok(match (found, all_proven) {
        (true, _) => FOUND,
        (false, true) => 0,
        (false, false) => UNPROVEN,
    })
}

fn text(verdict: &Verdict) -> String {
    let state = match verdict.findings.len() as u64 + verdict.more_findings {
        0 => "whole".to_owned(),
        1 => "1 finding".to_owned(),
        count => format!("{count} findings"),
    };
    let instance = printable(&verdict.instance);
    let mut text = match &verdict.end {
        Some(end) => {
            format!(
                "{instance}: records {} to {}, {} checkpoints: {state}\n",
                verdict.first, end.seq, verdict.checkpoints
            )
        }
        None => format!("{instance}: no records: {state}\n"),
    };
    text += &format!("  {}\n", proof(verdict));
    for Finding { kind, file, text: what, .. } in &verdict.findings {
        text += &format!("  ✗ {kind}: {} (in `{}`)\n", printable(what), printable(file));
    }
    if verdict.more_findings > 0 {
        text += &format!("  ✗ and {} more\n", verdict.more_findings);
    }
    let notes = verdict.notes.iter().map(|note| format!("  – {}\n", printable(note)));
    text + &notes.collect::<String>()
}

fn proof(verdict: &Verdict) -> String {
    let end = verdict.end.as_ref().map_or(0, |end| end.seq);
    match &verdict.proven {
        Some(proven) => {
            let behind = end.saturating_sub(proven.place.seq);
            let by = match proven.signed {
                true => "proven",
                false => "not proven, for no custody key was given: consistent",
            };
            let time = shown_time(proven.time);
            format!(
                "{by} up to record {} by a checkpoint of {time}; {behind} records behind it are only chained",
                proven.place.seq
            )
        }
        None => format!("not proven: no checkpoint holds; {end} records are only chained"),
    }
}

/// One line of a file of `--save`, or a statement like it.
#[derive(Deserialize, Serialize)]
struct Noted {
    instance: String,
    #[serde(flatten)]
    place: Place,
}

fn save(path: &Path, verdicts: &[Verdict]) -> Result<(), Failure> {
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
fn expected(path: &Path, keys: &CustodyKeys) -> Result<Known, Failure> {
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

/// How fast it went.
#[derive(Default)]
struct Rate {
    records: u64,
    bytes: u64,
    took: Duration,
}

impl Rate {
    fn text(&self) -> String {
        let secs = self.took.as_secs_f64();
        if self.records == 0 || secs == 0.0 {
            return String::new();
        }
        let (per_second, mib) = (self.records as f64 / secs, self.bytes as f64 / f64::from(1 << 20));
        format!("{} records, {mib:.1} MiB in {secs:.2} s: {per_second:.0} records a second\n", self.records)
    }
}

/// A line on the terminal, while people wait.
struct Progress {
    total: u64,
    done: u64,
    unseen: u64,
    started: Instant,
    shown: Option<Instant>,
    is_shown: bool,
}

impl Progress {
    fn new(total: u64, shown: bool) -> Self {
        let now = Instant::now();
        let is_shown = shown && io::stderr().is_terminal();
        Self { total, done: 0, unseen: 0, started: now, shown: is_shown.then_some(now), is_shown: false }
    }

    fn add(&mut self, bytes: u64) {
        self.done += bytes;
        self.unseen += bytes;
        if self.unseen < STEP {
            return;
        }
        self.unseen = 0;
        if let Some(shown) = self.shown.filter(|shown| shown.elapsed() > Duration::from_millis(200)) {
            let percent = self.done.min(self.total) * 100 / self.total.max(1);
            eprint!("\r{percent:3} % of {} MiB", self.total >> 20);
            (self.shown, self.is_shown) = (Some(shown + shown.elapsed()), true);
        }
    }

    fn end(self, records: u64) -> Rate {
        if self.is_shown {
            eprint!("\r\u{1b}[K");
        }
        Rate { records, bytes: self.done, took: self.started.elapsed() }
    }
}

/// How often the clock is looked at, in bytes.
const STEP: u64 = 1 << 18;
