//! The table, in Markdown, with the targets.

use std::{
    fmt::{self, Display, Write},
    time::Duration,
};

use crate::{bare::Reached, estate::Start, load::Served, sweeps::Sweeps, timing::median};

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
    /// From the answer to an operator until another replica serves the change; none on SQLite.
    pub(crate) spread: Vec<Duration>,
    pub(crate) fetched: Vec<Fetched>,
    pub(crate) signed: Vec<Signed>,
}

/// One round of key sets.
pub(crate) struct Fetched {
    /// Of the server with many clients, and of a server of as many files.
    pub(crate) many: Served,
    pub(crate) files: Served,
    /// Of the server with one client, and of the server of files, asked for one alone.
    pub(crate) one: Served,
    pub(crate) file: Served,
}

/// One round of assertions.
pub(crate) struct Signed {
    /// For the same client, by the server with many and by the server with one.
    pub(crate) of_many: Served,
    pub(crate) of_one: Served,
    /// For a hundred clients in turn, by the server with many.
    pub(crate) in_turn: Served,
    /// By the token alone, with the keys of the hundred in turn, and with one.
    pub(crate) bare_in_turn: Reached,
    pub(crate) bare_alone: Reached,
}

const START: f64 = 5000.0;
const SWEEP: f64 = 1000.0;
const MIB: f64 = 300.0;
const SPREAD: f64 = 1000.0;
/// No slower than with one client: what the same server differs by from round to round is left to chance.
const NO_SLOWER: f64 = 0.95;
const OF_FILES: f64 = 0.9;

pub(crate) fn table(figures: &Figures, clients: usize) -> String {
    let header = format!("| | {clients} clients | 1 client | {clients} files | 1 file | target |\n");
    let mut table = Table(header + "|---|--:|--:|--:|--:|---|\n");
    let of = |starts: &[Start], time: fn(&Start) -> Duration| median(starts.iter().map(|start| ms(time(start))));
    let (jwks, signature) = (|start: &Start| start.jwks, |start: &Start| start.signature);
    let (many, one) = (&figures.starts, &figures.starts_of_one);
    table.row("start to the first key set, ms", &[of(many, jwks), of(one, jwks)], 0, below(of(many, jwks), START));
    let verdict = below(of(many, signature), START);
    table.row("start to the first assertion, ms", &[of(many, signature), of(one, signature)], 0, verdict);
    let sweeps = &figures.sweeps;
    table.row("a sweep, ms (median)", &[sweeps.median() * 1e3], 0, below(sweeps.median() * 1e3, SWEEP));
    table.row("a sweep, ms (longest, or mean since the start)", &[sweeps.longest() * 1e3], 0, String::new());
    if !figures.spread.is_empty() {
        let times = || figures.spread.iter().copied().map(ms);
        let longest = times().fold(0.0, f64::max);
        table.row("a change until another replica serves it, ms (median)", &[median(times())], 0, String::new());
        table.row("a change until another replica serves it, ms (longest)", &[longest], 0, below(longest, SPREAD));
    }
    let (idle, loaded) = (mib(figures.idle), mib(figures.after_load));
    table.row("memory after the start, MiB", &[idle, mib(figures.idle_of_one)], 0, below(idle, MIB));
    table.row("memory after the load, MiB", &[loaded, mib(figures.after_load_of_one)], 0, below(loaded, MIB));
    table.row("keys without objects", &[figures.absent], 0, String::new());
    if !figures.fetched.is_empty() {
        fetched(&mut table, &figures.fetched);
        signed(&mut table, &figures.signed);
    }
    table.0
}

