//! `hallmark audit export`.

use std::{
    fs::File,
    io::{self, BufWriter, Write},
};

use hallmark_core::audit::{Chain, checkpoint::CustodyKeys, line::Line};
use serde_json::{Map, Value};

use super::{
    chains,
    filter::Filter,
    part::{About, Exported, Head},
};
use crate::{
    audit::reading::{ChainFiles, Lines},
    cli::{
        Failure,
        args::{ExportArgs, ExportFormat, FilterArgs},
    },
};

pub(super) fn run(args: &ExportArgs) -> Result<u8, Failure> {
    let chains = chains(&args.places)?;
    let out: Box<dyn Write> = match &args.out {
        Some(path) => Box::new(
            File::create(path)
                .map_err(|error| Failure::new(format!("can't write `{}`", path.display())).caused_by(&error))?,
        ),
        None => Box::new(io::stdout().lock()),
    };
    match export(args, &chains, BufWriter::new(out)) {
        Ok(records) => {
            eprintln!("{records} records");
            Ok(0)
        }
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(0),
        Err(error) => Err(Failure::new("can't export the audit log").caused_by(&error)),
    }
}

fn export(args: &ExportArgs, chains: &[ChainFiles], mut out: impl Write) -> io::Result<u64> {
    match args.format {
        ExportFormat::Json => {
            let FilterArgs { client, workload, kind } = args.filter.clone();
            let complete = Filter::new(&args.filter).is_open();
            let about = About { complete, from: args.from, to: args.to, client, workload, kind };
            writeln!(out, "{}", serde_json::to_string(&Head { export: about })?)?;
        }
        ExportFormat::Csv => writeln!(out, "{},prev,hash", COLUMNS.join(","))?,
    }
    let mut count = 0;
    for chain in chains {
        count += export_chain(args, chain, &mut out)?;
    }
    out.flush()?;
    Ok(count)
}

fn export_chain(args: &ExportArgs, chain: &ChainFiles, out: &mut impl Write) -> io::Result<u64> {
    let mut span = Span::new(args);
    let mut count = 0;
    for file in &chain.files {
        let mut lines = Lines::new(File::open(&file.path)?, file.len);
        while let Some(bytes) = lines.next_line()? {
            match span.place(bytes) {
                Place::Inside => {}
                Place::Outside => continue,
                Place::Over => return Ok(count),
            }
            let Some(record) = Record::new(&chain.instance, bytes) else { continue };
            if span.filter.admits(&record.members) {
                count += 1;
                record.write(args.format, out)?;
            }
        }
    }
    Ok(count)
}

enum Place {
    Inside,
    Outside,
    /// Nothing that comes is wanted.
    Over,
}

/// What time asks for; and, where nothing is left out, as much more as the next checkpoint needs that proves it.
struct Span<'a> {
    args: &'a ExportArgs,
    filter: Filter<'a>,
    begun: bool,
    /// The last record of the time asked for.
    last: u64,
    unproven: CustodyKeys,
    over: bool,
}

impl<'a> Span<'a> {
    fn new(args: &'a ExportArgs) -> Self {
        let filter = Filter::new(&args.filter);
        Self { args, filter, begun: false, last: 0, unproven: CustodyKeys::default(), over: false }
    }

    fn place(&mut self, bytes: &[u8]) -> Place {
        let Some(line) = Line::parse(bytes) else { return Place::Outside };
        if self.over {
            return Place::Over;
        }
        // Once begun it has no holes, whatever the clock did meanwhile.
        self.begun |= self.args.from.is_none_or(|from| line.time >= from);
        if !self.begun {
            return Place::Outside;
        }
        let is_late = self.args.to.is_some_and(|to| line.time >= to);
        if !is_late {
            self.last = line.seq;
            return Place::Inside;
        }
        if !self.filter.is_open() || self.last == 0 || self.args.format == ExportFormat::Csv {
            return if self.filter.is_open() { Place::Over } else { Place::Outside };
        }
        let signed = line.jws().and_then(|jws| self.unproven.check(jws).ok());
        self.over = signed.is_some_and(|statement| statement.seq >= self.last);
        Place::Inside
    }
}

struct Record<'a> {
    instance: &'a str,
    seq: u64,
    hash: String,
    line: &'a str,
    members: Map<String, Value>,
}

impl<'a> Record<'a> {
    fn new(instance: &'a str, bytes: &'a [u8]) -> Option<Self> {
        let line = std::str::from_utf8(bytes).ok()?;
        let place = Chain::after(instance, line)?.place();
        Some(Self { instance, seq: place.seq, hash: place.hash, line, members: serde_json::from_str(line).ok()? })
    }

    fn write(&self, format: ExportFormat, out: &mut impl Write) -> io::Result<()> {
        match format {
            ExportFormat::Json => {
                let (instance, seq, hash, line) =
                    (self.instance.to_owned(), self.seq, self.hash.clone(), self.line.to_owned());
                writeln!(out, "{}", serde_json::to_string(&Exported { instance, seq, hash, line })?)
            }
            ExportFormat::Csv => {
                let cells = COLUMNS.iter().chain(&["prev"]).map(|name| cell(self.members.get(*name)));
                writeln!(out, "{},{}", cells.collect::<Vec<_>>().join(","), self.hash)
            }
        }
    }
}

/// RFC 4180, with nothing at the beginning that a spreadsheet would calculate.
fn cell(value: Option<&Value>) -> String {
    let text = match value {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
    };
    let guarded = if text.starts_with(['=', '+', '-', '@', '\t', '\r']) { format!("'{text}") } else { text };
    match guarded.contains([',', '"', '\n', '\r']) {
        true => format!("\"{}\"", guarded.replace('"', "\"\"")),
        false => guarded,
    }
}

const COLUMNS: [&str; 21] = [
    "instance", "seq", "time", "event", "who", "client", "kid", "alg", "kind", "audience", "request", "outcome",
    "reason", "jti", "iat", "exp", "change", "action", "subject", "file", "count",
];

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn cells_are_text_for_spreadsheets() {
        for (value, expected) in [
            (json!("a"), "a"),
            (json!(7), "7"),
            (json!("=HYPERLINK(\"x\")"), "\"'=HYPERLINK(\"\"x\"\")\""),
            (json!("-1+2"), "'-1+2"),
            (json!("a,b\nc"), "\"a,b\nc\""),
        ] {
            assert_eq!(cell(Some(&value)), expected);
        }
        assert_eq!(cell(None), "");
    }
}
