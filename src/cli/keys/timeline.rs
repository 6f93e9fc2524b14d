//! `hallmark keys timeline`: the lives of keys, drawn with characters.
//!
//! ```text
//! CLIENT  ALG    KID       STATE        2026-10-01              now      2026-12-25
//! clinic  RS384  NzbLsXh8  deactivated  =========================~~~|~~~~___________
//! clinic  RS384  b3Jkksdf  active       -------------------------===|===============
//! ```

use std::{
    io::{self, IsTerminal},
    time::{Duration, SystemTime},
};

use hallmark_client::{Key, KeyState};
use serde_json::json;

use super::render;
use crate::cli::output::{Output, table, time};

/// As wide as the terminal is; where there is none, as [`PIPED`] says.
pub(super) fn output(keys: &[Key], now: SystemTime, json: bool) -> Output {
    if json {
        return Output::json(&json!({ "now": time(now), "keys": render::all_as_json(keys) }));
    }
    if keys.is_empty() {
        let stderr = "no keys; make a client's first with `hallmark keys create CLIENT --reason TEXT`\n".to_owned();
        return Output { stdout: String::new(), stderr };
    }
    Output { stdout: draw(keys, now, terminal_width().unwrap_or(PIPED)), stderr: String::new() }
}

/// The whole picture: a row for each key, the axis above, the legend below. A terminal that is too narrow for the names
/// gets bars of [`SHORTEST_BAR`] all the same.
fn draw(keys: &[Key], now: SystemTime, width: usize) -> String {
    let names = names(keys);
    let indent = names.iter().map(|name| name.chars().count()).max().unwrap_or(0) + 2;
    let lives: Vec<_> = keys.iter().map(|key| Life::of(key, now)).collect();
    let scale = Scale::over(&lives, now, width.saturating_sub(indent).max(SHORTEST_BAR));
    let bars = std::iter::once(scale.axis()).chain(lives.iter().map(|life| scale.bar(life)));
    let mut text = String::new();
    for (name, bar) in names.iter().zip(bars) {
        text += format!("{name:indent$}{bar}").trim_end();
        text.push('\n');
    }
    text + "\n" + &legend(&lives, width)
}

/// The head, then what each row begins with, all of one width.
fn names(keys: &[Key]) -> Vec<String> {
    let head = ["CLIENT", "LINE", "KID", "STATE"].map(str::to_owned);
    let several = keys.iter().any(|key| key.hsm != keys[0].hsm);
    let row = |key: &Key| {
        let line = if several { format!("{} on {}", key.alg, key.hsm) } else { key.alg.clone() };
        let kid = key.kid.as_deref().unwrap_or("-").chars().take(SHORT_KID).collect();
        let client = key.client.clone().unwrap_or_else(|| format!("({})", key.purpose));
        [client, line, kid, key.state.to_string()]
    };
    let rows: Vec<_> = std::iter::once(head).chain(keys.iter().map(row)).collect();
    table(&rows).lines().map(str::to_owned).collect()
}

/// What a key was, is, and is planned to be: from each time on, drawn as that character.
struct Life(Vec<(SystemTime, char)>);

impl Life {
    fn of(key: &Key, now: SystemTime) -> Self {
        let past = [
            (key.created_at, RESERVED),
            (key.published_at, character(KeyState::PreActive)),
            (key.activated_at, character(KeyState::Active)),
            (key.deactivated_at, character(KeyState::Deactivated)),
            (key.retired_at, character(KeyState::Retired)),
            (key.compromised_at, character(KeyState::Compromised)),
            (key.destroyed_at, character(KeyState::Destroyed)),
        ];
        let mut moments: Vec<_> = past.into_iter().filter_map(|(at, drawn)| Some((at?, drawn))).collect();
        moments.sort_by_key(|(at, _)| *at);
        let published = key.published_at.is_some() || key.state != KeyState::PreActive;
        let is = if published { character(key.state) } else { RESERVED };
        // After a rollback the last moment on record is not where the state comes from.
        if moments.last().is_none_or(|(_, drawn)| *drawn != is) {
            moments.push((now, is));
        }
        let planned = key.next_step.as_ref().filter(|step| step.blocked.is_none() && step.at > now);
        moments.extend(planned.and_then(|step| Some((step.at, planned_character(&step.what)?))));
        Self(moments)
    }

    fn at(&self, time: SystemTime) -> char {
        self.0.iter().rev().find(|(from, _)| *from <= time).map_or(' ', |(_, drawn)| *drawn)
    }
}

/// Which column is which time.
struct Scale {
    from: SystemTime,
    column: Duration,
    columns: usize,
    now: usize,
}

