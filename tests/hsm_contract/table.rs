//! `docs/hsm-support.md`: its table is what the tests found, and they hold it against what they find.

use std::{
    fs::{self, File},
    io::{Read, Write},
};

use hallmark_testkit::hsm_contract::Report;

const PAGE: &str = "docs/hsm-support.md";

/// What was found on `token`, with how it comes back from a loss (and the test that shows that).
pub(crate) fn compare(token: &str, report: &Report, recovery: &str) {
    let Report { algs, rsa, sessions, fallbacks, gaps, .. } = report;
    let cells = [algs, rsa, sessions, fallbacks, recovery, gaps];
    compare_row(token, &cells, report.speed);
}

/// One row, cell by cell: stands as it is in the page, save for the speed, of which the page has a bound.
pub(crate) fn compare_row(token: &str, cells: &[&str], speed: Option<f64>) {
    let start = format!("| {token} | {} | ", cells.join(" | "));
    if std::env::var_os("HALLMARK_RENEW").is_some() {
        return renew(token, &start, speed);
    }
    let page = fs::read_to_string(PAGE).unwrap();
    let row = page.lines().find(|line| line.starts_with(&format!("| {token} |"))).unwrap_or_default();
    let hint = "hint: HALLMARK_RENEW=1 cargo test --test e2e keeps_the_contract other_tokens";
    let bound =
        row.strip_prefix(&start).unwrap_or_else(|| panic!("{PAGE} has\n{row}\nand it was found\n{start}…\n{hint}"));
    let bound = bound.trim_end_matches(" |").strip_prefix("at least ").map(|bound| bound.parse::<f64>().unwrap());
    assert_eq!(bound.is_some(), speed.is_some(), "{hint}");
    if let Some((bound, speed)) = bound.zip(speed) {
        assert!(speed >= bound, "{token}: {speed:.2} of the bare module's speed, and {PAGE} says at least {bound}");
    }
}

/// Tests of several processes may be at it.
fn renew(token: &str, start: &str, speed: Option<f64>) {
    let mut file = File::options().read(true).write(true).open(PAGE).unwrap();
    file.lock().unwrap();
    let mut page = String::new();
    file.read_to_string(&mut page).unwrap();
    // With room for a busy machine.
    let bound = speed.map(|speed| format!("at least {:.1}", (speed.min(1.0) * 6.0).floor() / 10.0));
    let row = format!("{start}{} |", bound.as_deref().unwrap_or("not compared"));
    let is_row = |line: &&str| line.starts_with(&format!("| {token} |"));
    let rows = page.lines().map(|line| if is_row(&line) { row.as_str() } else { line });
    assert!(page.lines().any(|line| is_row(&line)), "{PAGE} has no row `{token}`; put `| {token} |` there");
    let renewed = rows.collect::<Vec<_>>().join("\n") + "\n";
    fs::write(PAGE, renewed).unwrap();
    file.flush().unwrap();
}
