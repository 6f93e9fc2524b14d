//! `hallmark register`.

use std::path::PathBuf;

use clap::Args;

#[derive(Clone, Debug, Args)]
pub(in super::super) struct RegisterArgs {
    /// Hallmark's name of the OAuth client
    pub(in super::super) client: String,
    /// What people at the authorization server call it (default: Hallmark's name)
    #[arg(long, value_name = "TEXT")]
    pub(in super::super) name: Option<String>,
    /// What it is to be allowed, separated by spaces
    #[arg(long)]
    pub(in super::super) scope: Option<String>,
    /// Where people would be sent; may be repeated
    #[arg(long = "redirect-uri", value_name = "URL")]
    pub(in super::super) redirect_uris: Vec<String>,
    /// A mail address of yours; may be repeated
    #[arg(long = "contact", value_name = "ADDRESS")]
    pub(in super::super) contacts: Vec<String>,
    /// Sends it, and records the client_id that comes back
    #[arg(long, conflicts_with = "client_id")]
    pub(in super::super) post: bool,
    /// The registration endpoint (default: that of the discovery document that has the client's token endpoint)
    #[arg(long, value_name = "URL", requires = "post")]
    pub(in super::super) url: Option<String>,
    /// A file with the access token that the registration endpoint wants
    #[arg(long, value_name = "FILE", requires = "post")]
    pub(in super::super) initial_access_token: Option<PathBuf>,
    /// Certificates of authorities to trust instead of the system's
    #[arg(long, value_name = "FILE", requires = "post")]
    pub(in super::super) ca: Option<PathBuf>,
    /// Where to keep the answer if there are secrets in it (default: CLIENT.registration.json)
    #[arg(long, value_name = "FILE", requires = "post")]
    pub(in super::super) answer: Option<PathBuf>,
    /// Registers a client that has a client_id already once more
    #[arg(long, requires = "post")]
    pub(in super::super) again: bool,
    /// Puts the client_id in the place of another one that is recorded; takes role `destroy`
    #[arg(long)]
    pub(in super::super) force: bool,
    /// Does not ask
    #[arg(long)]
    pub(in super::super) yes: bool,
    /// Sends nothing: records the client_id that was given to you
    #[arg(long, value_name = "ID")]
    pub(in super::super) client_id: Option<String>,
    /// Why; the audit log keeps it (default: where it was registered)
    #[arg(long, value_name = "TEXT")]
    pub(in super::super) reason: Option<String>,
}
