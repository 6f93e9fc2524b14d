//! Reads `[[client]]`.

use std::{
    collections::{BTreeMap, HashMap},
    time::Duration,
};

use hallmark_core::{
    client::{Client, Custody, JwksHost, pem_path},
    key::{Alg, ClientName, HsmName},
    profile::Profile,
};

use super::{
    Jwks, Store,
    assertion::{Assertions, assertions},
    client_id::{IdFiles, client_id},
    defaults,
    hsm::Hsms,
    keys::keys,
    problem::{At, Place, Problems},
    section::Section,
    url::Url,
    value::{Mismatch, nearest},
};

/// The most keys that a JWK Set may hold: one of the verifiers reads fifty and no more.
pub const MAX_JWKS_KEYS: usize = 48;

/// How many keys the client's JWK Set holds at its fullest: active, standby and deactivated of each key line.
pub fn published_keys(client: &Client) -> usize {
    3 * client.keys.len() * client.hsms.len()
}

/// The clients so far, of all files, and what no two of them may share.
#[derive(Debug, Default)]
pub(super) struct Clients {
    pub(super) list: Vec<Client>,
    pub(super) rotation: BTreeMap<(ClientName, Alg), Duration>,
    /// Of all sections, the faulty ones included: references to those are no problem of their own.
    pub(super) names: BTreeMap<ClientName, Place>,
    /// By the path of the active key's PEM: that of the JWKS, and where it was said.
    pems: HashMap<String, (String, Place)>,
    /// Where a static host was named.
    static_hosts: Vec<Place>,
}

impl Clients {
    pub(super) fn read(&mut self, root: &Section<'_>, hsms: &Hsms, id_files: &IdFiles) {
        root.tables("client", |s| {
            let client = self.read_one(s, hsms, id_files);
            self.list.extend(client);
        });
    }

    fn read_one(&mut self, s: &Section<'_>, hsms: &Hsms, id_files: &IdFiles) -> Option<Client> {
        let (name, is_twin) = self.name(s);
        let client_id = client_id(s, id_files);
        let profile = profile(s);
        let token_endpoint = token_endpoint(s);
        let assertions = assertions(s, profile);
        let hsm_names = hsm_names(s, hsms);
        let keys = keys(s, profile);
        let custody = custody(s, hsm_names.as_deref(), hsms);
        let provision = s.get("provision").map_or_else(defaults::provision, |provision| provision.value);
        let keep_for = s.within("keep_for", defaults::keep_for(), &(Duration::ZERO..=YEAR));
        let edge_ttl = s.within("edge_ttl", defaults::edge_ttl(), &(Duration::ZERO..=30 * DAY));
        let jwks_path = jwks_path(s);
        let jwks_host = self.jwks_host(s, profile, edge_ttl);

        let name = name?;
        for (spec, rotate) in &keys {
            if let Some(rotate) = rotate {
                self.rotation.insert((name.clone(), spec.alg), *rotate);
            }
        }
        let Assertions { makes, lead, issuer, iss, claims, form } = assertions?;
        let client = Client {
            client_id,
            makes,
            lead,
            issuer,
            iss,
            claims,
            form,
            hsms: hsm_names?,
            keys: keys.into_iter().map(|(spec, _)| spec).collect(),
            custody,
            provision,
            keep_for,
            edge_ttl,
            jwks_path,
            jwks_host,
            ..Client::new(name, profile?, token_endpoint?)
        };
        if !is_twin {
            self.check_paths(s, &client);
        }
        check_size(s, &client);
        check_first_rsa_key(s, &client);
        Some(client)
    }

    /// And whether another section has it too.
    fn name(&mut self, s: &Section<'_>) -> (Option<ClientName>, bool) {
        let Some(At { value, place }) = s.required::<ClientName>("name", "\"epic-prod\"") else { return (None, false) };
        let twin = self.names.insert(value.clone(), place.clone());
        if let Some(other) = &twin {
            let hint = format!("rename this one or that at {other}");
            s.error(&place, format!("two clients of one name: `{value}`"), hint);
        }
        (Some(value), twin.is_some())
    }

