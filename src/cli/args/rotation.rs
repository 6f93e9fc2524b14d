//! `hallmark rotation`.

use std::{path::PathBuf, time::Duration};

use clap::{Args, Subcommand};

#[derive(Debug, Subcommand)]
pub(in super::super) enum RotationCommand {
    /// Says what is going to happen to keys, when, and why
    Plan(PlanArgs),
    /// Reads a client's public JWKS URL as an authorization server would, and proves that its next key is there
    Rehearse(RehearseArgs),
}

#[derive(Clone, Debug, Args)]
pub(in super::super) struct PlanArgs {
    /// Only the keys of this client
    pub(in super::super) client: Option<String>,
    /// How far to look ahead, such as `90d` or `1y`
    #[arg(long, value_name = "TIME", default_value = "1y", value_parser = humantime::parse_duration)]
    pub(in super::super) until: Duration,
}

#[derive(Clone, Debug, Args)]
pub(in super::super) struct RehearseArgs {
    /// Hallmark's name of the OAuth client
    pub(in super::super) client: String,
    /// Where to look (default: the client's own JWKS URL)
    #[arg(long)]
    pub(in super::super) url: Option<String>,
    /// Certificates of authorities to trust instead of the system's
    #[arg(long, value_name = "FILE")]
    pub(in super::super) ca: Option<PathBuf>,
    /// Only looks: does not tell the server that the next key was seen
    #[arg(long)]
    pub(in super::super) dry_run: bool,
}
