//! The table of recovery times.

use std::{collections::BTreeMap, env, fs, time::Duration};

use hallmark_testkit::fault_module::Function;

/// Compares the block between the markers of the page with `block`; with `HALLMARK_RENEW` puts it there.
pub(super) fn renew(block: &str) {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/reliability.md");
    let page = fs::read_to_string(path).unwrap();
    let (before, rest) = page.split_once("<!-- faults -->\n").unwrap();
    let (found, after) = rest.split_once("<!-- /faults -->").unwrap();
    if env::var_os("HALLMARK_RENEW").is_some() {
        fs::write(path, format!("{before}<!-- faults -->\n{block}<!-- /faults -->{after}")).unwrap();
    } else {
        assert_eq!(found, block, "renew it with HALLMARK_RENEW=1");
    }
}

/// Times from the end of a fault to signatures for all clients.
#[derive(Default)]
pub(super) struct Report(Vec<Round>);

struct Round {
    function: Function,
    class: &'static str,
    code: String,
    recovery: Duration,
}

impl Report {
    pub(super) fn add(&mut self, function: Function, class: &'static str, code: &str, recovery: Duration) {
        self.0.push(Round { function, class, code: code.to_owned(), recovery });
    }

    /// Prints the tables: by function and by class.
    pub(super) fn finish(mut self) {
        self.table("function", |round| format!("`{}`", round.function.name()));
        self.table("class", |round| round.class.to_owned());
        self.0.sort_by_key(|round| round.recovery);
        for Round { function, code, recovery, .. } in self.0.iter().rev().take(5) {
            eprintln!("among the slowest: {code} at {}, {} ms", function.name(), recovery.as_millis());
        }
    }

    fn table(&self, by: &str, row: impl Fn(&Round) -> String) {
        let mut rows: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for round in &self.0 {
            rows.entry(row(round)).or_default().push(round.recovery.as_millis());
        }
        eprintln!("| {by} | faults | min, ms | median | max |\n|---|---|---|---|---|");
        for (name, mut times) in rows {
            times.sort_unstable();
            let (count, last) = (times.len(), times.len() - 1);
            eprintln!("| {name} | {count} | {} | {} | {} |", times[0], times[count / 2], times[last]);
        }
    }
}