    /// What signs for a verifier that takes the first RSA key must be what publishes, and alone in doing so.
    pub(super) fn check_single_writer(&self, store: &Store, jwks: &Jwks, problems: &Problems) {
        let shared = if !jwks.followers.is_empty() {
            "`followers` in [jwks] publish it a moment later"
        } else if !store.url.starts_with("sqlite:") {
            "replicas that share a database publish it a moment later"
        } else {
            return;
        };
        for client in self.list.iter().filter(|client| client.profile.jwks.first_rsa_key) {
            let Some(place) = self.names.get(&client.name) else { continue };
            let what = format!(
                "client `{}`: profile `{}` takes the first RSA key of the JWKS, and {shared}",
                client.name, client.profile.name
            );
            problems.error(place, what, "serve this client from one server of its own that publishes its JWKS itself");
        }
    }

    fn jwks_host(&mut self, s: &Section<'_>, profile: Option<&Profile>, edge_ttl: Duration) -> JwksHost {
        let Some(At { value, place }) = s.get::<JwksHost>("jwks_host") else { return defaults::jwks_host() };
        if value == JwksHost::Static {
            if edge_ttl.is_zero() {
                let what = "`jwks_host = \"static\"` in [[client]] without `edge_ttl`";
                s.error(&place, what, "set `edge_ttl` to how long the host and its caches may show an old document");
            }
            if profile.is_some_and(|profile| profile.jwks.first_rsa_key) {
                let what =
                    "`jwks_host = \"static\"` in [[client]]: its verifiers take the first key, whatever its `kid`";
                s.error(
                    &place,
                    what,
                    "a switch must reach them at once, and a static host is late: serve it by Hallmark",
                );
            }
            self.static_hosts.push(place);
        }
        value
    }

    /// What is looked at from outside must not be this server's own listener.
    pub(super) fn check_static_hosts(&self, has_public_url: bool, problems: &Problems) {
        for place in self.static_hosts.iter().filter(|_| !has_public_url) {
            let what = "`jwks_host = \"static\"` in [[client]], and [jwks] has no `public_url`";
            problems.error(
                place,
                what,
                "set `public_url` in [jwks] to the static host's: new keys wait until they are seen there",
            );
        }
    }

    /// Each client's documents have URLs of their own, for ever.
    fn check_paths(&mut self, s: &Section<'_>, client: &Client) {
        let path = client.jwks_path();
        let place = s.place_of(if client.jwks_path.is_some() { "jwks_path" } else { "name" });
        // What keeps the PEMs apart keeps the key sets apart too.
        let pem = pem_path(&path);
        if let Some((other, at)) = self.pems.insert(pem.clone(), (path.clone(), place.clone())) {
            let shared = if other == path { path } else { pem };
            let what = format!("two clients would publish at one path: `{shared}`");
            let hint = format!("give each a folder of its own, as in `/k/7f3a/jwks.json`; the other is at {at}");
            s.error(&place, what, hint);
        }
    }
}

