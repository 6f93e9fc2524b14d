//! What can be typed. The first line of each comment is the help text.

use std::{path::PathBuf, str::FromStr, time::Duration};

use clap::{Args, Subcommand, ValueEnum};
use hallmark_core::key::Alg;

mod audit;
mod certificates;
mod dev;
mod evidence;
mod hsm;
mod inspect;
mod keys;
mod policy;
mod profiles;
mod register;
mod rotation;

#[cfg(test)]
pub(super) use self::keys::ForceArgs;
pub(super) use self::{
    audit::{AuditCommand, CustodyKeysArgs, ExportArgs, ExportFormat, FilterArgs, PlacesArgs, TailArgs, VerifyLogArgs},
    certificates::{CertCommand, ChoiceArgs, CsrArgs, InstallArgs, NameArgs, SelfSignArgs, ShowCertArgs},
    dev::{DevHsm, DevHsmArgs},
    evidence::{CustodyArgs, EvidenceCommand, KeyEvidenceArgs, VerifyArgs},
    hsm::{HsmCommand, ProbeArgs},
    inspect::InspectArgs,
    keys::{
        AdoptArgs, AllKeysCommand, AlterArgs, ApproveArgs, ConfirmArgs, CreateArgs, DenyArgs, ImportArgs, KeysCommand,
        ListArgs, OrderArgs, RevokeArgs, RotateArgs,
    },
    policy::{ExplainArgs, FailOn, LintArgs, PolicyCommand},
    profiles::{ProfilesCommand, ShowProfileArgs},
    register::RegisterArgs,
    rotation::{PlanArgs, RehearseArgs, RotationCommand},
};

#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Runs the server
    Serve(ServeArgs),
    /// Checks a configuration, and says everything that is wrong with it
    CheckConfig(CheckConfigArgs),
    /// Runs a server for development, with a software token of its own
    Dev(DevArgs),
    /// Signs a client assertion and prints it
    Sign(SignArgs),
    /// Gets an access token from the client's authorization server and prints it
    Token(TokenArgs),
    /// Lists, makes and changes keys (as an operator)
    Keys {
        #[command(subcommand)]
        command: AllKeysCommand,
    },
    /// Says what happens to keys by itself, and proves that it can (as an operator)
    Rotation {
        #[command(subcommand)]
        command: RotationCommand,
    },
    /// Says what the policy lets whom do, and by which line; finds what in it is hardly meant
    Policy {
        #[command(subcommand)]
        command: PolicyCommand,
    },
    /// Reads what an authorization server says of itself, and prints a section for the configuration
    Discover(DiscoverArgs),
    /// Says what an authorization server wants to know of a client, and sends it (as an operator)
    Register(RegisterArgs),
    /// Asks for a certificate of a client's key, and prints the request (as an operator)
    Csr(CsrArgs),
    /// Installs, makes and shows certificates of a client's keys (as an operator)
    Cert {
        #[command(subcommand)]
        command: CertCommand,
    },
    /// Checks, shows and exports audit logs (needs no server)
    Audit {
        #[command(subcommand)]
        command: AuditCommand,
    },
    /// Looks at an HSM on this machine, before or beside a configuration
    Hsm {
        #[command(subcommand)]
        command: HsmCommand,
    },
    /// Walks the whole chain, from the HSM to the authorization server, and names the first broken link
    Doctor(DoctorArgs),
    /// Prints a client's JWKS as authorization servers see it; checks and exports
    Jwks(JwksArgs),
    /// Says what each kind of authorization server wants (needs no server of ours)
    Profiles {
        #[command(subcommand)]
        command: ProfilesCommand,
    },
    /// Checks where a key was born, offline (needs no server of ours)
    Evidence {
        #[command(subcommand)]
        command: EvidenceCommand,
    },
    /// Says everything that is wrong with a JWT, and sends it nowhere
    Inspect(InspectArgs),
}

#[derive(Clone, Debug, Args)]
pub(super) struct ServeArgs {
    /// The configuration file
    #[arg(long, value_name = "FILE")]
    pub(super) config: PathBuf,
    /// Accepts a configuration with `[unsafe_testing]`
    #[arg(long)]
    pub(super) unsafe_testing: bool,
    /// What this process does
    #[arg(long, value_enum, default_value_t = Role::All)]
    pub(super) role: Role,
    /// Serves as root, which a server has no need of
    #[arg(long, env = "HALLMARK_ALLOW_ROOT", hide_env_values = true)]
    pub(super) allow_root: bool,
}

/// What a server does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Role {
    /// Signs, manages keys and publishes them
    All,
    /// Publishes what another server, or the store, says; needs no HSM
    Jwks,
}

#[derive(Clone, Debug, Args)]
pub(super) struct CheckConfigArgs {
    /// The configuration file
    #[arg(long, value_name = "FILE")]
    pub(super) config: PathBuf,
    /// What the process that reads it is to do
    #[arg(long, value_enum, default_value_t = Role::All)]
    pub(super) role: Role,
}

#[derive(Clone, Debug, Args)]
pub(super) struct DevArgs {
    /// Where its token, certificates, keys and configuration are kept
    #[arg(long, value_name = "DIR", default_value = ".hallmark", conflicts_with = "ephemeral")]
    pub(super) dir: PathBuf,
    /// Keeps everything in a folder that is removed at the end, and takes free ports
    #[arg(long)]
    pub(super) ephemeral: bool,
    /// Ends when standard input does: when the process that started it is gone
    #[arg(long)]
    pub(super) exit_with_stdin: bool,
    /// A client to sign for, such as `clinic:ES384`; may be repeated
    #[arg(long = "client", value_name = "NAME:ALG")]
    pub(super) clients: Vec<DevClient>,
    /// The token endpoint of the authorization server: it becomes the audience
    #[arg(long, value_name = "URL")]
    pub(super) token_endpoint: Option<String>,
    #[command(flatten)]
    pub(super) hsm: DevHsmArgs,
}

