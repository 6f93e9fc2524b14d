//! Settings: TOML, strict, read once into an immutable [`Config`].
//!
//! [`load`] reads everything, checks everything, and reports all problems together, each with its place and a hint.
//! `docs/config.md` describes the keys; a test holds it against the parser. Each section has its reader in a file here:
//! they ask a `Section` for their keys, and what nobody asked for is an unknown key.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use hallmark_core::{
    client::Client,
    evidence::roots::Roots,
    key::{Alg, ClientName, HsmName},
    policy::{Book, Explanation, Guarded, Identity, OperatorRole, Policy, Question, Roles, Scope, Workload, lint},
};

mod access;
mod assertion;
mod attestation;
mod cka_id;
mod client;
mod client_id;
mod defaults;
mod devices;
mod follow;
mod hsm;
mod issuer;
mod json;
mod keys;
mod problem;
mod reference;
mod section;
mod server;
mod source;
mod store;
mod url;
mod value;
mod yubikey;

pub use cka_id::{CkaId, NotHexadecimal};
pub use client::{MAX_JWKS_KEYS, published_keys};
pub use devices::{Device, Hsm, Pkcs11, TokenSelector, Yubikey};
pub use follow::{Follow, Follower, Read as FollowedStore, Source as FollowedSource, load as load_follower};
pub use issuer::{Issuer, JwksSource};
pub use problem::{ConfigError, Problem};
pub use reference::typed_pin_source;
pub use yubikey::slots_needed;

use access::Access;
use client::Clients;
use client_id::IdFiles;
use hsm::Hsms;
use problem::{Place, Problems};
use section::Section;
use server::Server;
use source::{PARTS, Source};

/// Reads and checks the configuration at `path` and in `clients.d/*.toml` beside it.
///
/// Opens no file that it names, except `attestation_roots` and each `client_id_file`: whoever uses them reports them.
///
/// # Errors
/// Every problem of every file. What is allowed but looks unintended is in [`Config::warnings`].
#[expect(clippy::unwrap_used, reason = "`Unwrap safety` below")]
pub fn load(path: &Path) -> Result<Config, ConfigError> {
    let problems = Problems::default();
    let config = read(path, &problems);
    if config.is_none() && problems.is_empty() {
        let place = Place { file: path.into(), line: None };
        problems.error(&place, "refused, and no reason was noted", "this is a bug: please report it with the file");
    }
    let warnings = problems.finish()?;
    // Unwrap safety: where there is no configuration, there is a problem, and `finish` has returned it.
    Ok(Config { warnings, ..config.unwrap() })
}

/// The whole configuration: checked, consistent, never changed. A reload makes another.
#[derive(Clone, Debug)]
pub struct Config {
    pub instance: Instance,
    pub grpc: Grpc,
    pub jwks: Jwks,
    pub metrics: Option<Metrics>,
    pub store: Store,
    pub audit: Audit,
    pub rotation: Rotation,
    pub approval: Approval,
    pub trusts: Vec<Trust>,
    pub issuers: Vec<Issuer>,
    pub hsms: Vec<Hsm>,
    /// HSMs that another replica has: clients may have keys there.
    pub hsms_elsewhere: BTreeSet<HsmName>,
    pub clients: Vec<Client>,
    /// How often each client's keys of an algorithm are to be replaced.
    pub rotate: BTreeMap<(ClientName, Alg), Duration>,
    pub workloads: Vec<Workload>,
    pub operators: Vec<(Identity, Vec<OperatorRole>)>,
    /// Where all of these stand, and who vouches for whom.
    pub book: Book,
    /// Whose attestation of a key counts: Yubico's, and those of `attestation_roots`.
    pub roots: Arc<Roots>,
    /// `serve` refuses a configuration that has it, unless it is started with `--unsafe-testing`.
    pub unsafe_testing: Option<UnsafeTesting>,
    pub warnings: Vec<Problem>,
}

impl Config {
    /// What all HSM modules want in the environment. Read by C libraries with `getenv`, so it must be set while the
    /// process has a single thread.
    pub fn module_env(&self) -> BTreeMap<&str, &str> {
        let all = self.hsms.iter().filter_map(Hsm::pkcs11).flat_map(|pkcs11| &pkcs11.module_env);
        all.map(|(name, value)| (name.as_str(), value.as_str())).collect()
    }

    /// What is allowed in the policy and hardly meant.
    pub fn lint(&self) -> Vec<lint::Finding> {
        let Self { clients, workloads, operators, book, .. } = self;
        lint::lint(lint::Facts { clients, workloads, operators, book })
    }