fn profile(s: &Section<'_>) -> Option<&'static Profile> {
    let Some(At { value: name, place }) = s.get::<String>("profile") else {
        return Some(defaults::profile());
    };
    let found = Profile::find(&name);
    if found.is_none() {
        let known: Vec<_> = Profile::names().collect();
        s.error(&place, format!("unknown profile: `{name}`"), nearest(&name, &known));
    }
    found
}

/// Byte for byte as given: it becomes `aud`, and verifiers compare bytes.
fn token_endpoint(s: &Section<'_>) -> Option<String> {
    let At { value: text, place } =
        s.required::<String>("token_endpoint", "\"https://ehr.example.com/oauth2/token\"")?;
    match Url::check(&text) {
        Ok(url) if url.is_exposed() => {
            let what = format!("`token_endpoint` in [[client]] is plain http: `{text}`");
            s.warn(&place, what, "use https: whoever reads the assertion on its way can use it first");
        }
        Ok(_) => {}
        Err(Mismatch { what, hint }) => s.error(&place, format!("`token_endpoint` in [[client]]: {what}"), hint),
    }
    Some(text)
}

fn hsm_names(s: &Section<'_>, hsms: &Hsms) -> Option<Vec<HsmName>> {
    let At { value: names, place } = s.some_of::<HsmName>("hsm", "[\"main\"]")?;
    for (n, name) in names.iter().enumerate() {
        if !hsms.contains(name) {
            let known = hsms.names();
            let hint =
                if known.is_empty() { "add an [[hsm]] section".to_owned() } else { nearest(name.as_str(), &known) };
            s.error(&place, format!("unknown HSM: `{name}`"), hint);
        }
        if names[..n].contains(name) {
            s.error(&place, format!("`hsm` in [[client]] names one twice: `{name}`"), "leave one of them out");
        }
    }
    Some(names)
}

fn custody(s: &Section<'_>, named: Option<&[HsmName]>, hsms: &Hsms) -> Custody {
    let Some(At { value, place }) = s.get::<Custody>("custody") else { return defaults::custody() };
    let mut silent = named.unwrap_or_default().iter().filter(|name| hsms.silent.contains(name));
    if let (Custody::Attested, Some(name)) = (value, silent.next()) {
        let what = format!(
            "`custody = \"attested\"` wants the word of the HSM's maker, and a PKCS#11 token has none: `{name}`"
        );
        let hint = "use `custody = \"local\"`: the token itself says that the key was made there and can't leave; or keep \
                    the client's keys on YubiKeys";
        s.error(&place, what, hint);
    }
    value
}

/// A path that needs no escaping, so that every client, proxy and log shows it alike.
fn jwks_path(s: &Section<'_>) -> Option<String> {
    let At { value: path, place } = s.get::<String>("jwks_path")?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~');
    let segment = |text: &str| !matches!(text, "" | "." | "..") && text.bytes().all(plain);
    let valid = path.strip_prefix('/').is_some_and(|rest| rest.split('/').all(segment)) && path.len() <= 255;
    if !valid {
        let hint = "write segments of A-Z, a-z, 0-9, -, ., _ and ~, as in `/k/7f3a/jwks.json`";
        s.error(&place, format!("not a path to publish at: `{path}`"), hint);
    } else if path.ends_with("/public_key.pem") {
        s.error(
            &place,
            format!("the path is that of a public key as PEM: `{path}`"),
            "choose one such as `/k/7f3a/jwks.json`",
        );
    } else if RESERVED_PATHS.iter().any(|reserved| path == *reserved || path.starts_with(&format!("{reserved}/"))) {
        s.error(&place, format!("the path is Hallmark's own: `{path}`"), "choose one such as `/k/7f3a/jwks.json`");
    }
    Some(path)
}

fn check_size(s: &Section<'_>, client: &Client) {
    let keys = published_keys(client);
    if keys > MAX_JWKS_KEYS {
        let (algs, hsms) = (client.keys.len(), client.hsms.len());
        let what = format!(
            "the JWKS of client `{}` would hold {keys} keys: 3 for each of {algs} algorithms on each of {hsms} HSMs",
            client.name
        );
        s.error(s.place(), what, format!("verifiers read {MAX_JWKS_KEYS}; take away algorithms or HSMs"));
    }
}

/// Where health and metrics are answered.
const RESERVED_PATHS: [&str; 3] = ["/livez", "/readyz", "/metrics"];

/// Where the verifier takes the first RSA key of the set, the set and the signer change at one instant: nothing may lie
/// between them.
fn check_first_rsa_key(s: &Section<'_>, client: &Client) {
    if !client.profile.jwks.first_rsa_key {
        return;
    }
    let takes_first =
        format!("profile `{}` takes the first RSA key of the JWKS, whatever its kid", client.profile.name);
    if client.hsms.len() > 1 {
        s.error(&s.place_of("hsm"), format!("{takes_first}: two HSMs would sign with two keys"), "name one HSM");
    }
    if !client.edge_ttl.is_zero() {
        let what = format!("{takes_first}: a cache in between would show the key of before");
        s.error(&s.place_of("edge_ttl"), what, "serve this client's JWKS without a cache, and leave `edge_ttl` out");
    }
}

const DAY: Duration = Duration::from_hours(24);
const YEAR: Duration = Duration::from_hours(24 * 366);
