//! What ten thousand clients cost: `make bench`, or `cargo bench --bench scale -- --help`.
//!
//! One server has 10,000 clients with three keys each, of which the token has the objects of a hundred clients; another one has a
//! single client. They run side by side and are measured in turn, together with a server of static files on the same HTTP
//! stack ([`plain`]) and with the bare token, so that what else the machine does meets all. `docs/performance.md` has the
//! figures.

mod estate;
mod fetch;
mod pairs;
mod plain;
mod report;
mod spread;
mod sweeps;

// Shared with the other benchmark, which uses more of them.
#[path = "../end_to_end/bare.rs"]
mod bare;
#[path = "../end_to_end/cpu.rs"]
mod cpu;
#[allow(dead_code, reason = "the other benchmark uses the rest")]
#[path = "../end_to_end/load.rs"]
mod load;
#[allow(dead_code, reason = "the other benchmark uses the rest")]
#[path = "../end_to_end/sandbox.rs"]
mod sandbox;
#[path = "../end_to_end/timing.rs"]
mod timing;

use std::{
    error::Error,
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant},
};

use clap::Parser;

use hallmark_core::key::Alg;
use hallmark_testkit::postgres::Postgres;

use self::{
    bare::{BareArgs, Task},
    estate::{Estate, Running},
    fetch::Fetchers,
    load::{Callers, Mode},
    pairs::{Pair, PairsArgs},
    plain::{Plain, PlainArgs},
    report::{Fetched, Figures, Signed},
    timing::Window,
};

/// Measures a server with ten thousand clients beside one with a single client
#[derive(Debug, Parser)]
struct Args {
    /// One short round of each: to see that it works, not to read figures from
    #[arg(long)]
    quick: bool,
    /// How many rounds
    #[arg(long, value_name = "N")]
    rounds: Option<usize>,
    /// How many clients; a hundred of them can sign
    #[arg(long, value_name = "N", default_value_t = 10_000)]
    clients: usize,
    /// One client in so many was rotated lately, so that each sweep writes down for how long its old key was kept; with a
    /// rotation every 90 days and a day of keeping it is one in 90
    #[arg(long, value_name = "N", default_value_t = 10)]
    counted: usize,
    /// Keys in a PostgreSQL of the benchmark's own, instead of SQLite, and how long a change takes to a second replica
    #[arg(long)]
    postgres: bool,
    /// Only start, sweep and memory
    #[arg(long)]
    no_load: bool,
    /// The server
    #[arg(long, value_name = "PATH", default_value = env!("CARGO_BIN_EXE_hallmark"))]
    server: PathBuf,
    /// What `cargo bench` passes to every benchmark
    #[arg(long, hide = true)]
    bench: bool,
    #[command(flatten)]
    pairs: PairsArgs,
    #[command(flatten)]
    plain: PlainArgs,
    #[command(flatten)]
    bare: BareArgs,
}

/// Clients whose objects are on the token.
const SIGNING: usize = 100;

fn main() -> ExitCode {
    let args = Args::parse();
    let outcome = match &args {
        args if args.pairs.is_child() => args.pairs.serve(),
        args if args.plain.is_child() => args.plain.serve(),
        args if args.bare.is_child() => args.bare.serve(),
        args => args.run(),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error}");
            ExitCode::FAILURE
        }
    }
}

impl Args {
    fn run(&self) -> Result<(), Box<dyn Error>> {
        let began = Instant::now();
        let sandbox = sandbox::Sandbox::new("")?;
        let pairs = Pair::make(&sandbox, SIGNING.min(self.clients) * estate::KEYS)?;
        eprintln!("==> {} key pairs on the token", pairs.len());
        let postgres = if self.postgres { Some(Postgres::own().ok_or("no PostgreSQL")?) } else { None };
        let store = || postgres.as_ref().map(Postgres::database);
        let many = Estate::new(sandbox.token(), store(), self.clients, &pairs, self.counted)?;
        let one = Estate::new(sandbox.token(), store(), 1, &pairs[..estate::KEYS], 1)?;
        let mut figures = Figures::default();
        let many = self.start(&many, &mut figures.starts)?;
        let one = self.start(&one, &mut figures.starts_of_one)?;
        (figures.idle, figures.idle_of_one) = (many.resident()?, one.resident()?);
        figures.absent = many.absent_keys()?;
        if !self.no_load {
            self.fetch(&many, &one, &mut figures)?;
            self.sign(&many, &one, &pairs, &mut figures)?;
        }
        figures.sweeps = many.sweeps(if self.quick { 1 } else { 5 })?;
        (figures.after_load, figures.after_load_of_one) = (many.resident()?, one.resident()?);
        if self.postgres {
            figures.spread = self.spread(&many)?;
        }
        println!("\n{}", report::table(&figures, self.clients));
        many.stop()?;
        one.stop()?;
        eprintln!("==> {} s in all", began.elapsed().as_secs());
        Ok(())
    }

