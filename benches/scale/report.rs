//! The table, in Markdown, with the targets.

use std::{fmt::Write, time::Duration};

use crate::{estate::Start, load::Served, sweeps::Sweeps, timing::median};

/// All that was measured.
#[derive(Default)]
pub(crate) struct Figures {
    pub(crate) starts: Vec<Start>,
    pub(crate) starts_of_one: Vec<Start>,
    /// Keys that are said to have no objects.
    pub(crate) absent: f64,
    /// Resident, in bytes.
    pub(crate) idle: u64,
    pub(crate) idle_of_one: u64,
    pub(crate) after_load: u64,
    pub(crate) after_load_of_one: u64,
    pub(crate) sweeps: Sweeps,
    /// Many clients, one client, the stack alone.
    pub(crate) fetched: Vec<[Served; 3]>,
    /// Many clients, one client.
    pub(crate) signed: Vec<[Served; 2]>,
}

const START: f64 = 5000.0;
const SWEEP: f64 = 1000.0;
const MIB: f64 = 300.0;
/// No slower than with one client: what the same server differs by from round to round is left to chance.
const NO_SLOWER: f64 = 0.95;
const OF_PLAIN: f64 = 0.9;

pub(crate) fn table(figures: &Figures, clients: usize) -> String {
    let mut table = Table(format!("| | {clients} clients | 1 client | static | target |\n|---|--:|--:|--:|---|\n"));
    let of = |starts: &[Start], time: fn(&Start) -> Duration| median(starts.iter().map(|start| ms(time(start))));
    let (jwks, signature) = (|start: &Start| start.jwks, |start: &Start| start.signature);
    let (many, one) = (&figures.starts, &figures.starts_of_one);
    table.row("start to the first key set, ms", &[of(many, jwks), of(one, jwks)], 0, below(of(many, jwks), START));
    let verdict = below(of(many, signature), START);
    table.row("start to the first assertion, ms", &[of(many, signature), of(one, signature)], 0, verdict);
    let sweeps = &figures.sweeps;
    table.row("a sweep, ms (median)", &[sweeps.median() * 1e3], 0, below(sweeps.median() * 1e3, SWEEP));
    table.row("a sweep, ms (longest, or mean since the start)", &[sweeps.longest() * 1e3], 0, String::new());
    let (idle, loaded) = (mib(figures.idle), mib(figures.after_load));
    table.row("memory after the start, MiB", &[idle, mib(figures.idle_of_one)], 0, below(idle, MIB));
    table.row("memory after the load, MiB", &[loaded, mib(figures.after_load_of_one)], 0, below(loaded, MIB));
    table.row("keys without objects", &[figures.absent], 0, String::new());
    served(&mut table, "key sets", &figures.fetched);
    served(&mut table, "assertions", &figures.signed);
    table.0
}

/// Rates and what a request takes, with the ratios to the first column.
fn served<const N: usize>(table: &mut Table, what: &str, rounds: &[[Served; N]]) {
    if rounds.is_empty() {
        return;
    }
    let columns = |of: fn(&Served) -> f64| -> Vec<f64> {
        (0..N).map(|n| median(rounds.iter().map(|round| of(&round[n])))).collect()
    };
    table.row(&format!("{what}/s"), &columns(|served| served.per_second), 0, String::new());
    table.row(&format!("{what}: p99, ms"), &columns(|served| ms(served.p99)), 2, String::new());
    table.row(&format!("{what}: the server's CPU, µs each"), &columns(|served| served.server_cpu), 1, String::new());
    let ratio = |n: usize| median(rounds.iter().map(|round| round[0].per_second / round[n].per_second));
    for (n, (beside, least)) in [("one client", NO_SLOWER), ("static", OF_PLAIN)].into_iter().enumerate().take(N - 1) {
        let ratio = ratio(n + 1);
        let verdict = if ratio >= least { "reached" } else { "**missed**" };
        table.row(&format!("{what}/s: ratio to {beside}"), &[ratio], 2, format!("{least} {verdict}"));
    }
}

struct Table(String);

impl Table {
    fn row(&mut self, what: &str, columns: &[f64], digits: usize, verdict: String) {
        let column = |n: usize| columns.get(n).map(|value| format!("{value:.digits$}")).unwrap_or_default();
        // Writing to a String does not fail.
        let _ = writeln!(self.0, "| {what} | {} | {} | {} | {verdict} |", column(0), column(1), column(2));
    }
}

fn below(value: f64, most: f64) -> String {
    format!("{most:.0} {}", if value < most { "reached" } else { "**missed**" })
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
