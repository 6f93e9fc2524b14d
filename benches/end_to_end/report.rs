//! The tables, in Markdown, with the targets.

use std::{fmt::Write, time::Duration};

use hallmark_core::key::Alg;

use crate::{
    bare::Reached,
    empty::Empty,
    load::{Mode, Served},
    timing::median,
};

/// All that was measured of one algorithm in one mode.
pub(crate) struct Row {
    pub(crate) server: &'static str,
    pub(crate) alg: Alg,
    pub(crate) mode: Mode,
    /// CPU time of one verification, in microseconds.
    pub(crate) verify_cpu: f64,
    /// What the front alone costs.
    pub(crate) empty: Empty,
    pub(crate) pairs: Vec<(Reached, Served)>,
}

/// Resident memory of a server, in bytes.
pub(crate) struct Memory {
    pub(crate) server: &'static str,
    pub(crate) idle: u64,
    pub(crate) after_load: u64,
}

/// Most CPU time that the server may add to a signature beside verification, in microseconds.
const ADDED_UNARY: f64 = 90.0;
const ADDED_STREAMED: f64 = 30.0;
const IDLE_MIB: f64 = 40.0;

impl Row {
    /// The last pair, in words.
    pub(crate) fn last(&self) -> String {
        let Some((bare, served)) = self.pairs.last() else { return String::new() };
        let (bare, served) = (bare.per_second, served.per_second);
        let (server, alg, mode) = (self.server, self.alg, self.mode.as_str());
        format!("{server}, {alg}, {mode}: {served:.0}/s beside {bare:.0}/s ({:.2})", served / bare)
    }

    /// The share of the bare loop's speed to reach at least.
    fn target(&self) -> Option<f64> {
        match (self.alg, self.mode) {
            (_, Mode::Unary1) => None,
            (Alg::RS384, Mode::Unary8) => Some(0.85),
            (Alg::RS384, Mode::Unary64) => Some(0.90),
            (Alg::RS384, Mode::Streamed) => Some(0.95),
            (Alg::ES256, Mode::Streamed) => Some(0.50),
            (Alg::ES256, _) => Some(0.40),
            (Alg::ES384, Mode::Streamed) => Some(0.80),
            (Alg::ES384, _) => Some(0.75),
            _ => None,
        }
    }

    fn median(&self, of: impl Fn(&Reached, &Served) -> f64) -> f64 {
        median(self.pairs.iter().map(|(bare, served)| of(bare, served)))
    }

    fn ratio(&self) -> f64 {
        self.median(|bare, served| served.per_second / bare.per_second)
    }

    fn ceiling(&self) -> f64 {
        self.empty.ceiling(self.median(|bare, _| bare.cpu_micros), self.verify_cpu)
    }

    fn added(&self) -> f64 {
        self.median(|bare, served| served.server_cpu - bare.cpu_micros) - self.verify_cpu
    }

    fn added_target(&self) -> Option<f64> {
        match self.mode {
            // With a single caller each thread sleeps and is woken for each signature.
            Mode::Unary1 => None,
            Mode::Unary8 | Mode::Unary64 => Some(ADDED_UNARY),
            Mode::Streamed => Some(ADDED_STREAMED),
        }
    }
}

/// Signatures per second beside the bare loop, and latencies. Targets are for a real disk's own sync.
pub(crate) fn speed(rows: &[Row], with_targets: bool) -> String {
    let mut out = String::from(
        "| | alg | callers | bare/s | served/s | ratio | target | ceiling | p50 ms | p99 ms |\n\
         |---|---|---|--:|--:|--:|--:|--:|--:|--:|\n",
    );
    for row in rows {
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        let (bare, served) = (row.median(|bare, _| bare.per_second), row.median(|_, served| served.per_second));
        let target = row.target().filter(|_| with_targets);
        let target = target.map(|target| verdict(target, row.ratio() >= target, 2)).unwrap_or_default();
        let (p50, p99) = (row.median(|_, served| ms(served.p50)), row.median(|_, served| ms(served.p99)));
        // Writing to a String does not fail.
        let _ = writeln!(
            out,
            "| {} | {} | {} | {bare:.0} | {served:.0} | {:.2} | {target} | {:.2} | {p50:.2} | {p99:.2} |",
            row.server,
            row.alg,
            row.mode.as_str(),
            row.ratio(),
            row.ceiling()
        );
    }
    out
}

/// CPU time for one signature, in microseconds.
pub(crate) fn cpu(rows: &[Row]) -> String {
    let mut out = String::from(
        "| | alg | callers | server | HSM | verify | pool | transport | audit | rest | added | target | client | empty call |\n\
         |---|---|---|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|--:|\n",
    );
    for row in rows {
        let verify = row.verify_cpu;
        let columns = [
            row.median(|_, served| served.server_cpu),
            row.median(|bare, _| bare.cpu_micros),
            verify,
            row.median(|bare, served| served.workers_cpu - bare.cpu_micros - verify),
            row.median(|_, served| served.transport_cpu),
            row.median(|_, served| served.audit_cpu),
            row.median(|_, s| s.server_cpu - s.workers_cpu - s.transport_cpu - s.audit_cpu),
            row.added(),
        ];
        let columns: String = columns.iter().map(|micros| format!(" {micros:.0} |")).collect();
        let target = row.added_target().map(|target| verdict(target, row.added() <= target, 0)).unwrap_or_default();
        let client = row.median(|_, served| served.client_cpu);
        let (server, alg, mode) = (row.server, row.alg, row.mode.as_str());
        let empty = format!("{:.0} + {:.0}", row.empty.server_cpu, row.empty.client_cpu);
        let _ = writeln!(out, "| {server} | {alg} | {mode} |{columns} {target} | {client:.0} | {empty} |");
    }
    out
}

pub(crate) fn memory(all: &[Memory]) -> String {
    let mut out = String::from("| | idle MiB | target | after load MiB |\n|---|--:|--:|--:|\n");
    for Memory { server, idle, after_load } in all {
        let mib = |bytes: u64| bytes as f64 / f64::from(1 << 20);
        let (idle, after_load) = (mib(*idle), mib(*after_load));
        let target = verdict(IDLE_MIB, idle <= IDLE_MIB, 0);
        let _ = writeln!(out, "| {server} | {idle:.1} | {target} | {after_load:.1} |");
    }
    out
}

fn verdict(target: f64, reached: bool, digits: usize) -> String {
    format!("{target:.digits$} {}", if reached { "reached" } else { "**missed**" })
}
