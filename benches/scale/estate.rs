//! Clients with three keys each: configuration, store, token, and the server that has them.

use std::{
    collections::HashMap,
    error::Error,
    fmt::{self, Write},
    fs,
    path::Path,
    thread,
    time::{Duration, Instant, SystemTime},
};

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use hallmark::store::{PostgresOptions, PostgresStore, SqliteStore, Store};
use hallmark_core::{
    key::{Alg, HsmName, KeyId, KeyLine, KeyRecord, KeyState, KeyTimes, PublicPart},
    ports::StoreError,
    public_key::{Curve, PublicKey},
    time::Timestamp,
};
use uuid::Uuid;

use crate::{
    SIGNING,
    bare::Bare,
    copy, cpu,
    load::Callers,
    pairs::Pair,
    sandbox::{HSM, Sandbox, Server, TRUST_DOMAIN, WORKERS, get},
    sweeps::{self, Sweeps},
};

/// Of each client: one that signs, its standby, and the one before.
pub(crate) const KEYS: usize = 3;

/// A server that can be started.
pub(crate) struct Estate {
    sandbox: Sandbox,
    /// By name; the first ones can sign.
    pub(crate) clients: Vec<String>,
}

/// One that runs.
pub(crate) struct Running<'a> {
    pub(crate) estate: &'a Estate,
    pub(crate) server: Server,
}

/// How long a start took, from the start of the process.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Start {
    /// To the first answer with a key set.
    pub(crate) jwks: Duration,
    /// To the first assertion.
    pub(crate) signature: Duration,
}

impl Estate {
    /// So many clients, the first of which have `pairs`, on a copy of `token`; `store` is the URL of an empty database,
    /// where SQLite will not do.
    pub(crate) fn new(
        token: &Path,
        store: Option<String>,
        clients: usize,
        pairs: &[Pair],
        counted: usize,
    ) -> Result<Self, Box<dyn Error>> {
        let clients: Vec<_> = (0..clients).map(|n| format!("client-{n:05}")).collect();
        let sandbox = Sandbox::new(&workload(&clients))?.store_at(store);
        // With its own token beside it the label would be there twice.
        fs::remove_dir_all(sandbox.token())?;
        copy(token, sandbox.token())?;
        fs::create_dir(sandbox.file("clients.d"))?;
        for name in &clients {
            fs::write(sandbox.file(&format!("clients.d/{name}.toml")), client(name))?;
        }
        fill(&sandbox, &records(&clients, pairs, counted.max(1))?)?;
        Ok(Self { sandbox, clients })
    }

    /// Another server for the same clients, beside the first: the token and the database are the same.
    pub(crate) fn replica(&self) -> Result<Self, Box<dyn Error>> {
        let sandbox = self.sandbox.replica("bench-2")?;
        copy(&self.sandbox.file("clients.d"), &sandbox.file("clients.d"))?;
        Ok(Self { sandbox, clients: self.clients.clone() })
    }

    pub(crate) fn start(&self, hallmark: &Path) -> Result<(Running<'_>, Start), Box<dyn Error>> {
        let began = Instant::now();
        let mut running = Running { estate: self, server: self.sandbox.launch(hallmark, None)? };
        let last = running.paths().pop().ok_or("no client")?;
        let jwks = self.until(began, || get(running.server.jwks(), &last).is_ok_and(|answer| is_ok(&answer)))?;
        let callers = Callers::connect(&running.server)?;
        let signature = self.until(began, || callers.sign_once(&self.clients[0]).is_ok())?;
        running.server.wait_until_ready()?;
        Ok((running, Start { jwks, signature }))
    }

    fn until(&self, began: Instant, mut is_so: impl FnMut() -> bool) -> Result<Duration, Box<dyn Error>> {
        while !is_so() {
            if began.elapsed() > Duration::from_secs(120) {
                return Err(format!("the server did not get so far; it said:\n{}", self.sandbox.log()).into());
            }
            #[expect(clippy::disallowed_methods, reason = "another process tells nobody how far it is")]
            thread::sleep(Duration::from_millis(5));
        }
        Ok(began.elapsed())
    }
}

impl Running<'_> {
    /// Where the clients' key sets are.
    pub(crate) fn paths(&self) -> Vec<String> {
        self.estate.clients.iter().map(|name| path(name)).collect()
    }

    /// The clients that can sign.
    pub(crate) fn signing(&self) -> &[String] {
        &self.estate.clients[..SIGNING.min(self.estate.clients.len())]
    }

    /// The key sets by path, as they are sent, header and all.
    pub(crate) fn answers(&self) -> Result<HashMap<String, String>, Box<dyn Error>> {
        self.paths().into_iter().map(|path| Ok((path.clone(), get(self.server.jwks(), &path)?))).collect()
    }

    /// The token alone, as the server has it.
    pub(crate) fn bare(&self) -> Result<Bare, Box<dyn Error>> {
        Bare::start(&self.estate.sandbox, WORKERS)
    }

    pub(crate) fn resident(&self) -> Result<u64, Box<dyn Error>> {
        Ok(cpu::resident_memory(self.server.pid())?)
    }

    /// The durations of all sweeps from now on, until there were so many.
    pub(crate) fn sweeps(&self, count: usize) -> Result<Sweeps, Box<dyn Error>> {
        sweeps::watch(self.server.metrics(), count)
    }

    /// How many keys are said to have no objects.
    pub(crate) fn absent_keys(&self) -> Result<f64, Box<dyn Error>> {
        // The HSM is looked at in the background.
        let began = Instant::now();
        let mut absent = 0.0;
        self.estate.until(began, || {
            let found = sweeps::value(self.server.metrics(), "hallmark_hsm_absent_keys{hsm=\"softhsm\"}");
            absent = found.unwrap_or_default();
            absent > 0.0 || self.estate.clients.len() <= SIGNING
        })?;
        Ok(absent)
    }

    pub(crate) fn log(&self) -> String {
        self.estate.sandbox.log()
    }

    pub(crate) fn stop(self) -> Result<(), Box<dyn Error>> {
        self.server.stop()
    }
}

