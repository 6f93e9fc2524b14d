//! What commands print: data on standard output, words about it on standard error.

use std::{
    io::{self, Write},
    time::SystemTime,
};

use serde_json::Value;

use super::Failure;

/// What a command has to say when it succeeds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Output {
    pub(super) stdout: String,
    pub(super) stderr: String,
}

impl Output {
    /// One JSON document on a line of its own.
    pub(super) fn json(value: &Value) -> Self {
        Self { stdout: format!("{value}\n"), stderr: String::new() }
    }

    /// Prints it; gives exit code 0. A reader that has seen enough is no error.
    pub(super) fn print(&self) -> Result<u8, Failure> {
        let written = (|| {
            io::stderr().write_all(self.stderr.as_bytes())?;
            let mut stdout = io::stdout().lock();
            stdout.write_all(self.stdout.as_bytes())?;
            stdout.flush()
        })();
        match written {
            Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
                Err(Failure::new("can't print").caused_by(&error))
            }
            _ => Ok(0),
        }
    }
}

/// RFC 3339 in UTC, to the second.
pub(super) fn time(time: SystemTime) -> String {
    humantime::format_rfc3339_seconds(time).to_string()
}

/// Rows in columns as wide as their widest cell; the first row is the head.
pub(super) fn table<const N: usize>(rows: &[[String; N]]) -> String {
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; N] = std::array::from_fn(width);
    let line = |row: &[String; N]| {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        format!("{}\n", cells.collect::<Vec<_>>().join("  ").trim_end())
    };
    rows.iter().map(line).collect()
}
