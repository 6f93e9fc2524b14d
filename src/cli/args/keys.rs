//! `hallmark keys`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::evidence::{CustodyArgs, KeyEvidenceArgs};
use crate::config::CkaId;

/// The commands that ask the server for everything, and the one that opens an HSM itself.
#[derive(Debug, Subcommand)]
pub(in super::super) enum AllKeysCommand {
    #[command(flatten)]
    Remote(KeysCommand),
    /// Puts the key of a file into an HSM, and takes it in; runs on the HSM's host, beside the server
    Import(ImportArgs),
}

#[derive(Debug, Subcommand)]
pub(in super::super) enum KeysCommand {
    /// Lists keys, what happens to each next, and what is on the HSMs without a record
    List(ListArgs),
    /// Shows one key
    Show(ShowArgs),
    /// Makes a client's first keys: one active and one standby for each algorithm
    Create(CreateArgs),
    /// Switches a client to its standby keys now
    Rotate(RotateArgs),
    /// Makes a published key active, in place of the one that is
    Activate(AlterArgs),
    /// Stops signing with a key; it stays published
    Deactivate(AlterArgs),
    /// Takes a key out of the JWKS at once, for good: it is compromised
    Revoke(RevokeArgs),
    /// Takes a deactivated key out of the JWKS, for good
    Retire(AlterArgs),
    /// Destroys a retired or compromised key on its HSM
    Destroy(AlterArgs),
    /// Takes in a key that is on an HSM and has no record
    Adopt(AdoptArgs),
    /// Lists the changes that wait for a second operator, and the last of those that waited
    Changes,
    /// Approves a change of another operator, and has it carried out
    Approve(ApproveArgs),
    /// Says no to a change that waits, or takes your own back
    Deny(DenyArgs),
    /// Says that a key is registered, or was seen at the public JWKS URL
    Confirm(ConfirmArgs),
    /// Draws the lives of keys
    Timeline(TimelineArgs),
    /// Says where a key was born and what keeps it there, signed for whoever audits
    Evidence(KeyEvidenceArgs),
    /// Shows the keys of the HSMs that evidence is signed with
    Custody(CustodyArgs),
}

#[derive(Clone, Debug, Args)]
pub(in super::super) struct ListArgs {
    /// Only the keys of this client
    #[arg(long, value_name = "CLIENT")]
    pub(in super::super) client: Option<String>,
    /// Have the server look at its HSMs now (role `rotate`), not go by its last look
    #[arg(long)]
    pub(in super::super) fresh: bool,
}

#[derive(Clone, Debug, Args)]
pub(in super::super) struct ShowArgs {
    /// The `kid` of the key
    #[arg(allow_hyphen_values = true)]
    pub(in super::super) kid: String,
}

/// What every change asks for.
#[derive(Clone, Debug, Args)]
pub(in super::super) struct OrderArgs {
    /// Why; the audit log keeps it
    #[arg(long, value_name = "TEXT")]
    pub(in super::super) reason: String,
    /// A text of your own: the same one again does nothing twice (default: a new one)
    #[arg(long, value_name = "ID")]
    pub(in super::super) request_id: Option<String>,
}

/// For what asks first.
#[derive(Clone, Copy, Debug, Args)]
pub(in super::super) struct ForceArgs {
    /// Goes past a gate that is shut; takes role `destroy`
    #[arg(long)]
    pub(in super::super) force: bool,
    /// Does not ask
    #[arg(long)]
    pub(in super::super) yes: bool,
}

#[derive(Clone, Debug, Args)]
pub(in super::super) struct CreateArgs {
    /// Hallmark's name of the OAuth client
    pub(in super::super) client: String,
    /// Only the keys with this algorithm
    #[arg(long)]
    pub(in super::super) alg: Option<String>,
    #[command(flatten)]
    pub(in super::super) order: OrderArgs,
}

#[derive(Clone, Debug, Args)]
pub(in super::super) struct RotateArgs {
    /// Hallmark's name of the OAuth client
    pub(in super::super) client: String,
    /// Only the keys with this algorithm
    #[arg(long)]
    pub(in super::super) alg: Option<String>,
    #[command(flatten)]
    pub(in super::super) order: OrderArgs,
    #[command(flatten)]
    pub(in super::super) how: ForceArgs,
}

#[derive(Clone, Debug, Args)]
pub(in super::super) struct AlterArgs {
    /// The `kid` of the key
    #[arg(allow_hyphen_values = true)]
    pub(in super::super) kid: String,
    #[command(flatten)]
    pub(in super::super) order: OrderArgs,
    #[command(flatten)]
    pub(in super::super) how: ForceArgs,
}