    /// Answers by core's own decision, as the server would.
    pub fn explain(&self, question: &Question) -> Explanation {
        let policy = Policy::new(self.workloads.iter().cloned(), self.operators.iter().cloned());
        let client = match question {
            Question::Sign { client, .. } => self.clients.iter().find(|known| known.name == *client),
            Question::Operate { .. } => None,
        };
        policy.explain(&self.book, question, client)
    }

    /// The URL under which an authorization server finds the client's keys.
    pub fn jwks_url(&self, client: &Client) -> String {
        format!("{}{}", self.jwks.public_url, client.jwks_path())
    }
}

/// `[instance]`: which replica this is.
#[derive(Clone, Debug)]
pub struct Instance {
    /// Names the replica's audit chain.
    pub id: String,
}

/// `[grpc]`: where backend services call. At least one of `listen` and `unix` is set.
#[derive(Clone, Debug)]
pub struct Grpc {
    pub listen: Option<SocketAddr>,
    pub unix: Option<PathBuf>,
    /// Set wherever `listen` is not a loopback address.
    pub tls: Option<TlsFiles>,
    /// Whether reflection is open to all.
    pub reflection: bool,
    /// Of each of the two.
    pub connections: Connections,
}

/// How many connections a listener has open at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connections {
    pub total: usize,
    /// From one address (IPv6: one /64); not of a Unix socket.
    pub per_address: usize,
}

/// `[jwks]`: where authorization servers read keys.
#[derive(Clone, Debug)]
pub struct Jwks {
    pub listen: SocketAddr,
    /// Who serves the key sets to the world, by following this server. Empty: it does so itself.
    pub followers: Vec<Identity>,
    /// Scheme and host (with a path only behind a proxy), without a slash at the end.
    pub public_url: String,
    pub tls: Option<TlsFiles>,
    pub behind_proxy: bool,
    pub connections: Connections,
    /// How long verifiers may cache a JWK Set.
    pub max_age: Duration,
    /// Where `serve --role jwks` keeps the last set that it read from [store].
    pub state_dir: Option<PathBuf>,
    /// A set older than this is served with an alarm.
    pub max_stale: Duration,
}

/// `[metrics]`: where Prometheus scrapes, and health is read.
#[derive(Clone, Debug)]
pub struct Metrics {
    pub listen: SocketAddr,
}

/// A certificate chain and its private key, both PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsFiles {
    pub cert: PathBuf,
    pub key: PathBuf,
}

/// `[store]`: where key records are kept.
#[derive(Clone, Debug)]
pub struct Store {
    /// `sqlite:///` and an absolute path, or `postgres://…` without a password.
    pub url: String,
    /// Holds the password for PostgreSQL.
    pub password_file: Option<PathBuf>,
    /// How long a replica may sign after it last read its records; at most five minutes.
    pub lease: Duration,
}

/// `[audit]`: where the audit log is written.
#[derive(Clone, Debug)]
pub struct Audit {
    pub dir: PathBuf,
    /// How long records stay without a checkpoint at most, as long as an HSM is up.
    pub checkpoint_every: Duration,
    /// A file that has grown to so many bytes is followed by the next one.
    pub max_file: u64,
}

/// `[rotation]`: what all clients' keys obey.
#[derive(Clone, Debug)]
pub struct Rotation {
    /// How often it is looked at what is due.
    pub every: Duration,
    /// An HSM that has not answered for so long leaves signing to others.
    pub line_timeout: Duration,
    /// When keys that ended are destroyed on the HSM; `None`: when an operator says so.
    pub destroy_after: Option<Duration>,
    /// A key must have been seen at the public URL before it signs.
    pub require_rehearsal: bool,
    /// How long ahead to warn of the end of a certificate.
    pub certificate_warning: Duration,
}

/// `[approval]`: what waits for a second operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Approval {
    pub require: Vec<Guarded>,
    /// After how long a proposal is over.
    pub expires: Duration,
}

/// `[[trust]]`: who vouches for callers, and for which.
#[derive(Clone, Debug)]
pub struct Trust {
    /// CA certificates, PEM.
    pub bundle: PathBuf,
    pub scope: Scope,
    pub roles: Roles,
}

