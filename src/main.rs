//! The story of a run: parse, load, build, run, drain, exit code.

use std::{io, num::NonZero, process::ExitCode, thread};

use clap::Parser;
use hallmark::cli::{Cli, Failure, Prepared, USAGE};
use tokio::runtime::{Builder, Runtime};

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(answer) => return explain(&answer),
    };
    let json = cli.json();
    match cli.prepare().and_then(run) {
        Ok(code) => leave(code),
        Err(failure) => {
            eprint!("{}", failure.render(json));
            leave(failure.exit_code())
        }
    }
}

/// Carries the command out. Whatever hangs in a library at the end does not keep the process.
fn run(prepared: Prepared) -> Result<u8, Failure> {
    set_environment(prepared.environment());
    prepared.harden();
    let runtime = runtime().map_err(|error| Failure::new("can't start the runtime").caused_by(&error))?;
    let outcome = runtime.block_on(prepared.run());
    runtime.shutdown_background();
    outcome
}

/// Ends the process here and now. On the usual way out the destructors of a PKCS#11 library, and of what it is built on,
/// would take away what a thread that was in it still uses, be it stuck there or about to end, and the process would die of
/// that instead.
#[allow(unsafe_code)]
fn leave(code: u8) -> ! {
    // The log is not buffered; nobody is left to tell if this can't be written.
    let _ = io::Write::flush(&mut io::stdout());
    // SAFETY: takes a number and does not return; no memory is looked at.
    unsafe { libc::_exit(code.into()) }
}

/// Half of the cores for what is asynchronous: the other half makes and checks signatures. On two cores a second thread
/// is worse than none: the two wake each other for work that one does in the meantime.
fn runtime() -> io::Result<Runtime> {
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    match cores / 2 {
        // Takes tasks in their order, so that the answers of one sync leave in one write; the other kind lets whatever was
        // woken last go first, and writes each by itself.
        0 | 1 => Builder::new_current_thread().enable_all().build(),
        threads => Builder::new_multi_thread().worker_threads(threads).enable_all().build(),
    }
}

/// What PKCS#11 modules read, such as `SOFTHSM2_CONF`: they know of no other way to be told. The one place that sets it.
#[allow(unsafe_code, clippy::disallowed_methods)]
fn set_environment(variables: &[(String, String)]) {
    for (name, value) in variables {
        // SAFETY: no other thread exists yet: the runtime, and with it all threads of ours, is built after this, and no
        // module is loaded before.
        unsafe { std::env::set_var(name, value) };
    }
}

/// Help and version are answers; everything else is bad usage.
fn explain(answer: &clap::Error) -> ExitCode {
    // Nobody is left to tell if this can't be written.
    let _ = answer.print();
    ExitCode::from(if answer.use_stderr() { USAGE } else { 0 })
}
