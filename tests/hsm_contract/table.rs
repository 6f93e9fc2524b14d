//! `docs/hsm-support.md`: its table is what the tests found, cell by cell, and they hold it against what they find.

use std::{
    fs::{self, File},
    io::Read,
};

use hallmark_testkit::hsm_contract::Report;

const PAGE: &str = "docs/hsm-support.md";

/// What a cell is about, each found by one test a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Column {
    Algorithms,
    RsaBits,
    Sessions,
    Fallbacks,
    MainJob,
    Recovery,
    NotTried,
    Speed,
}

impl Column {
    fn name(self) -> &'static str {
        match self {
            Self::Algorithms => "algorithms",
            Self::RsaBits => "RSA bits",
            Self::Sessions => "sessions",
            Self::Fallbacks => "fallbacks",
            Self::MainJob => "main job",
            Self::Recovery => "recovery",
            Self::NotTried => "not tried",
            Self::Speed => "speed",
        }
    }
}

/// What the contract suite found on `token`.
pub(crate) fn compare(token: &str, report: &Report) {
    let Report { algs, rsa, sessions, fallbacks, gaps, speed } = report;
    compare_cell(token, Column::Algorithms, algs);
    compare_cell(token, Column::RsaBits, rsa);
    compare_cell(token, Column::Sessions, sessions);
    compare_cell(token, Column::Fallbacks, fallbacks);
    compare_cell(token, Column::NotTried, gaps);
    compare_speed(token, *speed);
}

/// One cell: stands as it is in the page.
pub(crate) fn compare_cell(token: &str, column: Column, found: &str) {
    if is_renewed() {
        return renew(token, column, found);
    }
    let written = cell(&fs::read_to_string(PAGE).unwrap(), token, column);
    assert_eq!(written, found, "{PAGE}, `{token}`, {column:?}: written, and found\n{HINT}");
}

/// The page has a class of speed, which is stable from run to run; `None` where there was nothing to compare with.
pub(crate) fn compare_speed(token: &str, speed: Option<f64>) {
    let Some(speed) = speed else { return compare_cell(token, Column::Speed, "not compared") };
    if is_renewed() {
        // With room for a busy machine.
        let class = CLASSES.into_iter().find(|class| speed * 0.8 > *class);
        return renew(token, Column::Speed, &class.map_or("below 0.1".into(), |class| format!("above {class}")));
    }
    let written = cell(&fs::read_to_string(PAGE).unwrap(), token, Column::Speed);
    let class = written.strip_prefix("above ").map_or(0.0, |class| class.parse::<f64>().unwrap());
    assert!(speed > class, "{token}: {speed:.2} of the bare module's speed, and {PAGE} says {written}\n{HINT}");
}

fn is_renewed() -> bool {
    std::env::var_os("HALLMARK_RENEW").is_some()
}

fn cell(page: &str, token: &str, column: Column) -> String {
    let (line, number) = place(page, token, column);
    cells(page.lines().nth(line).unwrap())[number].to_owned()
}

/// The number of the token's line, and of the column's cell in it.
fn place(page: &str, token: &str, column: Column) -> (usize, usize) {
    let with = |first: &str| page.lines().position(|line| line.starts_with(&format!("| {first} |")));
    let head = with("token").unwrap_or_else(|| panic!("{PAGE} has no table"));
    let line = with(token).unwrap_or_else(|| panic!("{PAGE} has no row `{token}`; put one there"));
    let number = cells(page.lines().nth(head).unwrap()).iter().position(|name| *name == column.name());
    (line, number.unwrap_or_else(|| panic!("{PAGE} has no column `{}`", column.name())))
}

fn cells(line: &str) -> Vec<&str> {
    line.trim_matches('|').split('|').map(str::trim).collect()
}

/// Tests of several processes may be at it.
fn renew(token: &str, column: Column, found: &str) {
    let mut file = File::options().read(true).write(true).open(PAGE).unwrap();
    file.lock().unwrap();
    let mut page = String::new();
    file.read_to_string(&mut page).unwrap();
    let (line, number) = place(&page, token, column);
    let mut lines: Vec<_> = page.lines().map(str::to_owned).collect();
    let mut row = cells(&lines[line]);
    row[number] = found;
    lines[line] = format!("| {} |", row.join(" | "));
    fs::write(PAGE, lines.join("\n") + "\n").unwrap();
}

/// Shares of the bare module's speed.
const CLASSES: [f64; 3] = [0.5, 0.25, 0.1];
const HINT: &str = "hint: what is found anew is written by: HALLMARK_RENEW=1 cargo test --test e2e keeps_the_contract \
    (and other_tokens, outage, yubikey, real_verifiers)";
