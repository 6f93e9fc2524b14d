//! `hallmark csr` and `hallmark cert`.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::OrderArgs;

/// Which of a client's keys.
#[derive(Clone, Debug, Args)]
pub(in super::super) struct ChoiceArgs {
    /// The `kid` of the key (default: the active one)
    #[arg(long, conflicts_with = "standby", allow_hyphen_values = true)]
    pub(in super::super) kid: Option<String>,
    /// For the key that comes next, so that a rotation finds its certificate there
    #[arg(long)]
    pub(in super::super) standby: bool,
}

/// Whose certificate it is to be.
#[derive(Clone, Debug, Args)]
pub(in super::super) struct NameArgs {
    /// The subject, as RFC 4514 writes it: `CN=clinic.example,O=Clinic,C=US` (default: CN=CLIENT)
    #[arg(long, value_name = "NAME")]
    pub(in super::super) subject: Option<String>,
    /// A URI among the subject's alternative names, byte for byte; may be repeated
    #[arg(long = "san-uri", value_name = "URI")]
    pub(in super::super) san_uris: Vec<String>,
    /// A DNS name among them; may be repeated
    #[arg(long = "san-dns", value_name = "NAME")]
    pub(in super::super) san_dns: Vec<String>,
}

#[derive(Clone, Debug, Args)]
pub(in super::super) struct CsrArgs {
    /// Hallmark's name of the OAuth client
    pub(in super::super) client: String,
    #[command(flatten)]
    pub(in super::super) key: ChoiceArgs,
    #[command(flatten)]
    pub(in super::super) names: NameArgs,
    /// Where to write it (default: standard output)
    #[arg(long, value_name = "FILE")]
    pub(in super::super) out: Option<PathBuf>,
    /// Why; the audit log keeps it
    #[arg(long, value_name = "TEXT", default_value = "a certificate is asked for")]
    pub(in super::super) reason: String,
}

#[derive(Debug, Subcommand)]
pub(in super::super) enum CertCommand {
    /// Installs what a CA issued: the leaf, then its issuer, up to the root
    Install(InstallArgs),
    /// Makes and installs a certificate that the key signs itself
    SelfSign(SelfSignArgs),
    /// Shows a client's certificates: thumbprints, dates, names, PEM
    Show(ShowCertArgs),
}

#[derive(Clone, Debug, Args)]
pub(in super::super) struct InstallArgs {
    /// Hallmark's name of the OAuth client
    pub(in super::super) client: String,
    /// The chain, PEM; or one certificate as DER
    pub(in super::super) file: PathBuf,
    /// The `kid` of the key (default: the one that the certificate is for)
    #[arg(long, allow_hyphen_values = true)]
    pub(in super::super) kid: Option<String>,
    #[command(flatten)]
    pub(in super::super) order: OrderArgs,
    /// In place of a certificate that the authorization server knows and assertions show; takes role `destroy`
    #[arg(long)]
    pub(in super::super) force: bool,
}

#[derive(Clone, Debug, Args)]
pub(in super::super) struct SelfSignArgs {
    /// Hallmark's name of the OAuth client
    pub(in super::super) client: String,
    /// For how many days it is good
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=7320))]
    pub(in super::super) days: u32,
    #[command(flatten)]
    pub(in super::super) key: ChoiceArgs,
    #[command(flatten)]
    pub(in super::super) names: NameArgs,
    #[command(flatten)]
    pub(in super::super) order: OrderArgs,
    /// In place of a certificate that the authorization server knows and assertions show; takes role `destroy`
    #[arg(long)]
    pub(in super::super) force: bool,
}

#[derive(Clone, Debug, Args)]
pub(in super::super) struct ShowCertArgs {
    /// Hallmark's name of the OAuth client
    pub(in super::super) client: String,
    /// Only that of this key
    #[arg(long, allow_hyphen_values = true)]
    pub(in super::super) kid: Option<String>,
}