    /// Starts it several times; the last one runs on.
    fn start<'a>(&self, estate: &'a Estate, starts: &mut Vec<estate::Start>) -> Result<Running<'a>, Box<dyn Error>> {
        // Makes the custody key, and announces the policies for the first time.
        estate.start(&self.server)?.0.stop()?;
        loop {
            let (running, start) = estate.start(&self.server)?;
            eprintln!("==> {} clients: {start}", estate.clients.len());
            starts.push(start);
            if starts.len() >= if self.quick { 1 } else { 3 } {
                return Ok(running);
            }
            running.stop()?;
        }
    }

    fn fetch(&self, many: &Running<'_>, one: &Running<'_>, figures: &mut Figures) -> Result<(), Box<dyn Error>> {
        let plain = Plain::start(&many.answers()?)?;
        let fetchers = Fetchers::new()?;
        let (all, single) = (many.paths(), one.paths());
        let of = |running: &Running<'_>| (running.server.pid(), running.server.jwks());
        let files = (plain.pid(), plain.addr());
        for round in 1..=self.rounds() {
            let measure = |(pid, from), paths: &[String]| fetchers.measure(pid, from, paths, self.window());
            let fetched = Fetched {
                many: measure(of(many), &all)?,
                files: measure(files, &all)?,
                one: measure(of(one), &single)?,
                file: measure(files, &single)?,
            };
            eprintln!("==> JWKS, round {round}: {fetched}");
            figures.fetched.push(fetched);
        }
        Ok(())
    }

    fn sign(
        &self,
        many: &Running<'_>,
        one: &Running<'_>,
        pairs: &[Pair],
        figures: &mut Figures,
    ) -> Result<(), Box<dyn Error>> {
        let callers = (Callers::connect(&many.server)?, Callers::connect(&one.server)?);
        let assertion = callers.1.sign_once(&one.signing()[0])?;
        let message_len = assertion.rfind('.').ok_or("not a JWS")?;
        let cka_ids: Vec<_> = pairs.iter().step_by(estate::KEYS).map(|pair| pair.cka_id.clone()).collect();
        let in_turn = Task { alg: Alg::ES256, cka_ids, message_len };
        let alone = Task { cka_ids: in_turn.cka_ids[..1].to_vec(), ..in_turn.clone() };
        let mut bare = many.bare()?;
        for round in 1..=self.rounds() {
            let sign = |callers: &Callers, running: &Running<'_>, clients: &[String]| {
                let served = callers.measure_clients(&running.server, clients, Mode::Unary64, self.window());
                served.map_err(|error| format!("{error}; the server said:\n{}", running.log()))
            };
            let signed = Signed {
                of_many: sign(&callers.0, many, one.signing())?,
                of_one: sign(&callers.1, one, one.signing())?,
                in_turn: sign(&callers.0, many, many.signing())?,
                bare_in_turn: bare.measure(&in_turn, self.window())?,
                bare_alone: bare.measure(&alone, self.window())?,
            };
            eprintln!("==> signatures, round {round}: {signed}");
            figures.signed.push(signed);
        }
        Ok(())
    }

    /// What a second replica sees of the changes at the first.
    fn spread(&self, many: &Running<'_>) -> Result<Vec<Duration>, Box<dyn Error>> {
        let replica = many.estate.replica()?;
        let (replica, start) = replica.start(&self.server)?;
        eprintln!("==> another replica: {start}");
        let spread = spread::measure(many, &replica, if self.quick { 5 } else { 50 })?;
        replica.stop()?;
        Ok(spread)
    }

    fn rounds(&self) -> usize {
        self.rounds.unwrap_or(if self.quick { 1 } else { 5 }).max(1)
    }

    fn window(&self) -> Window {
        let ms = Duration::from_millis;
        if self.quick {
            Window { warm_up: ms(200), length: ms(600) }
        } else {
            Window { warm_up: ms(500), length: ms(2000) }
        }
    }
}

/// This program, to be started as one of its children.
fn this_program() -> std::io::Result<std::process::Command> {
    Ok(std::process::Command::new(std::env::current_exe()?))
}

/// Copies a folder with all that is in it.
fn copy(from: &Path, to: &Path) -> std::io::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let to = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &to)?;
        } else {
            std::fs::copy(entry.path(), to)?;
        }
    }
    Ok(())
}