impl fmt::Display for Start {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "key sets after {} ms, ", self.jwks.as_millis())?;
        write!(f, "the first assertion after {} ms", self.signature.as_millis())
    }
}

/// Where a client's key set is.
pub(crate) fn path(client: &str) -> String {
    format!("/clients/{client}/jwks.json")
}

fn is_ok(answer: &str) -> bool {
    answer.starts_with("HTTP/1.1 200")
}

fn client(name: &str) -> String {
    format!(
        r#"[[client]]
name = "{name}"
client_id = "0oa1b2c3d4e5f6g7h8i9"
profile = "generic"
token_endpoint = "https://ehr.example.com/oauth2/token"
hsm = ["{HSM}"]
keys = [{{ alg = "ES256", rotate = "90d" }}]
"#
    )
}

/// One for all clients.
fn workload(clients: &[String]) -> String {
    let mut text = format!("[[workload]]\nid = \"spiffe://{TRUST_DOMAIN}/workload\"\nclients = [\n");
    for name in clients {
        // Writing to a String does not fail.
        let _ = writeln!(text, "    \"{name}\",");
    }
    text + "]\n"
}

/// An hour ago all keys were rotated, so that each set has three. For one client in `counted` the sweeps are still counting
/// for how long the old key was kept, and write that down each time; for the others they have done so.
fn records(clients: &[String], pairs: &[Pair], counted: usize) -> Result<Vec<KeyRecord>, Box<dyn Error>> {
    let now = i64::try_from(SystemTime::UNIX_EPOCH.elapsed()?.as_millis())?;
    let ago = |hours: i64| Some(Timestamp::from_millis(now - hours * HOUR));
    let days = |days: i64| ago(days * 24);
    let hsm: HsmName = HSM.parse()?;
    let mut records = Vec::new();
    for (n, name) in clients.iter().enumerate() {
        for (k, state) in [KeyState::Active, KeyState::PreActive, KeyState::Deactivated].into_iter().enumerate() {
            let (cka_id, label, public) = match pairs.get(n * KEYS + k) {
                Some(pair) => (pair.cka_id.clone(), pair.label.clone(), pair.public()?),
                None => (Uuid::new_v4().as_bytes().to_vec(), format!("hallmark:{name}:ES256:{k}"), public()?),
            };
            let line = KeyLine { client: name.parse()?, alg: Alg::ES256, hsm: hsm.clone() };
            let created = Timestamp::from_millis(now - 100 * 24 * HOUR);
            let blank = KeyRecord::of_line(KeyId(Uuid::new_v4()), &line, created);
            let times = match state {
                KeyState::Active => KeyTimes { published: days(90), activated: ago(1), ..blank.times },
                KeyState::PreActive => KeyTimes { published: days(10), ..blank.times },
                _ => KeyTimes { published: days(99), activated: days(90), deactivated: ago(1), ..blank.times },
            };
            let kept_hours = if n % counted == 0 { 1 } else { 25 };
            let kept_for_ms = if state == KeyState::Deactivated { kept_hours * HOUR.unsigned_abs() } else { 0 };
            let served_for_ms = (10 * 24 * HOUR).unsigned_abs();
            let public = Some(public);
            records.push(KeyRecord { cka_id, label, public, state, served_for_ms, kept_for_ms, times, ..blank });
        }
    }
    Ok(records)
}

/// Of a key that no token has.
fn public() -> Result<PublicPart, Box<dyn Error>> {
    let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING)?;
    let key = PublicKey::from_ec_point(Curve::P256, pair.public_key().as_ref())?;
    Ok(PublicPart { kid: key.thumbprint(), key })
}

fn fill(sandbox: &Sandbox, records: &[KeyRecord]) -> Result<(), Box<dyn Error>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let store = open(sandbox.store()?).await?;
        // A database may take no longer for a call than a server would wait.
        for some in records.chunks(1000) {
            store.apply(some, &[]).await?;
        }
        store.close().await;
        Ok(())
    })
}

async fn open(url: String) -> Result<Box<dyn Store>, StoreError> {
    if url.starts_with("sqlite:") {
        return Ok(Box::new(SqliteStore::open(&url).await?));
    }
    let lease = Duration::from_secs(60);
    let options = PostgresOptions { url, password_file: None, instance: "filler".to_owned(), lease };
    Ok(Box::new(PostgresStore::open(options).await?))
}

const HOUR: i64 = 3_600_000;
