//! `hallmark policy`.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};

#[derive(Debug, Subcommand)]
pub(in super::super) enum PolicyCommand {
    /// Says whether somebody may do something, and by which line; exits with 1 where not
    Explain(ExplainArgs),
    /// Finds what is allowed and hardly meant; exits with 1 where something is found
    Lint(LintArgs),
}

#[derive(Clone, Debug, Args)]
#[command(group = clap::ArgGroup::new("who").required(true))]
pub(in super::super) struct ExplainArgs {
    /// The identity of a workload: `spiffe://…`, `dns:…`, `uid:…` or `jwt:…`
    #[arg(long, value_name = "ID", group = "who", requires = "client")]
    pub(in super::super) workload: Option<String>,
    /// Hallmark's name of the OAuth client that it would sign for
    #[arg(long, value_name = "NAME", requires = "workload")]
    pub(in super::super) client: Option<String>,
    /// The audience that it would name (default: the client's own)
    #[arg(long, value_name = "URL", requires = "workload")]
    pub(in super::super) audience: Option<String>,
    /// The identity of an operator
    #[arg(long, value_name = "ID", group = "who", requires = "act")]
    pub(in super::super) operator: Option<String>,
    /// What it would do, such as `rotate`, `destroy` or `list-keys`
    #[arg(long, requires = "operator")]
    pub(in super::super) act: Option<String>,
    /// Past a gate that is shut
    #[arg(long, requires = "operator")]
    pub(in super::super) force: bool,
    /// Asks this configuration, not a server (needs no server)
    #[arg(long, value_name = "FILE")]
    pub(in super::super) config: Option<PathBuf>,
}

#[derive(Clone, Debug, Args)]
pub(in super::super) struct LintArgs {
    /// Looks through this configuration, not a server's (needs no server)
    #[arg(long, value_name = "FILE")]
    pub(in super::super) config: Option<PathBuf>,
    /// From which severity on it exits with 1
    #[arg(long, value_enum, value_name = "SEVERITY", default_value_t = FailOn::Warning)]
    pub(in super::super) fail_on: FailOn,
}

/// From which severity on a finding fails the command.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(in super::super) enum FailOn {
    /// What can't do what it says
    Error,
    /// What is probably not meant
    Warning,
    /// Anything
    Info,
}
