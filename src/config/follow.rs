//! Reads `[follow]`, and what else `serve --role jwks` needs of a configuration.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    time::Duration,
};

use hallmark_core::{
    client::Client,
    key::{Alg, ClientName},
};

use super::{
    ConfigError, Jwks, Metrics, Problem, Role, Rotation, Store, TlsFiles, UnsafeTesting, defaults,
    problem::{At, Place, Problems},
    read_parts,
    section::Section,
    server::tls,
    url::Url,
    value::Mismatch,
};

/// What `serve --role jwks` needs: no HSM, no audit log, nobody who signs.
#[derive(Clone, Debug)]
pub struct Follower {
    pub jwks: Jwks,
    pub metrics: Option<Metrics>,
    pub source: Source,
    pub warnings: Vec<Problem>,
}

/// Where the key sets come from.
#[derive(Clone, Debug)]
pub enum Source {
    /// From a server that signs.
    Signer(Follow),
    /// From the records themselves.
    Store(Box<Read>),
}

/// What is read from a store that others write, and by which rules those change it.
#[derive(Clone, Debug)]
pub struct Read {
    pub store: Store,
    pub clients: Vec<Client>,
    /// How often each client's keys of an algorithm are to be replaced.
    pub rotate: BTreeMap<(ClientName, Alg), Duration>,
    pub rotation: Rotation,
    pub unsafe_testing: Option<UnsafeTesting>,
}

/// `[follow]`: which server's key sets are served.
#[derive(Clone, Debug)]
pub struct Follow {
    /// `https://HOST:PORT` of the server's gRPC listener.
    pub address: String,
    /// The certificate that is shown there, and its key.
    pub tls: TlsFiles,
    /// CA certificates, PEM, that vouch for the server.
    pub ca: PathBuf,
    /// Where the last set is kept.
    pub state_dir: PathBuf,
    /// A set older than this is served with an alarm.
    pub max_stale: Duration,
}

/// Reads and checks the configuration of `serve --role jwks`: as [`super::load`], for what that role needs. The other
/// sections may be there, and are read as strictly; they have no effect.
///
/// # Errors
/// Every problem of every file.
#[expect(clippy::unwrap_used, reason = "`Unwrap safety` below")]
pub fn load(path: &Path) -> Result<Follower, ConfigError> {
    let problems = Problems::default();
    let follower = read_follower(path, &problems);
    if follower.is_none() && problems.is_empty() {
        let place = Place { file: path.into(), line: None };
        problems.error(&place, "refused, and no reason was noted", "this is a bug: please report it with the file");
    }
    let warnings = problems.finish()?;
    // Unwrap safety: where there is no configuration, there is a problem, and `finish` has returned it.
    Ok(Follower { warnings, ..follower.unwrap() })
}

fn read_follower(path: &Path, problems: &Problems) -> Option<Follower> {
    let (server, _, clients, _) = read_parts(path, Role::Jwks, problems)?;
    let place = Place { file: path.into(), line: None };
    let source = match (server.follow, server.store) {
        (Some(follow), _) => Source::Signer(follow),
        // What is wrong with [follow] was said already.
        (None, Some(store)) if problems.is_empty() => {
            if store.url.starts_with("sqlite:") {
                let what = "`serve --role jwks` can't read SQLite: the file belongs to the one process that signs";
                problems.error(&place, what, FOLLOW_HINT);
            }
            if server.jwks.as_ref().is_some_and(|jwks| jwks.state_dir.is_none()) {
                let what =
                    "`state_dir` in [jwks] is missing: after a start without the database there is nothing to serve";
                problems.warn(&place, what, "add `state_dir = \"/var/lib/hallmark-jwks\"` to [jwks]");
            }
            Source::Store(Box::new(Read {
                store,
                clients: clients.list,
                rotate: clients.rotation,
                rotation: server.rotation,
                unsafe_testing: server.unsafe_testing,
            }))
        }
        _ => {
            if problems.is_empty() {
                problems.error(
                    &place,
                    "`serve --role jwks` has nothing to serve: no [follow], and no [store]",
                    FOLLOW_HINT,
                );
            }
            return None;
        }
    };
    Some(Follower { jwks: server.jwks?, metrics: server.metrics, source, warnings: Vec::new() })
}

pub(super) fn read(s: &Section<'_>) -> Option<Follow> {
    let address = s.required::<String>("address", "\"https://hallmark.internal:8443\"");
    let tls = tls(s);
    if !s.has("tls") {
        let hint = "add `tls = { cert = \"follower.pem\", key = \"follower.key\" }`: the server asks who follows";
        s.error(s.place(), "`tls` in [follow] is missing", hint);
    }
    let ca = s.required::<PathBuf>("ca", "\"server-ca.pem\"");
    let state_dir = s.required::<PathBuf>("state_dir", "\"/var/lib/hallmark-jwks\"");
    let max_stale = max_stale(s);
    let address = address.and_then(|address| check_address(s, address));
    Some(Follow { address: address?, tls: tls?, ca: ca?.value, state_dir: state_dir?.value, max_stale })
}

/// How old a set may be without an alarm.
pub(super) fn max_stale(s: &Section<'_>) -> Duration {
    s.within("max_stale", defaults::max_stale(), &(Duration::from_mins(1)..=Duration::from_hours(24 * 30)))
}

fn check_address(s: &Section<'_>, At { value: text, place }: At<String>) -> Option<String> {
    let hint = "write host and port of the server's [grpc] listener, as in `https://hallmark.internal:8443`";
    match Url::check(&text) {
        Ok(url) if url.https && url.rest.is_empty() => return Some(text),
        Ok(_) => s.error(&place, format!("`address` in [follow] is not `https://HOST:PORT`: `{text}`"), hint),
        Err(Mismatch { what, .. }) => s.error(&place, format!("`address` in [follow]: {what}"), hint),
    }
    None
}

const FOLLOW_HINT: &str = "add [follow] with the server whose key sets are to be served; `hsm-config/follower.toml` is one \
                           to start from";
