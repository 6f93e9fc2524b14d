//! How fast the server signs, beside the bare token: `make bench`, or `cargo bench -- --help`.
//!
//! Each measurement is one of a pair: first the bare loop ([`bare`]), then the server under load ([`load`]), on the
//! same token, with the same key, as many threads, and messages of the same length. Pairs follow one another, so that
//! what else the machine does meets both. `docs/performance.md` has the figures and where the time goes.

mod bare;
mod cpu;
mod empty;
#[allow(dead_code, reason = "the benchmark of scale uses the rest")]
mod load;
mod report;
#[allow(dead_code, reason = "the benchmark of scale uses the rest")]
mod sandbox;
mod subject;
mod timing;
mod verify;

use std::{
    error::Error,
    path::PathBuf,
    process::ExitCode,
    time::{Duration, Instant},
};

use clap::Parser;
use hallmark_core::key::Alg;

use self::{
    bare::{Bare, BareArgs},
    load::Mode,
    report::{Memory, Row},
    sandbox::WORKERS,
    subject::{Running, Subject},
    timing::Window,
};

/// Measures signatures per second, end to end, beside a bare loop on the same token
#[derive(Debug, Parser)]
struct Args {
    /// One short pair of each: to see that it works, not to read figures from
    #[arg(long)]
    quick: bool,
    /// Only this algorithm; may be given several times
    #[arg(long = "alg", value_name = "ALG")]
    algs: Vec<Alg>,
    /// Only this mode; may be given several times
    #[arg(long = "mode", value_name = "MODE")]
    modes: Vec<Mode>,
    /// How many pairs
    #[arg(long, value_name = "N")]
    pairs: Option<usize>,
    /// Leave out the second part, with a slow disk
    #[arg(long)]
    no_delay: bool,
    /// Only what auditing costs: one server with its log in memory, on the disk, and on a slow one, in turn
    #[arg(long)]
    audit: bool,
    /// The server
    #[arg(long, value_name = "PATH", default_value = env!("CARGO_BIN_EXE_hallmark"))]
    server: PathBuf,
    /// Another server, measured in turn with the first
    #[arg(long, value_name = "PATH")]
    against: Option<PathBuf>,
    /// What `cargo bench` passes to every benchmark
    #[arg(long, hide = true)]
    bench: bool,
    #[command(flatten)]
    bare: BareArgs,
}

/// What a slow disk takes for a sync.
const SYNC_DELAY: Duration = Duration::from_millis(5);

fn main() -> ExitCode {
    let args = Args::parse();
    let outcome = if args.bare.is_child() { args.bare.serve() } else { args.run() };
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
        let started = Instant::now();
        let algs = if self.algs.is_empty() { vec![Alg::RS384, Alg::ES256, Alg::ES384] } else { self.algs.clone() };
        if self.audit {
            let subjects = Subject::audited(&self.server, &algs, SYNC_DELAY)?;
            let (rows, _) = self.measure(&subjects, &algs, None)?;
            println!("\n{}", report::speed(&rows, false));
            return Ok(());
        }
        let mut subjects = vec![Subject::new("hallmark", &self.server, &algs)?];
        if let Some(other) = &self.against {
            subjects.push(Subject::new("against", other, &algs)?);
        }
        let (rows, memory) = self.measure(&subjects, &algs, None)?;
        println!("\n{}\n{}\n{}", report::speed(&rows, true), report::cpu(&rows), report::memory(&memory));
        if !self.no_delay {
            let (rows, _) = self.measure(&subjects, &algs, Some(SYNC_DELAY))?;
            println!("\nwith {} ms more for each sync:\n\n{}", SYNC_DELAY.as_millis(), report::speed(&rows, false));
        }
        eprintln!("==> {} s in all", started.elapsed().as_secs());
        Ok(())
    }

    /// All algorithms and modes, with each server in turn.
    fn measure(
        &self,
        subjects: &[Subject],
        algs: &[Alg],
        sync_delay: Option<Duration>,
    ) -> Result<(Vec<Row>, Vec<Memory>), Box<dyn Error>> {
        let servers = subjects.iter().map(|subject| subject.start(algs, sync_delay));
        let servers = servers.collect::<Result<Vec<_>, _>>()?;
        let (Some(subject), Some(server)) = (subjects.first(), servers.first()) else { return Err("no server".into()) };
        let mut bare = Bare::start(subject.sandbox(), WORKERS)?;
        let mut rows = Vec::new();
        for alg in algs {
            let task = server.task(*alg)?;
            for mode in self.modes() {
                let mut here = servers
                    .iter()
                    .map(|server| server.row(*alg, mode, self.window()))
                    .collect::<Result<Vec<_>, _>>()?;
                for n in 1..=self.pairs() {
                    for (server, row) in servers.iter().zip(&mut here) {
                        let pair = (bare.measure(&task, self.window())?, server.measure(*alg, mode, self.window())?);
                        row.pairs.push(pair);
                        eprintln!("==> {}, pair {n} of {}", row.last(), self.pairs());
                    }
                }
                rows.append(&mut here);
            }
        }
        let memory = servers.into_iter().map(Running::stop).collect::<Result<_, _>>()?;
        Ok((rows, memory))
    }

    fn modes(&self) -> Vec<Mode> {
        if self.modes.is_empty() { Mode::ALL.to_vec() } else { self.modes.clone() }
    }

    fn pairs(&self) -> usize {
        self.pairs.unwrap_or(if self.quick { 1 } else { 5 }).max(1)
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
