//! `hallmark audit tail`.

use std::{
    collections::BTreeMap,
    fs::File,
    io::{self, Seek, SeekFrom, Write},
    path::PathBuf,
    time::Duration,
};

use hallmark_core::time::Timestamp;
use serde_json::{Map, Value};

use super::{chains, filter::Filter, shown_time};
use crate::{
    audit::reading::{ChainFiles, Lines, LogFile},
    cli::{
        Failure,
        args::TailArgs,
        output::{inert, printable},
    },
};

/// How often it is looked for more.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// Of each file, so many bytes at the end are looked at for the first records.
const WINDOW: u64 = 16 << 20;

pub(super) async fn run(args: TailArgs, json: bool) -> Result<u8, Failure> {
    let failed = |error: io::Error| Failure::new("can't read the audit log").caused_by(&error);
    let found = chains(&args.places)?;
    let mut filter = Filter::new(&args.filter);
    let mut ends = Ends::default();
    let mut lines = Vec::new();
    for chain in &found {
        let of_chain = ends.last_of(chain, &mut filter, args.lines).map_err(failed)?;
        lines.extend(of_chain);
    }
    lines.sort_by_key(|line| line.time);
    if let Some(end) = show(&lines[lines.len().saturating_sub(args.lines)..], json)? {
        return Ok(end);
    }
    if !args.follow {
        return Ok(0);
    }
    loop {
        tokio::time::sleep(LOOK_EVERY).await;
        let mut new = Vec::new();
        // A folder that is gone for a moment is no reason to end.
        for chain in chains(&args.places).unwrap_or_default() {
            ends.new_of(&chain, &mut filter, &mut new).map_err(failed)?;
        }
        if let Some(end) = show(&new, json)? {
            return Ok(end);
        }
    }
}

/// Up to where each file was read.
#[derive(Default)]
struct Ends(BTreeMap<PathBuf, u64>);

struct Shown {
    time: i64,
    line: String,
    members: Map<String, Value>,
}

impl Ends {
    /// The last `count` records that the filter lets through, from as many files as that takes.
    fn last_of(&mut self, chain: &ChainFiles, filter: &mut Filter<'_>, count: usize) -> io::Result<Vec<Shown>> {
        let mut windows = Vec::new();
        let mut bytes = 0;
        for file in chain.files.iter().rev() {
            let start = file.len.saturating_sub(WINDOW - bytes);
            bytes += file.len - start;
            windows.push((file, start));
            if bytes >= WINDOW {
                break;
            }
        }
        for file in &chain.files {
            self.0.insert(file.path.clone(), file.len);
        }
        let mut shown = Vec::new();
        for (file, start) in windows.into_iter().rev() {
            let end = read(file, start, filter, &mut shown)?;
            self.0.insert(file.path.clone(), end);
            let surplus = shown.len().saturating_sub(count);
            shown.drain(..surplus);
        }
        Ok(shown)
    }

    /// What was written since.
    fn new_of(&mut self, chain: &ChainFiles, filter: &mut Filter<'_>, shown: &mut Vec<Shown>) -> io::Result<()> {
        for file in &chain.files {
            let start = self.0.get(&file.path).copied().unwrap_or(0);
            if file.len > start {
                let end = read(file, start, filter, shown)?;
                self.0.insert(file.path.clone(), end);
            }
        }
        Ok(())
    }
}

/// Reads whole lines from `start` on; gives where the last one ends.
fn read(file: &LogFile, start: u64, filter: &mut Filter<'_>, shown: &mut Vec<Shown>) -> io::Result<u64> {
    let mut source = File::open(&file.path)?;
    source.seek(SeekFrom::Start(start))?;
    let mut lines = Lines::new(source, file.len.saturating_sub(start));
    while let Some(line) = lines.next_line()? {
        // The first one may be the rest of one.
        let Ok(line) = std::str::from_utf8(line) else { continue };
        let Ok(members) = serde_json::from_str::<Map<String, Value>>(line) else { continue };
        if filter.admits(&members) {
            let time = members.get("time").and_then(Value::as_i64).unwrap_or(0);
            shown.push(Shown { time, line: line.to_owned(), members });
        }
    }
    Ok(file.len - lines.cut)
}

/// Prints them; an exit code where nobody reads any more.
fn show(lines: &[Shown], json: bool) -> Result<Option<u8>, Failure> {
    let text: String =
        lines.iter().map(|line| if json { inert(&line.line) + "\n" } else { for_people(line) }).collect();
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Ok(()) => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(Some(0)),
        Err(error) => Err(Failure::new("can't print").caused_by(&error)),
    }
}

fn for_people(Shown { time, members, .. }: &Shown) -> String {
    let text = |name: &str| match members.get(name) {
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
        None => String::new(),
    };
    let mut line =
        format!("{} {} {} {}", shown_time(Timestamp::from_millis(*time)), text("instance"), text("seq"), text("event"));
    for name in SHOWN.iter().filter(|name| members.contains_key(**name)) {
        let value = text(name);
        if !value.is_empty() {
            line += &format!(" {name}={value}");
        }
    }
    printable(&line) + "\n"
}

/// In this order. The signature of a checkpoint says nothing to people.
const SHOWN: [&str; 20] = [
    "outcome", "reason", "who", "client", "kind", "alg", "kid", "audience", "jti", "action", "subject", "hsm", "why",
    "overdue", "count", "file", "bytes", "after", "cause", "request",
];
