//! The table of recovery times.

use std::{collections::BTreeMap, time::Duration};

use hallmark_testkit::fault_module::Function;

/// Times from the end of a fault to signatures for all clients, by function and class.
#[derive(Default)]
pub(super) struct Report {
    rows: BTreeMap<(Function, &'static str), Vec<(Duration, String)>>,
}

impl Report {
    pub(super) fn add(&mut self, function: Function, class: &'static str, code: &str, recovery: Duration) {
        self.rows.entry((function, class)).or_default().push((recovery, code.to_owned()));
    }

    /// Prints the table.
    pub(super) fn finish(mut self) {
        eprintln!("| function | class | faults | min | median | max |\n|---|---|---|---|---|---|");
        let mut all = Vec::new();
        for ((function, class), times) in &mut self.rows {
            times.sort();
            let ms = |at: usize| times[at].0.as_millis();
            let (name, count, last) = (function.name(), times.len(), times.len() - 1);
            eprintln!("| `{name}` | {class} | {count} | {} | {} | {} |", ms(0), ms(count / 2), ms(last));
            all.extend(times.iter().map(|(time, code)| (*time, function.name(), code.clone())));
        }
        all.sort();
        let slowest: Vec<_> = all.iter().rev().take(5).collect();
        eprintln!("{} faults; the slowest: {slowest:?}", all.len());
    }
}
