//! `hallmark audit`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum, builder::PossibleValuesParser};
use hallmark_core::{assertion::SigningInput, audit::Event};

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum AuditCommand {
    /// Checks that nothing of a log was changed, dropped, added or cut off
    Verify(VerifyLogArgs),
    /// Prints the last records, and those that come
    Tail(TailArgs),
    /// Writes records of a time or a client for others, with what they need to check them
    Export(ExportArgs),
    /// Prints the public custody keys, which an auditor needs beside the log
    Keys(CustodyKeysArgs),
}

/// Where the log is.
#[derive(Clone, Debug, Args)]
pub(in crate::cli) struct PlacesArgs {
    /// Folders of logs, or files of them
    #[arg(value_name = "DIR|FILE")]
    pub(in crate::cli) places: Vec<PathBuf>,
    /// The server's configuration, in place of the folder; its store has the custody keys
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) config: Option<PathBuf>,
}

#[derive(Clone, Debug, Args)]
pub(in crate::cli) struct VerifyLogArgs {
    #[command(flatten)]
    pub(in crate::cli) places: PlacesArgs,
    /// Public custody keys, as `audit keys` or `keys custody --json` prints them: PEM, a JWK, a set; may be repeated
    #[arg(long = "custody-key", value_name = "FILE")]
    pub(in crate::cli) custody_keys: Vec<PathBuf>,
    /// What is known of the log from earlier: a file of `--save`, or checkpoints that were kept elsewhere
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) expect: Option<PathBuf>,
    /// Where to note the end of the log, for `--expect` next time; only if nothing was found
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) save: Option<PathBuf>,
    /// A JSON file of `audit export`: checks it by itself, or against the log where one is given too
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) part: Option<PathBuf>,
    /// Lets the log begin later than with record 1: older files are kept elsewhere
    #[arg(long)]
    pub(in crate::cli) partial: bool,
}

#[derive(Clone, Debug, Args)]
pub(in crate::cli) struct TailArgs {
    #[command(flatten)]
    pub(in crate::cli) places: PlacesArgs,
    /// How many records
    #[arg(short = 'n', long, default_value_t = 20)]
    pub(in crate::cli) lines: usize,
    /// Goes on with what comes
    #[arg(short, long)]
    pub(in crate::cli) follow: bool,
    #[command(flatten)]
    pub(in crate::cli) filter: FilterArgs,
}

/// What `--kind` takes: kinds of signatures, and events. Checkpoints are both.
fn kinds() -> PossibleValuesParser {
    let events = Event::NAMES.iter().filter(|name| !SigningInput::KINDS.contains(name));
    PossibleValuesParser::new(SigningInput::KINDS.iter().chain(events).copied())
}

/// Which records.
#[derive(Clone, Debug, Default, Args)]
pub(in crate::cli) struct FilterArgs {
    /// Of this client
    #[arg(long, value_name = "NAME")]
    pub(in crate::cli) client: Option<String>,
    /// What this workload asked for, or this operator
    #[arg(long, value_name = "ID")]
    pub(in crate::cli) workload: Option<String>,
    /// Of this kind of signature, such as `assertion`, or of event, such as `refused`
    #[arg(long, value_name = "KIND", value_parser = kinds())]
    pub(in crate::cli) kind: Option<String>,
}

#[derive(Clone, Debug, Args)]
pub(in crate::cli) struct ExportArgs {
    #[command(flatten)]
    pub(in crate::cli) places: PlacesArgs,
    /// From that time on: RFC 3339, such as `2026-11-01T00:00:00Z`
    #[arg(long, value_name = "TIME", value_parser = super::super::audit::parse_time)]
    pub(in crate::cli) from: Option<i64>,
    /// Before that time
    #[arg(long, value_name = "TIME", value_parser = super::super::audit::parse_time)]
    pub(in crate::cli) to: Option<i64>,
    #[command(flatten)]
    pub(in crate::cli) filter: FilterArgs,
    /// JSON holds whole records and proves itself; CSV is for spreadsheets
    #[arg(long, value_enum, default_value_t = ExportFormat::Json)]
    pub(in crate::cli) format: ExportFormat,
    /// Where to write it (default: standard output)
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) out: Option<PathBuf>,
}

/// How records are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum ExportFormat {
    /// One object a line
    Json,
    /// Comma-separated values (RFC 4180)
    Csv,
}

#[derive(Clone, Debug, Args)]
pub(in crate::cli) struct CustodyKeysArgs {
    /// The server's configuration
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) config: PathBuf,
}

#[cfg(test)]
mod tests {
    use clap::builder::TypedValueParser;

    use super::*;

    #[test]
    fn every_kind_and_every_event_can_be_asked_for_and_each_is_listed_once() {
        let listed: Vec<_> = kinds().possible_values().unwrap().map(|value| value.get_name().to_owned()).collect();
        for name in SigningInput::KINDS.iter().chain(Event::NAMES) {
            assert_eq!(listed.iter().filter(|listed| listed == name).count(), 1, "{name}: {listed:?}");
        }
    }
}
