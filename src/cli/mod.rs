//! Commands: what can be typed, and where each is carried out.
//!
//! A command is prepared first, with no thread but the main one, so that it can say what its PKCS#11 modules must find
//! in the environment; then it runs.

mod args;
mod audit;
mod certificates;
mod check_config;
mod connect;
mod consent;
mod custody_keys;
mod dev;
mod diagnose;
mod discover;
mod doctor;
mod evidence;
mod failure;
#[cfg(test)]
mod fixture;
mod hints;
mod hsm;
mod input;
mod inspect;
mod jwks;
mod keys;
mod output;
mod policy;
mod profiles;
mod register;
mod rehearse;
mod rotation;
mod serve;
mod sign;
mod token;
mod urls;

use std::{future::Future, path::PathBuf, pin::Pin};

use clap::Parser;

use self::{
    args::{AllKeysCommand, Command},
    check_config::Checked,
    output::Output,
};
pub use self::{
    failure::{Failure, USAGE},
    keys::import::try_pkcs12,
};
use crate::hardening::{self, Scope};

/// Signs OAuth client assertions with keys that never leave the HSM.
#[derive(Debug, Parser)]
#[command(name = "hallmark", version, max_term_width = 100, arg_required_else_help = true)]
pub struct Cli {
    /// Prints JSON, for programs
    #[arg(long, global = true)]
    json: bool,
    /// Where the server is and who asks (default: what `hallmark dev` left in .hallmark)
    #[arg(long, global = true, value_name = "FILE", env = hallmark_client::CONNECTION_VARIABLE, hide_env_values = true)]
    connection: Option<PathBuf>,
    #[command(subcommand)]
    command: Command,
}

impl Cli {
    /// Whether a program reads what is printed.
    pub fn json(&self) -> bool {
        self.json
    }

    /// Reads what the command needs before any thread starts.
    pub fn prepare(self) -> Result<Prepared, Failure> {
        let Self { json, connection, command } = self;
        match command {
            Command::Serve(args) => serve::prepare(args, json),
            Command::CheckConfig(args) => Ok(Prepared::new(async move || {
                let Checked { text, exit_code } = check_config::run(&args.config, args.role, json);
                Output { stdout: text, ..Output::default() }.print().map(|_| exit_code)
            })),
            Command::Dev(args) => dev::prepare(args, json),
            Command::Sign(args) => Ok(Prepared::new(async move || sign::run(args, connection, json).await)),
            Command::Token(args) => Ok(Prepared::new(async move || token::run(args, connection, json).await)),
            Command::Keys { command: AllKeysCommand::Import(args) } => keys::import::prepare(args, connection, json),
            Command::Keys { command: AllKeysCommand::Remote(command) } => {
                Ok(Prepared::new(async move || keys::run(command, connection, json).await))
            }
            Command::Rotation { command } => {
                Ok(Prepared::new(async move || rotation::run(command, connection, json).await))
            }
            Command::Policy { command } => {
                Ok(Prepared::new(async move || policy::run(command, connection, json).await))
            }
            Command::Discover(args) => Ok(Prepared::new(async move || discover::run(args, json).await)),
            Command::Evidence { command } => Ok(Prepared::new(async move || evidence::run(command, json))),
            Command::Profiles { command } => Ok(Prepared::new(async move || profiles::run(command, json))),
            Command::Register(args) => Ok(Prepared::new(async move || register::run(args, connection, json).await)),
            Command::Inspect(args) => Ok(Prepared::new(async move || inspect::run(args, json).await)),
            Command::Csr(args) => Ok(Prepared::new(async move || certificates::csr(args, connection, json).await)),
            Command::Cert { command } => {
                Ok(Prepared::new(async move || certificates::cert(command, connection, json).await))
            }
            Command::Audit { command } => Ok(Prepared::new(async move || audit::run(command, json).await)),
            Command::Hsm { command } => hsm::prepare(command, json),
            Command::Doctor(args) => Ok(doctor::prepare(args, connection, json)),
            Command::Jwks(args) => Ok(Prepared::new(async move || jwks::run(args, connection, json).await)),
        }
    }
}

/// A command that is ready to run.
pub struct Prepared {
    environment: Vec<(String, String)>,
    scope: Scope,
    run: Box<dyn FnOnce() -> Running>,
}

type Running = Pin<Box<dyn Future<Output = Result<u8, Failure>>>>;

impl Prepared {
    /// `run` is called inside the runtime and gives the exit code.
    pub fn new<F>(run: impl FnOnce() -> F + 'static) -> Self
    where
        F: Future<Output = Result<u8, Failure>> + 'static,
    {
        Self { environment: Vec::new(), scope: Scope::default(), run: Box::new(move || Box::pin(run())) }
    }

    /// Variables that must be set before any thread exists and any PKCS#11 module is loaded.
    #[must_use]
    pub fn with_environment(mut self, variables: impl IntoIterator<Item = (String, String)>) -> Self {
        self.environment.extend(variables);
        self
    }

    /// Says what kind of process this is; by default it is a command.
    #[must_use]
    pub fn with_scope(self, scope: Scope) -> Self {
        Self { scope, ..self }
    }

    /// Gives up what the process has no need of. To be called before any thread exists.
    pub fn harden(&self) {
        hardening::apply(self.scope);
    }

    /// What [`Self::with_environment`] added.
    pub fn environment(&self) -> &[(String, String)] {
        &self.environment
    }

    /// Carries it out. Gives the exit code.
    pub async fn run(self) -> Result<u8, Failure> {
        (self.run)().await
    }
}

#[cfg(test)]
mod tests;
