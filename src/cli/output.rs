//! What commands print: data on standard output, words about it on standard error.

use std::{
    io::{self, Write},
    time::{Duration, SystemTime},
};

use hallmark_core::{diagnosis, inspect};
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
        Self { stdout: inert(&value.to_string()) + "\n", stderr: String::new() }
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

/// What a stranger wrote, for a terminal: on one line, not endless, and with nothing that steers the terminal.
pub(super) fn printable(text: &str) -> String {
    diagnosis::printable(text, 2000)
}

/// The same for a text of several lines, of any length.
pub(super) fn printable_lines(text: &str) -> String {
    text.lines().map(|line| inspect::printable(line) + "\n").collect()
}

/// The same for JSON, which stays the same JSON: what would steer a terminal can be in its strings alone, where it can be
/// written as an escape.
pub(super) fn inert(json: &str) -> String {
    let mut text = String::with_capacity(json.len());
    for char in json.chars() {
        let is_plain = char == '\n' || matches!(char, ' '..='~');
        if is_plain || inspect::printable(char.encode_utf8(&mut [0; 4])).starts_with(char) {
            text.push(char);
        } else {
            text.extend(char.encode_utf16(&mut [0; 2]).iter().map(|unit| format!("\\u{unit:04x}")));
        }
    }
    text
}

/// RFC 3339 in UTC, to the second.
pub(super) fn time(time: SystemTime) -> String {
    humantime::format_rfc3339_seconds(time).to_string()
}

/// The time that it is, for whoever sits at the terminal. No rule goes by it.
#[expect(clippy::disallowed_methods, reason = "a command shows times as seen from now, and decides nothing by them")]
pub(super) fn now() -> SystemTime {
    SystemTime::now()
}

/// How far `at` is from `now`, in one unit: `in 12 days`, `2 h ago`, `now`.
pub(super) fn distance(now: SystemTime, at: SystemTime) -> String {
    match at.duration_since(now) {
        Ok(ahead) => length(ahead).map_or("now".to_owned(), |length| format!("in {length}")),
        Err(behind) => length(behind.duration()).map_or("now".to_owned(), |length| format!("{length} ago")),
    }
}

/// Rounded down; `None` below a second.
fn length(duration: Duration) -> Option<String> {
    let secs = duration.as_secs();
    let (count, unit) = match secs {
        0 => return None,
        1..120 => (secs, "s"),
        120..7_200 => (secs / 60, "min"),
        7_200..172_800 => (secs / 3600, "h"),
        _ => (secs / 86_400, "days"),
    };
    Some(format!("{count} {unit}"))
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

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn json_stays_the_same_and_steers_no_terminal() {
        let value = json!({ "a\u{9b}": "\u{1b}[2J\u{202e}\u{e0041}\u{7f} \\ \" Süd", "b": ["\n"] });
        for text in [Output::json(&value).stdout, inert(&format!("{value:#}"))] {
            let steers = |char: char| char != '\n' && (char.is_control() || "\u{202e}\u{e0041}".contains(char));
            assert!(!text.contains(steers) && text.contains("Süd"), "{text:?}");
            assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), value);
        }
    }

    #[test]
    fn lines_stay_lines() {
        assert_eq!(printable_lines("a\u{1b}[2J\nb\u{202e}\n"), "a\\u{1b}[2J\nb\\u{202e}\n");
        assert_eq!(printable("a\n\u{9b}2J"), "a\\n\\u{9b}2J");
    }

    #[test]
    fn distances_are_told_in_one_unit() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let ahead = |secs| distance(now, now + Duration::from_secs(secs));
        assert_eq!([0, 1, 119, 120, 7_199].map(ahead), ["now", "in 1 s", "in 119 s", "in 2 min", "in 119 min"]);
        assert_eq!([7_200, 172_799, 172_800].map(ahead), ["in 2 h", "in 47 h", "in 2 days"]);
        assert_eq!(distance(now, now - Duration::from_secs(86_400 * 3)), "3 days ago");
        assert_eq!(distance(now, now - Duration::from_millis(1)), "now");
    }
}
