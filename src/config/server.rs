//! Reads what stands once: `[instance]`, `[grpc]`, `[jwks]`, `[metrics]`, `[store]`, `[audit]`, `[rotation]`, `[follow]`
//! and `[unsafe_testing]`.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use hallmark_core::{
    evidence::roots::Roots,
    policy::{Guarded, Identity},
};

use super::{
    Approval, Audit, Connections, Follow, Grpc, Instance, Jwks, Metrics, Role, Rotation, Store, TlsFiles,
    UnsafeTesting, attestation, defaults, follow,
    problem::{At, Place},
    section::Section,
    store,
    url::Url,
    value::Mismatch,
};

/// What stands in the main file once. A field is `None` where its section is absent or (reported) wrong.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) instance: Option<Instance>,
    /// Whose attestation of a key counts.
    pub(super) roots: Roots,
    pub(super) grpc: Option<Grpc>,
    pub(super) jwks: Option<Jwks>,
    pub(super) metrics: Option<Metrics>,
    pub(super) store: Option<Store>,
    pub(super) audit: Option<Audit>,
    pub(super) follow: Option<Follow>,
    /// Where `[grpc] unix` stands.
    pub(super) socket_place: Option<Place>,
    /// Each of `[jwks] followers`, with the place of the list.
    pub(super) follower_places: Vec<At<Identity>>,
    /// Whether `[jwks] public_url` was written down.
    pub(super) has_public_url: bool,
    pub(super) rotation: Rotation,
    pub(super) approval: Approval,
    /// Where `[approval]` stands.
    pub(super) approval_place: Option<Place>,
    pub(super) unsafe_testing: Option<UnsafeTesting>,
}

impl Server {
    pub(super) fn read(root: &Section<'_>, role: Role) -> Self {
        let (mut listeners, mut follower_places) = (Listeners::default(), Vec::new());
        let (mut has_public_url, mut socket_place) = (false, None);
        if role == Role::All && root.has("follow") {
            let what = "[follow] is for `serve --role jwks`: this server publishes what it manages itself";
            root.warn(&root.place_of("follow"), what, "take the section out, or serve with `--role jwks`");
        }
        let mut roots = Roots::yubico();
        Self {
            instance: needed(root, role, "instance", |s| {
                roots = attestation::roots(s);
                instance(s)
            })
            .flatten(),
            grpc: needed(root, role, "grpc", |s| {
                socket_place = s.has("unix").then(|| s.place_of("unix"));
                grpc(s, &mut listeners)
            }),
            jwks: root
                .table_or_empty("jwks", |s| {
                    has_public_url = s.has("public_url");
                    jwks(s, role, &mut listeners, &mut follower_places)
                })
                .flatten(),
            metrics: root.table("metrics", |s| metrics(s, &mut listeners)).flatten(),
            store: needed(root, role, "store", store::read).flatten(),
            audit: needed(root, role, "audit", audit).flatten(),
            rotation: root.table("rotation", rotation).unwrap_or_else(defaults::rotation),
            approval: root.table("approval", approval).unwrap_or_else(defaults::approval),
            approval_place: root.has("approval").then(|| root.place_of("approval")),
            follow: root.table("follow", follow::read).flatten(),
            unsafe_testing: root.table("unsafe_testing", unsafe_testing),
            socket_place,
            roots,
            follower_places,
            has_public_url,
        }
    }

    /// The files that hold private keys and passwords.
    pub(super) fn key_files(&self) -> impl Iterator<Item = PathBuf> {
        let grpc = self.grpc.as_ref().and_then(|grpc| grpc.tls.as_ref());
        let jwks = self.jwks.as_ref().and_then(|jwks| jwks.tls.as_ref());
        let password = self.store.as_ref().and_then(|store| store.password_file.clone());
        grpc.into_iter().chain(jwks).map(|tls| tls.key.clone()).chain(password)
    }
}

