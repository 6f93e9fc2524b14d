//! `hallmark profiles`.

use clap::{Args, Subcommand};

#[derive(Debug, Subcommand)]
pub(in super::super) enum ProfilesCommand {
    /// Lists the kinds of authorization servers that Hallmark knows
    List,
    /// Says what one of them is sent, what it takes and how that is known, and what its refusals mean
    Show(ShowProfileArgs),
}

#[derive(Clone, Debug, Args)]
pub(in super::super) struct ShowProfileArgs {
    /// As `profiles list` has it, and `profile` of a [[client]]
    pub(in super::super) name: String,
    /// Prints Markdown, as the pages in docs/profiles have it
    #[arg(long, conflicts_with = "json")]
    pub(in super::super) markdown: bool,
}
