//! `hallmark serve`: runs the server until it is told to stop.

use std::{path::PathBuf, time::Duration};

use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{
    Failure, Prepared,
    args::{Role, ServeArgs},
    failure,
};
use crate::{
    app::{self, Ended, Running},
    config::{self, Config, ConfigError},
    hardening::{self, Measure, Scope},
    telemetry::{self, LogFormat},
};

/// How long requests under way may take once the server is told to stop.
const GRACE: Duration = Duration::from_secs(20);
/// The same once the process that started us is gone, or waits for nothing but our end: its clients may be frozen with
/// it, and would hold up the shutdown for the whole of [`GRACE`].
const ORPHAN_GRACE: Duration = Duration::from_secs(1);

/// What reaches a server from outside. Listened to before it starts: the default of these signals would end the process
/// without a word, and leave behind what is removed at the end.
#[derive(Debug)]
pub(super) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
    with_stdin: bool,
}

impl Signals {
    /// `with_stdin`: the end of standard input stops the server too.
    pub(super) fn listen(with_stdin: bool) -> Result<Self, Failure> {
        let listen = |kind| signal(kind).map_err(|error| Failure::new("can't listen to signals").caused_by(&error));
        let (terminate, interrupt) = (listen(SignalKind::terminate())?, listen(SignalKind::interrupt())?);
        Ok(Self { terminate, interrupt, hangup: listen(SignalKind::hangup())?, with_stdin })
    }

    pub(super) async fn next(&mut self) -> Told {
        tokio::select! {
            _ = self.terminate.recv() => Told::Stop(GRACE),
            _ = self.interrupt.recv() => Told::Stop(GRACE),
            _ = self.hangup.recv() => Told::Reload,
            () = end_of_stdin(), if self.with_stdin => Told::Stop(ORPHAN_GRACE),
        }
    }
}

/// What a server is told from outside.
#[derive(Clone, Copy, Debug)]
pub(super) enum Told {
    /// To stop; requests under way have so long.
    Stop(Duration),
    /// To read its configuration again.
    Reload,
}

pub(super) fn prepare(args: ServeArgs, json: bool) -> Result<Prepared, Failure> {
    refuse_root(&args)?;
    if args.role == Role::Jwks {
        let config = config::load_follower(&args.config).map_err(bad_config)?;
        return Ok(Prepared::new(async move || serve_jwks(config, args.config, json).await).with_scope(Scope::Server));
    }
    let config = config::load(&args.config).map_err(bad_config)?;
    if config.unsafe_testing.is_some() && !args.unsafe_testing {
        let text = format!("`{}` has [unsafe_testing]", args.config.display());
        return Err(Failure::new(text)
            .hint("remove the section; only tests pass --unsafe-testing")
            .with_exit_code(failure::CONFIG));
    }
    let environment = environment(&config);
    Ok(Prepared::new(async move || serve(config, args.config, json).await)
        .with_environment(environment)
        .with_scope(Scope::Server))
}

/// Without capabilities root is still whom most files of a system belong to.
fn refuse_root(args: &ServeArgs) -> Result<(), Failure> {
    if args.allow_root || !hardening::is_root() {
        return Ok(());
    }
    Err(Failure::new("hallmark does not serve as root: whoever broke into it would own the machine")
        .hint("run it as a user of its own: `User=hallmark` in the systemd unit, `USER` in the container image; or pass --allow-root")
        .with_exit_code(failure::USAGE))
}

/// Once, at the start: what the system, or whoever starts us, leaves open.
fn tell_hardening() {
    let (in_force, missing): (Vec<_>, Vec<_>) = Measure::ALL.into_iter().partition(|measure| measure.is_in_force());
    let in_force: Vec<_> = in_force.into_iter().map(Measure::name).collect();
    tracing::info!(in_force = in_force.join(", "), "hardening");
    for measure in missing {
        tracing::warn!("hardening: `{}` is not in force\nhint: {}", measure.name(), measure.hint());
    }
}

async fn serve(config: Config, file: PathBuf, json: bool) -> Result<u8, Failure> {
    start_log(json, "info")?;
    tell_hardening();
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    let signals = Signals::listen(false)?;
    let mut running = app::start(&config).await.map_err(not_started)?;
    running.reload_from(file);
    Ok(until_stopped(running, signals).await)
}

/// `--role jwks`.
async fn serve_jwks(config: config::Follower, file: PathBuf, json: bool) -> Result<u8, Failure> {
    start_log(json, "info")?;
    tell_hardening();
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    let mut signals = Signals::listen(false)?;
    let running = app::start_jwks(&config).await.map_err(not_started)?;
    loop {
        match signals.next().await {
            Told::Stop(_) => break,
            Told::Reload => match config::load_follower(&file) {
                Ok(config) => running.reload(config),
                Err(error) => tracing::error!(%error, "the configuration was not taken; the old one goes on"),
            },
        }
    }
    running.stop().await;
    Ok(0)
}

/// The log goes to standard error, at the level that `HALLMARK_LOG` asks for, or `default`.
pub(super) fn start_log(json: bool, default: &str) -> Result<(), Failure> {
    let filter = std::env::var("HALLMARK_LOG").unwrap_or_else(|_| default.to_owned());
    let format = if json { LogFormat::Json } else { LogFormat::Human };
    let started = telemetry::start_log(format, &filter);
    started.map_err(|error| Failure::new("can't start the log").caused_by(&error).with_exit_code(failure::USAGE))
}

/// What the PKCS#11 modules want in the environment.
pub(super) fn environment(config: &Config) -> Vec<(String, String)> {
    config.module_env().into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

pub(super) fn bad_config(error: ConfigError) -> Failure {
    Failure::new(error.to_string()).with_exit_code(failure::CONFIG)
}

pub(super) fn not_started(error: app::StartError) -> Failure {
    Failure::new(error.what).because(error.why)
}

/// Serves until a signal, the end of standard input, or an HSM that only a new process can bring back. Gives the exit
/// code.
pub(super) async fn until_stopped(mut running: Running, mut signals: Signals) -> u8 {
    let grace = loop {
        let told = tokio::select! {
            told = signals.next() => told,
            () = running.gave_up() => Told::Stop(GRACE),
        };
        match told {
            Told::Stop(grace) => break grace,
            Told::Reload => running.reload().await,
        }
    };
    tracing::info!(grace_s = grace.as_secs(), "stopping: requests under way are answered first");
    exit(running.stop(grace).await)
}

pub(super) fn exit(ended: Ended) -> u8 {
    match ended {
        Ended::Told => 0,
        Ended::Hopeless => failure::TEMPORARY,
    }
}

async fn end_of_stdin() {
    let mut stdin = tokio::io::stdin();
    // However it ends, it has ended.
    let _ = tokio::io::copy(&mut stdin, &mut tokio::io::sink()).await;
}