/// `NAME:ALG` of `hallmark dev --client`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct DevClient {
    pub(super) name: String,
    pub(super) alg: String,
}

impl FromStr for DevClient {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once(':') {
            Some((name, alg)) if !name.is_empty() && !alg.is_empty() => {
                alg.parse::<Alg>().map_err(|error| error.to_string())?;
                Ok(Self { name: name.to_owned(), alg: alg.to_owned() })
            }
            _ => Err("it is not `NAME:ALG`, such as `clinic:RS384`".to_owned()),
        }
    }
}

#[derive(Clone, Debug, Args)]
pub(super) struct SignArgs {
    /// Hallmark's name of the OAuth client
    pub(super) client: String,
    /// A JWS algorithm of the client's keys, such as ES384
    #[arg(long)]
    pub(super) alg: Option<String>,
    /// The audience, where the policy lets this workload choose it
    #[arg(long, value_name = "URL")]
    pub(super) audience: Option<String>,
    /// How long it is good for, such as `60s`
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    pub(super) lifetime: Option<Duration>,
    /// The scope of the token request
    #[arg(long)]
    pub(super) scope: Option<String>,
    /// Extra claims: a JSON object
    #[arg(long, value_name = "JSON")]
    pub(super) claims: Option<String>,
}

#[derive(Clone, Debug, Args)]
pub(super) struct TokenArgs {
    /// Hallmark's name of the OAuth client
    pub(super) client: String,
    /// What to ask for, separated by spaces
    #[arg(long)]
    pub(super) scope: Option<String>,
    /// A JWS algorithm of the client's keys, such as ES384
    #[arg(long)]
    pub(super) alg: Option<String>,
    /// Prints the request instead of sending it, with an assertion that is good for some minutes and counts once
    #[arg(long, value_enum, value_name = "FORM")]
    pub(super) print: Option<RequestForm>,
}

/// How a token request is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum RequestForm {
    /// A command for a shell
    Curl,
    /// A Postman collection, format 2.1
    Postman,
    /// The text of the HTTP request
    Http,
}

#[derive(Clone, Debug, Args)]
pub(super) struct DiscoverArgs {
    /// The FHIR base URL, or the issuer
    pub(super) url: String,
    /// What kind of system it is, where that is known
    #[arg(long, value_name = "NAME")]
    pub(super) profile: Option<String>,
    /// Hallmark's name for the client (default: after the host)
    #[arg(long, value_name = "NAME")]
    pub(super) name: Option<String>,
    /// CA certificates to trust instead of the system's
    #[arg(long, value_name = "FILE")]
    pub(super) ca: Option<PathBuf>,
}

#[derive(Clone, Debug, Args)]
pub(super) struct DoctorArgs {
    /// Hallmark's name of the OAuth client (default: every client, for an operator)
    pub(super) client: Option<String>,
    /// The server's configuration: looks at its HSMs too, on the machine that has them
    #[arg(long, value_name = "FILE")]
    pub(super) config: Option<PathBuf>,
    /// Where the server is and who asks as an operator, where --connection is a workload's
    #[arg(long, value_name = "FILE")]
    pub(super) operator: Option<PathBuf>,
    /// CA certificates to trust instead of the system's, for the JWKS URL and the authorization server
    #[arg(long, value_name = "FILE")]
    pub(super) ca: Option<PathBuf>,
    /// Asks the authorization server for an access token, too
    #[arg(long)]
    pub(super) live: bool,
    /// What to ask for with --live, separated by spaces
    #[arg(long, requires = "live")]
    pub(super) scope: Option<String>,
}

#[derive(Clone, Debug, Args)]
#[command(args_conflicts_with_subcommands = true, arg_required_else_help = true)]
pub(super) struct JwksArgs {
    #[command(subcommand)]
    pub(super) command: Option<JwksCommand>,
    /// Hallmark's name of the OAuth client
    pub(super) client: Option<String>,
}

#[derive(Clone, Debug, Subcommand)]
pub(super) enum JwksCommand {
    /// Prints a client's JWKS, also of one called `check` or `export`
    Show(JwksShowArgs),
    /// Fetches the JWKS URL as an authorization server would, and compares
    Check(JwksCheckArgs),
    /// Writes the documents into a folder, for a static host (as an operator)
    Export(JwksExportArgs),
}

#[derive(Clone, Debug, Args)]
pub(super) struct JwksShowArgs {
    /// Hallmark's name of the OAuth client
    pub(super) client: String,
}

#[derive(Clone, Debug, Args)]
pub(super) struct JwksCheckArgs {
    /// Hallmark's name of the OAuth client
    pub(super) client: String,
    /// CA certificates to trust beside the system's, where the URL is not on the open internet
    #[arg(long, value_name = "FILE")]
    pub(super) ca: Option<PathBuf>,
}

#[derive(Clone, Debug, Args)]
pub(super) struct JwksExportArgs {
    /// Where to; each document goes to the path of its URL below it
    #[arg(value_name = "DIR")]
    pub(super) dir: PathBuf,
    /// Only this client; may be repeated
    #[arg(long = "client", value_name = "NAME")]
    pub(super) clients: Vec<String>,
    /// Goes on, and writes each change as it comes
    #[arg(long)]
    pub(super) watch: bool,
}
