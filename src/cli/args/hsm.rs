//! `hallmark hsm`.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Subcommand};

#[derive(Debug, Subcommand)]
pub(in super::super) enum HsmCommand {
    /// Says what a PKCS#11 module shows, what Hallmark would use of it, and how to configure it. Changes nothing
    Probe(ProbeArgs),
}

#[derive(Clone, Debug, Args)]
pub(in super::super) struct ProbeArgs {
    /// The library of the HSM's maker, by its whole path; or `yubikey`
    #[arg(value_name = "MODULE|yubikey")]
    pub(in super::super) module: PathBuf,
    /// Looks at this slot alone
    #[arg(long, value_name = "NUMBER", conflicts_with = "token")]
    pub(in super::super) slot: Option<u64>,
    /// Looks at the token with this serial or label alone
    #[arg(long, value_name = "SERIAL|LABEL")]
    pub(in super::super) token: Option<String>,
    /// Logs in too, with one try of the PIN: shows the keys, and has one of each kind sign. Makes none
    #[arg(long, requires = "pin_source")]
    pub(in super::super) login: bool,
    /// Where the PIN is: `file:PATH`, `fd:N` or `credential:NAME`, as in the configuration. Never the PIN itself
    #[arg(long, value_name = "SOURCE", requires = "login")]
    pub(in super::super) pin_source: Option<String>,
    /// The server's configuration: its `module_env`, and its store, which knows whether the PIN was tried before
    #[arg(long, value_name = "FILE")]
    pub(in super::super) config: Option<PathBuf>,
    /// How long one call may take
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration, default_value = "20s")]
    pub(in super::super) timeout: Duration,
    /// How the command speaks to itself: what the process that loads the module is to do
    #[arg(long, value_name = "JSON", hide = true)]
    pub(in super::super) inside: Option<String>,
}