fn fetched(table: &mut Table, rounds: &[Fetched]) {
    let each: [fn(&Fetched) -> &Served; 4] =
        [|round| &round.many, |round| &round.one, |round| &round.files, |round| &round.file];
    served(table, "key sets", rounds, &each);
    let ratio = |of: fn(&Fetched) -> f64| median(rounds.iter().map(of));
    let to_files = [
        ratio(|round| round.many.per_second / round.files.per_second),
        ratio(|round| round.one.per_second / round.file.per_second),
    ];
    table.row("key sets/s: ratio to files", &to_files, 2, least(to_files[0].min(to_files[1]), OF_FILES));
    let to_one = [
        ratio(|round| round.many.per_second / round.one.per_second),
        1.0,
        ratio(|round| round.files.per_second / round.file.per_second),
        1.0,
    ];
    table.row("key sets/s: ratio to one", &to_one, 2, least(to_one[0], NO_SLOWER));
}

fn signed(table: &mut Table, rounds: &[Signed]) {
    served(table, "assertions for one client", rounds, &[|round| &round.of_many, |round| &round.of_one]);
    let ratio = |of: fn(&Signed) -> f64| median(rounds.iter().map(of));
    let same = ratio(|round| round.of_many.per_second / round.of_one.per_second);
    table.row("assertions for one client/s: ratio", &[same], 2, least(same, NO_SLOWER));
    served(table, "assertions for 100 clients in turn", rounds, &[|round| &round.in_turn]);
    let in_turn = ratio(|round| round.in_turn.per_second / round.of_one.per_second);
    table.row("assertions for 100 clients in turn/s: ratio to one client", &[in_turn], 2, String::new());
    let bare = [ratio(|round| round.bare_in_turn.per_second), ratio(|round| round.bare_alone.per_second)];
    table.row("signatures/s of the bare token: 100 keys in turn, and one", &bare, 0, String::new());
    let extra = [
        ratio(|round| round.in_turn.server_cpu - round.of_one.server_cpu),
        ratio(|round| round.bare_in_turn.cpu_micros - round.bare_alone.cpu_micros),
    ];
    table.row(
        "what 100 cost more than one, µs of CPU each: the server, and of that the token",
        &extra,
        1,
        String::new(),
    );
}

/// Rates and what a request takes, a column each.
fn served<T>(table: &mut Table, what: &str, rounds: &[T], each: &[fn(&T) -> &Served]) {
    let columns = |of: fn(&Served) -> f64| -> Vec<f64> {
        each.iter().map(|column| median(rounds.iter().map(|round| of(column(round))))).collect()
    };
    table.row(&format!("{what}/s"), &columns(|served| served.per_second), 0, String::new());
    table.row(&format!("{what}: p99, ms"), &columns(|served| ms(served.p99)), 2, String::new());
    table.row(&format!("{what}: the server's CPU, µs each"), &columns(|served| served.server_cpu), 1, String::new());
}

impl Display for Fetched {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [many, files, one, file] = [&self.many, &self.files, &self.one, &self.file].map(|served| served.per_second);
        write!(f, "{many:.0}/s beside {files:.0}/s of files; of one {one:.0}/s beside {file:.0}/s")
    }
}

impl Display for Signed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [many, one, in_turn] = [&self.of_many, &self.of_one, &self.in_turn].map(|served| served.per_second);
        write!(f, "{many:.0}/s beside {one:.0}/s; in turn {in_turn:.0}/s, ")?;
        write!(f, "the token {:.0}/s and {:.0}/s", self.bare_in_turn.per_second, self.bare_alone.per_second)
    }
}

struct Table(String);

impl Table {
    fn row(&mut self, what: &str, columns: &[f64], digits: usize, verdict: String) {
        let column = |n: usize| columns.get(n).map(|value| format!("{value:.digits$}")).unwrap_or_default();
        // Writing to a String does not fail.
        let [many, one, files, file] = [0, 1, 2, 3].map(column);
        let _ = writeln!(self.0, "| {what} | {many} | {one} | {files} | {file} | {verdict} |");
    }
}

fn below(value: f64, most: f64) -> String {
    format!("{most:.0} {}", if value < most { "reached" } else { "**missed**" })
}

fn least(ratio: f64, least: f64) -> String {
    format!("{least} {}", if ratio >= least { "reached" } else { "**missed**" })
}

fn ms(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