impl Scale {
    /// From the first moment to the last, with room for what is to come.
    fn over(lives: &[Life], now: SystemTime, columns: usize) -> Self {
        let moments = || lives.iter().flat_map(|life| life.0.iter().map(|(at, _)| *at));
        let from = moments().min().unwrap_or(now).min(now);
        let past = now.duration_since(from).unwrap_or_default().max(SHORTEST_SPAN);
        let last = moments().max().unwrap_or(now).max(now);
        // Room for what the last moment leads to.
        let whole = last.duration_since(from).unwrap_or_default().mul_f64(1.1).max(past.mul_f64(1.25));
        let column = whole / u32::try_from(columns).unwrap_or(u32::MAX).max(1);
        let passed = now.duration_since(from).unwrap_or_default().as_secs_f64() / column.as_secs_f64();
        // In range: `now` is between the two ends.
        let now = (passed as usize).min(columns - 1);
        Self { from, column, columns, now }
    }

    /// What a key is in the middle of each column's time.
    fn bar(&self, life: &Life) -> String {
        let middle = |column: usize| self.from + self.column.mul_f64(column as f64 + 0.5);
        let drawn = |column| if column == self.now { NOW } else { life.at(middle(column)) };
        (0..self.columns).map(drawn).collect()
    }

    /// Where it begins, where it ends, and `now` between them where there is room.
    fn axis(&self) -> String {
        let to = self.from + self.column.mul_f64(self.columns as f64);
        let long = to.duration_since(self.from).unwrap_or_default() >= Duration::from_secs(3 * 86_400);
        let date = |at| if long { time(at)[..10].to_owned() } else { format!("{}Z", &time(at)[..16]) };
        let (begin, end) = (date(self.from), date(to));
        let mut axis = vec![' '; self.columns];
        let mut write = |at: usize, text: &str| {
            let free = |cells: &[char]| cells.iter().all(|cell| *cell == ' ');
            if axis.get(at.saturating_sub(1)..at + text.len() + 1).or(axis.get(at..at + text.len())).is_some_and(free) {
                axis[at..at + text.len()].iter_mut().zip(text.chars()).for_each(|(cell, char)| *cell = char);
            }
        };
        write(0, &begin);
        write(self.columns.saturating_sub(end.len()), &end);
        write(self.now.saturating_sub(1), "now");
        axis.into_iter().collect()
    }
}

/// Of the characters that are there, in lines no longer than `width`.
fn legend(lives: &[Life], width: usize) -> String {
    let meanings = [
        (RESERVED, "not published"),
        (character(KeyState::PreActive), "pre-active"),
        (character(KeyState::Active), "active"),
        (character(KeyState::Deactivated), "deactivated"),
        (character(KeyState::Retired), "retired"),
        (character(KeyState::Compromised), "compromised"),
        (character(KeyState::Destroyed), "destroyed"),
    ];
    let is_drawn = |drawn: char| lives.iter().any(|life| life.0.iter().any(|(_, there)| *there == drawn));
    let drawn = meanings.into_iter().filter(|(drawn, _)| is_drawn(*drawn));
    let mut parts: Vec<_> = drawn.map(|(drawn, meaning)| format!("{drawn} {meaning}")).collect();
    parts.push(format!("{NOW} now, and what is planned after it"));
    parts.push("(times in UTC)".to_owned());
    let mut lines = vec![String::new()];
    for part in parts {
        match lines.last_mut() {
            Some(line) if line.is_empty() => line.push_str(&part),
            Some(line) if line.len() + GAP.len() + part.len() <= width => *line += &format!("{GAP}{part}"),
            _ => lines.push(part),
        }
    }
    lines.join("\n") + "\n"
}

fn character(state: KeyState) -> char {
    match state {
        KeyState::PreActive => '-',
        KeyState::Active => '=',
        KeyState::Deactivated => '~',
        KeyState::Retired => '_',
        KeyState::Compromised => 'x',
        KeyState::Destroyed => '#',
        _ => '?',
    }
}

fn planned_character(what: &str) -> Option<char> {
    let state = match what {
        "publish" => KeyState::PreActive,
        "activate" => KeyState::Active,
        "deactivate" => KeyState::Deactivated,
        "retire" => KeyState::Retired,
        "destroy" => KeyState::Destroyed,
        _ => return None,
    };
    Some(character(state))
}

fn terminal_width() -> Option<usize> {
    let stdout = io::stdout();
    let size = stdout.is_terminal().then(|| rustix::termios::tcgetwinsize(&stdout).ok()).flatten()?;
    Some(usize::from(size.ws_col)).filter(|width| *width > 0)
}

/// Reserved, and not in the JWKS yet.
const RESERVED: char = '.';
const NOW: char = '|';
/// Between the parts of the legend.
const GAP: &str = "   ";
/// What tells keys apart at a glance; `keys list` has the whole.
const SHORT_KID: usize = 8;
/// The width where no terminal says one.
const PIPED: usize = 100;
/// Two dates, and `now` between them.
const SHORTEST_BAR: usize = 30;
/// So that a column is a length of time, even where everything happened this second.
const SHORTEST_SPAN: Duration = Duration::from_secs(3600);

#[cfg(test)]
mod tests;