/// `[unsafe_testing]`: what makes tests fast or faults visible, and has no place in production.
#[derive(Clone, Debug)]
pub struct UnsafeTesting {
    /// Each audit sync takes this much longer, as a slow disk would.
    pub audit_sync_delay: Option<Duration>,
    /// In place of `every` in `[rotation]`.
    pub sweep_every: Option<Duration>,
    /// In place of each `rotate`.
    pub rotate_every: Option<Duration>,
    /// For how long a key must be published before it signs.
    pub lead: Option<Duration>,
    /// For how long a key that signed stays published.
    pub keep: Option<Duration>,
    /// In place of `line_timeout` in `[rotation]`.
    pub line_timeout: Option<Duration>,
    /// After how long a call into an HSM's library counts as stuck; the limits that follow from it shrink alike.
    pub hsm_stuck_after: Option<Duration>,
}

/// What a process does, and so which sections it needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    All,
    Jwks,
}

fn read(path: &Path, problems: &Problems) -> Option<Config> {
    let (server, hsms, clients, access) = read_parts(path, Role::All, problems)?;
    let jwks = server.jwks?;
    let with_url = |mut client: Client| {
        client.jwks_url = Some(format!("{}{}", jwks.public_url, client.jwks_path()));
        client
    };
    Some(Config {
        clients: clients.list.into_iter().map(with_url).collect(),
        instance: server.instance?,
        grpc: server.grpc?,
        jwks,
        metrics: server.metrics,
        store: server.store?,
        audit: server.audit?,
        rotation: server.rotation,
        approval: server.approval,
        trusts: access.trusts,
        issuers: access.issuers,
        hsms: hsms.list,
        hsms_elsewhere: hsms.others.into_keys().collect(),
        rotate: clients.rotation,
        workloads: access.workloads,
        operators: access.operators,
        book: access.book,
        roots: Arc::new(server.roots),
        unsafe_testing: server.unsafe_testing,
        warnings: Vec::new(),
    })
}

/// Reads what stands in one file, whatever comes; for the fuzz target.
pub fn try_text(text: String) -> Result<(), ConfigError> {
    let problems = Problems::default();
    let source = Source::new(Path::new("hallmark.toml"), Path::new("/nowhere"), text);
    drop(read_sources(&[source], Role::All, &problems));
    problems.finish().map(drop)
}

type Parts = (Server, Hsms, Clients, Access);

/// Everything that the files say, for whoever takes what its role needs.
fn read_parts(path: &Path, role: Role, problems: &Problems) -> Option<Parts> {
    read_sources(&Source::read_all(path, problems)?, role, problems)
}

fn read_sources(sources: &[Source], role: Role, problems: &Problems) -> Option<Parts> {
    // All are parsed before one is judged, so that every syntax error shows.
    let documents: Vec<_> = sources.iter().map(|source| source.parse(problems)).collect();
    let documents: Vec<_> = documents.into_iter().collect::<Option<_>>()?;

    let (mut server, mut hsms, mut clients, mut access) =
        (None::<Server>, Hsms::default(), Clients::default(), Access::default());
    hsms.elsewhere = role == Role::Jwks;
    let mut id_files = IdFiles { within: None, secrets: Vec::new() };
    for (n, (source, document)) in sources.iter().zip(&documents).enumerate() {
        Section::document(source, document, problems, |root| {
            // The first is the main file.
            if n == 0 {
                let read = Server::read(root, role);
                hsms.read(root);
                id_files.secrets = read.key_files().chain(hsms.pin_files()).collect();
                server = Some(read);
                access.read_trusts_and_operators(root);
            } else {
                server::refuse_in_parts(root);
                id_files.within = Some(source.resolve(Path::new(PARTS)));
            }
            clients.read(root, &hsms, &id_files);
            access.read_workloads(root);
        });
    }
    let mut parts = (server?, hsms, clients, access);
    if role == Role::All {
        check_together(&mut parts, sources[0].path(), problems);
    }
    Some(parts)
}

/// What no section can be told by itself.
fn check_together((server, hsms, clients, access): &mut Parts, main: &Path, problems: &Problems) {
    access.complete_book(clients, server.grpc.as_ref(), server.socket_place.as_ref());
    access.check(clients, main, problems);
    if let (Some(store), Some(jwks)) = (&server.store, &server.jwks) {
        clients.check_single_writer(store, jwks, problems);
    }
    access.check_followers(&server.follower_places, problems);
    access.check_approvers(&server.approval, server.approval_place.as_ref(), problems);
    clients.check_static_hosts(server.has_public_url, problems);
    if let Some(store) = &server.store {
        hsms.check_store(&store.url, problems);
    }
    let destroys = server.rotation.destroy_after.is_some();
    hsms.yubikeys.check_slots(&hsms.list, &clients.list, &clients.rotation, destroys, problems);
}

#[cfg(test)]
mod tests;
