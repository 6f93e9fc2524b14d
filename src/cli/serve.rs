//! `hallmark serve`: runs the server until it is told to stop.

use std::{path::PathBuf, time::Duration};

use tokio::signal::unix::{SignalKind, signal};

use super::{Failure, Prepared, ServeArgs};
use crate::{
    app::{self, Options, Running},
    config::{self, Config, ConfigError},
    telemetry::{self, LogFormat},
};

/// How long requests under way may take once the server is told to stop.
const GRACE: Duration = Duration::from_secs(20);
/// The same once the process that started us is gone, or waits for nothing but our end: its clients may be frozen with
/// it, and would hold up the shutdown for the whole of [`GRACE`].
const ORPHAN_GRACE: Duration = Duration::from_secs(1);

/// What stops the server beside SIGTERM and SIGINT.
#[derive(Clone, Copy, Debug)]
pub(super) struct Stop {
    pub(super) with_stdin: bool,
}

pub(super) fn prepare(args: ServeArgs, json: bool) -> Result<Prepared, Failure> {
    let config = config::load(&args.config).map_err(bad_config)?;
    if config.unsafe_testing.is_some() && !args.unsafe_testing {
        let text = format!("`{}` has [unsafe_testing]", args.config.display());
        return Err(Failure::new(text)
            .hint("remove the section; only tests pass --unsafe-testing")
            .with_exit_code(super::CONFIG));
    }
    let environment = environment(&config);
    Ok(Prepared::new(async move || serve(config, args.config, json).await).with_environment(environment))
}

async fn serve(config: Config, file: PathBuf, json: bool) -> Result<u8, Failure> {
    start_log(json, "info")?;
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    let options = Options { open_reflection: config.grpc.reflection };
    let mut running = app::start(&config, &options).await.map_err(not_started)?;
    running.reload_from(file);
    Ok(until_stopped(running, Stop { with_stdin: false }).await)
}

/// The log goes to standard error, at the level that `HALLMARK_LOG` asks for, or `default`.
pub(super) fn start_log(json: bool, default: &str) -> Result<(), Failure> {
    let filter = std::env::var("HALLMARK_LOG").unwrap_or_else(|_| default.to_owned());
    let format = if json { LogFormat::Json } else { LogFormat::Human };
    let started = telemetry::start_log(format, &filter);
    started.map_err(|error| Failure::new("can't start the log").caused_by(&error).with_exit_code(super::USAGE))
}

/// What the PKCS#11 modules want in the environment.
pub(super) fn environment(config: &Config) -> Vec<(String, String)> {
    config.module_env().into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

pub(super) fn bad_config(error: ConfigError) -> Failure {
    Failure::new(error.to_string()).with_exit_code(super::CONFIG)
}

pub(super) fn not_started(error: app::StartError) -> Failure {
    Failure::new(error.what).because(error.why)
}

/// Serves until a signal, the end of standard input, or an HSM that only a new process can bring back. Gives the exit
/// code.
pub(super) async fn until_stopped(running: Running, stop: Stop) -> u8 {
    let (terminate, interrupt) = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()));
    let (Ok(mut terminate), Ok(mut interrupt), Ok(mut hangup)) = (terminate, interrupt, signal(SignalKind::hangup()))
    else {
        tracing::error!("signals can't be handled");
        return running.stop(GRACE).await;
    };
    let grace = loop {
        tokio::select! {
            _ = terminate.recv() => break GRACE,
            _ = interrupt.recv() => break GRACE,
            _ = hangup.recv() => running.reload().await,
            () = running.gave_up() => break GRACE,
            () = end_of_stdin(), if stop.with_stdin => break ORPHAN_GRACE,
        }
    };
    tracing::info!(grace_s = grace.as_secs(), "stopping: requests under way are answered first");
    running.stop(grace).await
}

async fn end_of_stdin() {
    let mut stdin = tokio::io::stdin();
    // However it ends, it has ended.
    let _ = tokio::io::copy(&mut stdin, &mut tokio::io::sink()).await;
}