#[derive(Clone, Debug, Args)]
pub(in super::super) struct RevokeArgs {
    /// The `kid` of the key
    #[arg(allow_hyphen_values = true)]
    pub(in super::super) kid: String,
    #[command(flatten)]
    pub(in super::super) order: OrderArgs,
    /// Does not ask
    #[arg(long)]
    pub(in super::super) yes: bool,
}

#[derive(Clone, Debug, Args)]
pub(in super::super) struct ApproveArgs {
    /// The id of the change
    pub(in super::super) id: String,
    /// Why; the audit log keeps it
    #[arg(long, value_name = "TEXT")]
    pub(in super::super) reason: String,
    /// Does not ask
    #[arg(long)]
    pub(in super::super) yes: bool,
}

#[derive(Clone, Debug, Args)]
pub(in super::super) struct DenyArgs {
    /// The id of the change
    pub(in super::super) id: String,
    /// Why; the audit log keeps it
    #[arg(long, value_name = "TEXT")]
    pub(in super::super) reason: String,
}

#[derive(Clone, Debug, Args)]
#[command(group = clap::ArgGroup::new("object").required(true))]
pub(in super::super) struct AdoptArgs {
    /// Hallmark's name of the OAuth client whose key it becomes
    pub(in super::super) client: String,
    /// The CKA_ID of its objects, in hexadecimal
    #[arg(long, value_name = "HEX", group = "object")]
    pub(in super::super) cka_id: Option<CkaId>,
    /// The label of its objects
    #[arg(long, value_name = "TEXT", group = "object")]
    pub(in super::super) label: Option<String>,
    /// Its algorithm, where the client has several that it suits
    #[arg(long)]
    pub(in super::super) alg: Option<String>,
    /// Where it is, if the client has several HSMs
    #[arg(long)]
    pub(in super::super) hsm: Option<String>,
    /// The `kid` that it is registered with already (default: its thumbprint)
    #[arg(long, allow_hyphen_values = true)]
    pub(in super::super) kid: Option<String>,
    #[command(flatten)]
    pub(in super::super) order: OrderArgs,
}

#[derive(Clone, Debug, Args)]
#[command(group = clap::ArgGroup::new("file").required(true))]
pub(in super::super) struct ImportArgs {
    /// Hallmark's name of the OAuth client whose key it becomes
    pub(in super::super) client: String,
    /// The key in a PKCS#12 file (.p12, .pfx), with its certificates if it has any
    #[arg(long, value_name = "FILE", group = "file")]
    pub(in super::super) pkcs12: Option<PathBuf>,
    /// The key in a PEM file: PKCS#8, also encrypted, PKCS#1 or SEC 1
    #[arg(long, value_name = "FILE", group = "file")]
    pub(in super::super) pem: Option<PathBuf>,
    /// Holds the file's passphrase in its first line (default: asked for on the terminal)
    #[arg(long, value_name = "FILE")]
    pub(in super::super) password_file: Option<PathBuf>,
    /// The server's configuration file: where the HSM is, and its PIN
    #[arg(long, value_name = "FILE")]
    pub(in super::super) config: PathBuf,
    /// Where to put it: the name of an [[hsm]] section
    #[arg(long)]
    pub(in super::super) hsm: String,
    /// Its algorithm, where the client has several that it suits
    #[arg(long)]
    pub(in super::super) alg: Option<String>,
    /// The `kid` that it is registered with already (default: its thumbprint)
    #[arg(long, allow_hyphen_values = true)]
    pub(in super::super) kid: Option<String>,
    /// Why; the audit log keeps it
    #[arg(long, value_name = "TEXT", default_value = "a key file was imported")]
    pub(in super::super) reason: String,
    /// Rotates to a key that is born in the HSM, as soon as verifiers know one
    #[arg(long)]
    pub(in super::super) rotate: bool,
    /// Does not ask
    #[arg(long)]
    pub(in super::super) yes: bool,
}

#[derive(Clone, Debug, Args)]
#[command(group = clap::ArgGroup::new("what").required(true))]
pub(in super::super) struct ConfirmArgs {
    /// The `kid` of the key
    #[arg(allow_hyphen_values = true)]
    pub(in super::super) kid: String,
    /// The authorization server has it registered
    #[arg(long, group = "what")]
    pub(in super::super) registered: bool,
    /// The public JWKS URL was read from outside, and has it; `hallmark rotation rehearse` looks and says so
    #[arg(long, group = "what")]
    pub(in super::super) rehearsed: bool,
    #[command(flatten)]
    pub(in super::super) order: OrderArgs,
}

#[derive(Clone, Debug, Args)]
pub(in super::super) struct TimelineArgs {
    /// Only the keys of this client
    pub(in super::super) client: Option<String>,
}