/// A section that only a process which signs can't do without.
fn needed<T>(root: &Section<'_>, role: Role, key: &'static str, read: impl FnOnce(&Section<'_>) -> T) -> Option<T> {
    match role {
        Role::All => root.table_or_empty(key, read),
        Role::Jwks => root.table(key, read),
    }
}

/// Files of `clients.d` hold clients and workloads only, so that whoever may add those can change nothing else.
pub(super) fn refuse_in_parts(root: &Section<'_>) {
    for key in [
        "instance",
        "grpc",
        "jwks",
        "metrics",
        "store",
        "audit",
        "rotation",
        "approval",
        "trust",
        "issuer",
        "hsm",
        "operator",
        "follow",
        "unsafe_testing",
    ] {
        root.refuse(key, "belongs into the main file, not into `clients.d`", "move the section to the main file");
    }
}

fn instance(s: &Section<'_>) -> Option<Instance> {
    let At { value: id, place } = s.required::<String>("id", "\"a\"")?;
    let valid = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.');
    if id.is_empty() || id.len() > 63 || id.starts_with('.') || !id.bytes().all(valid) {
        let what = format!("not an instance id: `{id}`");
        s.error(&place, what, "choose 1 to 63 of A-Z, a-z, 0-9, -, _ and ., the first no dot: it names audit files");
    }
    Some(Instance { id })
}

fn grpc(s: &Section<'_>, listeners: &mut Listeners) -> Grpc {
    let listen = s.get::<SocketAddr>("listen");
    let unix = s.get("unix").map(|unix| unix.value);
    let tls = tls(s);
    let reflection = s.get("reflection").map_or_else(defaults::reflection, |on| on.value);
    let connections = connections(s);
    if !s.has("listen") && !s.has("unix") {
        let hint = "add `listen = \"0.0.0.0:8443\"` with `tls`, or `unix = \"/run/hallmark/hallmark.sock\"`";
        s.error(s.place(), "no listener: [grpc] has neither `listen` nor `unix`", hint);
    }
    if let Some(listen) = &listen {
        listeners.add(s, listen);
        if !s.has("tls") {
            no_grpc_tls(s, listen);
        }
    }
    Grpc { listen: listen.map(|listen| listen.value), unix, tls, reflection, connections }
}

fn no_grpc_tls(s: &Section<'_>, listen: &At<SocketAddr>) {
    let hint = "add `tls = { cert = \"server.pem\", key = \"server.key\" }`; local callers can use `unix` instead";
    if listen.value.ip().is_loopback() {
        let what = "`listen` in [grpc] without `tls`: callers on it have no identity, so that nobody can sign there";
        s.warn(&listen.place, what, hint);
    } else {
        let what = format!("`listen` in [grpc] can be reached from outside without `tls`: `{}`", listen.value);
        s.error(&listen.place, what, hint);
    }
}

fn jwks(
    s: &Section<'_>,
    role: Role,
    listeners: &mut Listeners,
    follower_places: &mut Vec<At<Identity>>,
) -> Option<Jwks> {
    let listen = s.required::<SocketAddr>("listen", "\"0.0.0.0:8080\"");
    let tls = tls(s);
    let behind_proxy = s.get("behind_proxy").map_or_else(defaults::behind_proxy, |on| on.value);
    let connections = connections(s);
    let max_age = s.within("max_age", defaults::max_age(), &(Duration::ZERO..=DAY));
    let state_dir = s.get::<PathBuf>("state_dir").map(|dir| dir.value);
    let max_stale = follow::max_stale(s);
    let public_url = s.get::<String>("public_url");
    if let Some(url) = &public_url {
        check_public_url(s, url, behind_proxy);
    }
    if max_age > defaults::max_age() {
        let what = "`max_age` in [jwks] is long: for that time a verifier may go on accepting a key that was revoked";
        let hint = "`5m`, the default, is hardly ever too short: serving a JWKS costs next to nothing";
        s.warn(&s.place_of("max_age"), what, hint);
    }
    let followers = s.get::<Vec<Identity>>("followers");
    let followers = followers.map_or_else(Vec::new, |At { value, place }| {
        follower_places.extend(value.iter().map(|id| At { value: id.clone(), place: place.clone() }));
        value
    });

    let listen = listen?;
    listeners.add(s, &listen);
    check_reach(s, &listen, role, behind_proxy, !followers.is_empty());
    let listen = listen.value;
    let scheme = if tls.is_some() { "https" } else { "http" };
    let public_url = public_url.map_or_else(|| defaults::public_url(scheme, listen), |url| url.value);
    Some(Jwks { listen, followers, public_url, tls, behind_proxy, connections, max_age, state_dir, max_stale })
}

/// What reaches further than this host needs TLS, and a URL that others can use.
fn check_reach(s: &Section<'_>, listen: &At<SocketAddr>, role: Role, behind_proxy: bool, followed: bool) {
    let At { value: listen, place } = listen;
    let loopback = listen.ip().is_loopback();
    if !loopback && !s.has("tls") && !behind_proxy {
        let what = format!("`listen` in [jwks] can be reached from outside without `tls`: `{listen}`");
        s.error(place, what, "add `tls = { cert = …, key = … }`, or `behind_proxy = true` where a proxy ends TLS");
    }
    // Whoever manages the keys hands out the URLs; a follower only answers there.
    if role == Role::All && (!loopback || followed) && !s.has("public_url") {
        let hint = "add `public_url = \"https://HOST\"`, as authorization servers will see it";
        s.error(s.place(), "`public_url` in [jwks] is missing", hint);
    }
}

fn connections(s: &Section<'_>) -> Connections {
    let (total, per_address) = defaults::connections();
    let total = s.within("connections", total, &(16..=1_000_000));
    let per_address = s.within("connections_per_address", per_address.min(total), &(1..=1_000_000));
    if per_address > total {
        let what = format!("`connections_per_address` is more than there may be in all: `{total}`");
        s.warn(&s.place_of("connections_per_address"), what, "raise `connections` too, or lower it");
    }
    let count = |count: u32| usize::try_from(count).unwrap_or(usize::MAX);
    Connections { total: count(total), per_address: count(per_address) }
}

fn check_public_url(s: &Section<'_>, At { value: text, place }: &At<String>, behind_proxy: bool) {
    let url = match Url::check(text) {
        Ok(url) => url,
        Err(Mismatch { what, hint }) => return s.error(place, format!("`public_url` in [jwks]: {what}"), hint),
    };
    let (base, path) = text.split_at(text.len() - url.rest.len());
    let (path, query) = path.split_at(path.find('?').unwrap_or(path.len()));
    let path = path.trim_end_matches('/');
    if !path.is_empty() && !behind_proxy {
        let what = format!("`public_url` in [jwks] has a path: `{path}`");
        let hint = format!("write `{base}`; a path works only where a proxy takes it off (`behind_proxy = true`)");
        s.error(place, what, hint);
    } else if url.rest.len() > path.len() {
        let more = if query.is_empty() { "ends in a slash" } else { "has a query" };
        let what = format!("`public_url` in [jwks] {more}, and paths are appended to it: `{text}`");
        s.error(place, what, format!("write `{base}{path}`"));
    }
    if url.is_exposed() {
        let what = format!("`public_url` in [jwks] is plain http: `{text}`");
        let hint = "use https: who can change the JWKS on its way can make an authorization server accept other keys";
        s.warn(place, what, hint);
    }
}

fn metrics(s: &Section<'_>, listeners: &mut Listeners) -> Option<Metrics> {
    let listen = s.required::<SocketAddr>("listen", "\"127.0.0.1:9464\"")?;
    listeners.add(s, &listen);
    Some(Metrics { listen: listen.value })
}

fn audit(s: &Section<'_>) -> Option<Audit> {
    let dir = s.required("dir", "\"/var/lib/hallmark/audit\"");
    let every = Duration::from_secs(1)..=DAY;
    let checkpoint_every = s.within("checkpoint_every", defaults::checkpoint_every(), &every);
    let max_file = s.within("max_file_mib", defaults::max_file_mib(), &(1..=65_536));
    Some(Audit { dir: dir?.value, checkpoint_every, max_file: u64::from(max_file) << 20 })
}

fn rotation(s: &Section<'_>) -> Rotation {
    let default = defaults::rotation();
    let every = s.within("every", default.every, &(Duration::from_secs(1)..=Duration::from_mins(1)));
    let line_timeout = s.within("line_timeout", default.line_timeout, &(Duration::from_mins(1)..=30 * DAY));
    let destroy_after = s.get::<Duration>("destroy_after");
    let destroy_after = destroy_after.map(|_| s.within("destroy_after", YEAR, &(30 * DAY..=100 * YEAR)));
    let require_rehearsal = s.get("require_rehearsal").map_or(default.require_rehearsal, |on| on.value);
    let warning = s.within("certificate_warning", default.certificate_warning, &(DAY..=YEAR));
    Rotation { every, line_timeout, destroy_after, require_rehearsal, certificate_warning: warning }
}

fn approval(s: &Section<'_>) -> Approval {
    let default = defaults::approval();
    let require = s.required::<Vec<Guarded>>("require", "[\"destroy\", \"force\"]");
    let require = require.map(|list| list.value).unwrap_or_default();
    if require.contains(&Guarded::Revoke) {
        let what =
            "`require` in [approval] has \"revoke\": until a second operator is found, whoever has the key can sign";
        s.warn(&s.place_of("require"), what, "take it out, unless a wrong revocation would be worse than a late one");
    }
    let expires = s.within("expires", default.expires, &(Duration::from_mins(1)..=30 * DAY));
    Approval { require, expires }
}

fn unsafe_testing(s: &Section<'_>) -> UnsafeTesting {
    let what = "[unsafe_testing] is for tests: `serve` refuses it without `--unsafe-testing`";
    s.warn(s.place(), what, "take the section out for production");
    let time = |key| s.get::<Duration>(key).map(|time| time.value);
    UnsafeTesting {
        audit_sync_delay: time("audit_sync_delay"),
        sweep_every: time("sweep_every"),
        rotate_every: time("rotate_every"),
        lead: time("lead"),
        keep: time("keep"),
        line_timeout: time("line_timeout"),
        hsm_stuck_after: time("hsm_stuck_after"),
    }
}

pub(super) fn tls(s: &Section<'_>) -> Option<TlsFiles> {
    let files = |s: &Section<'_>| {
        let (cert, key) = (s.required("cert", "\"server.pem\""), s.required("key", "\"server.key\""));
        Some(TlsFiles { cert: cert?.value, key: key?.value })
    };
    s.table("tls", files).flatten()
}

/// The addresses so far: two listeners on one would fail late, at the second one's start.
#[derive(Default)]
struct Listeners(Vec<At<SocketAddr>>);

impl Listeners {
    fn add(&mut self, s: &Section<'_>, new: &At<SocketAddr>) {
        if let Some(old) = self.0.iter().find(|old| collide(old.value, new.value)) {
            let what = format!("two listeners on one address: `{}`", new.value);
            s.error(&new.place, what, format!("choose another port than at {}", old.place));
        }
        self.0.push(new.clone());
    }
}

fn collide(a: SocketAddr, b: SocketAddr) -> bool {
    let same_ip = a.ip() == b.ip() || a.ip().is_unspecified() || b.ip().is_unspecified();
    // Port 0 asks the system for any free one.
    a.port() != 0 && a.port() == b.port() && same_ip
}

const DAY: Duration = Duration::from_hours(24);
const YEAR: Duration = Duration::from_hours(24 * 365);
