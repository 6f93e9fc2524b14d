//! A server to measure: a SoftHSM token on tmpfs, certificates, a configuration, and the process.

use std::{
    error::Error,
    fs::{self, File, OpenOptions},
    io::{self, Read, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use hallmark_client::Connection;
use hallmark_core::key::Alg;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair, SanType};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

/// Sessions that sign, and threads of the bare loop.
pub(crate) const WORKERS: usize = 2;
/// The name of the HSM, with which its worker threads' names begin.
pub(crate) const HSM: &str = "softhsm";

const MODULE: &str = "/usr/lib/softhsm/libsofthsm2.so";
pub(crate) const TRUST_DOMAIN: &str = "bench.internal";

/// Everything that a server needs, in temporary folders.
pub(crate) struct Sandbox {
    /// The token: on tmpfs, so that a slow disk is not taken for a slow token.
    token: TempDir,
    /// The rest: on the disk that holds `target/`, where the audit log's syncs take their time.
    files: TempDir,
    /// Where the audit log is, as the configuration has it.
    audit: PathBuf,
    /// The URL of the key store; else SQLite, beside the rest.
    store: Option<String>,
    /// `[instance] id`.
    instance: &'static str,
}

/// A server that runs.
pub(crate) struct Server {
    child: Child,
    addresses: Addresses,
    workload: Connection,
    operator: Connection,
}

#[derive(Clone, Copy)]
struct Addresses {
    grpc: SocketAddr,
    jwks: SocketAddr,
    metrics: SocketAddr,
}

impl Sandbox {
    /// With the clients and workloads of `clients`, as the configuration has them.
    pub(crate) fn new(clients: &str) -> Result<Self, Box<dyn Error>> {
        let token = tempfile::Builder::new().prefix("hallmark-bench-").tempdir_in("/dev/shm")?;
        let files = tempfile::Builder::new().prefix("bench-").tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
        let sandbox = Self { token, files, audit: "audit".into(), store: None, instance: "bench" };
        sandbox.make_token()?;
        sandbox.certificates()?;
        fs::write(sandbox.file("clients.toml"), clients)?;
        Ok(sandbox)
    }

    /// The audit log on tmpfs, where a sync costs nothing.
    pub(crate) fn audit_in_memory(mut self) -> Self {
        self.audit = self.token.path().join("audit");
        self
    }

    /// With its keys in that database.
    pub(crate) fn store_at(mut self, url: Option<String>) -> Self {
        self.store = url;
        self
    }

    /// Another one on the same token and with the same keys.
    pub(crate) fn replica(&self, instance: &'static str) -> Result<Self, Box<dyn Error>> {
        let replica = Self::new(&fs::read_to_string(self.file("clients.toml"))?)?.store_at(Some(self.store()?));
        fs::copy(self.softhsm_conf(), replica.softhsm_conf())?;
        Ok(Self { instance, ..replica })
    }

    /// The URL of the key store.
    pub(crate) fn store(&self) -> io::Result<String> {
        let sqlite = || Ok(format!("sqlite://{}/keys.db", fs::canonicalize(self.files.path())?.display()));
        self.store.clone().map_or_else(sqlite, Ok)
    }

    /// Starts the server, and waits until it signs.
    pub(crate) fn serve(&self, hallmark: &Path, sync_delay: Option<Duration>) -> Result<Server, Box<dyn Error>> {
        let mut server = self.launch(hallmark, sync_delay)?;
        match server.wait_until_ready() {
            Ok(()) => Ok(server),
            Err(error) => Err(format!("{error}; the server said:\n{}", self.log()).into()),
        }
    }

    /// Starts the server, and waits for nothing.
    pub(crate) fn launch(&self, hallmark: &Path, sync_delay: Option<Duration>) -> Result<Server, Box<dyn Error>> {
        let addresses = Addresses { grpc: free_address()?, jwks: free_address()?, metrics: free_address()? };
        let config = self.file("hallmark.toml");
        fs::write(&config, self.config(addresses, sync_delay)? + &fs::read_to_string(self.file("clients.toml"))?)?;
        let log = File::create(self.file("server.log"))?;
        let mut command = Command::new(hallmark);
        command.env("HALLMARK_ALLOW_ROOT", "true").arg("serve").arg("--config").arg(&config).stdin(Stdio::null());
        command.stdout(log.try_clone()?).stderr(log);
        if sync_delay.is_some() {
            command.arg("--unsafe-testing");
        }
        let child = command.spawn().map_err(|error| format!("can't start `{}`: {error}", hallmark.display()))?;
        let connection = |who: &str| {
            let file = |name: &str| self.file(name);
            let (cert, key) = (file(&format!("{who}.pem")), file(&format!("{who}.key")));
            Connection::tls(format!("https://{}", addresses.grpc), file("ca.pem"), cert, key)
        };
        Ok(Server { child, addresses, workload: connection("workload"), operator: connection("operator") })
    }

    /// What the server wrote to its standard output and error.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(self.file("server.log")).unwrap_or_default()
    }

    pub(crate) fn module(&self) -> &Path {
        Path::new(MODULE)
    }

    pub(crate) fn softhsm_conf(&self) -> PathBuf {
        self.file("softhsm2.conf")
    }

    pub(crate) fn pin(&self) -> PathBuf {
        self.file("pin")
    }

    /// The folder that holds the token's objects.
    pub(crate) fn token(&self) -> &Path {
        self.token.path()
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.files.path().join(name)
    }

    fn make_token(&self) -> Result<(), Box<dyn Error>> {
        let tokens = self.token.path().display();
        let conf = format!("directories.tokendir = {tokens}\nobjectstore.backend = file\nlog.level = ERROR\n");
        fs::write(self.softhsm_conf(), conf)?;
        private(&self.pin(), "12345678")?;
        let mut command = Command::new("softhsm2-util");
        command.args(["--init-token", "--free", "--label", HSM, "--pin", "12345678", "--so-pin", "12345678"]);
        let made = command.env("SOFTHSM2_CONF", self.softhsm_conf()).output();
        let made = made.map_err(|error| format!("can't run softhsm2-util: {error}"))?;
        if made.status.success() { Ok(()) } else { Err(String::from_utf8_lossy(&made.stderr).into()) }
    }

    fn certificates(&self) -> Result<(), Box<dyn Error>> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        let ca = CertifiedIssuer::self_signed(params, KeyPair::generate()?)?;
        fs::write(self.file("ca.pem"), ca.pem())?;
        let spiffe = |who| format!("spiffe://{TRUST_DOMAIN}/{who}");
        let leaves = [
            ("server", SanType::IpAddress(IpAddr::V4(Ipv4Addr::LOCALHOST)), ExtendedKeyUsagePurpose::ServerAuth),
            ("workload", SanType::URI(spiffe("workload").try_into()?), ExtendedKeyUsagePurpose::ClientAuth),
            ("operator", SanType::URI(spiffe("operator").try_into()?), ExtendedKeyUsagePurpose::ClientAuth),
        ];
        for (name, subject, usage) in leaves {
            let mut params = CertificateParams::default();
            params.subject_alt_names = vec![subject];
            params.extended_key_usages = vec![usage];
            let key = KeyPair::generate()?;
            fs::write(self.file(&format!("{name}.pem")), params.signed_by(&key, &ca)?.pem())?;
            private(&self.file(&format!("{name}.key")), &key.serialize_pem())?;
        }
        Ok(())
    }

    fn config(&self, addresses: Addresses, sync_delay: Option<Duration>) -> io::Result<String> {
        let Addresses { grpc, jwks, metrics } = addresses;
        let (store, conf) = (self.store()?, self.softhsm_conf());
        let conf = conf.display();
        let testing =
            sync_delay.map(|delay| format!("[unsafe_testing]\naudit_sync_delay = \"{}ms\"\n", delay.as_millis()));
        Ok(format!(
            r#"[instance]
id = "{instance}"
[grpc]
listen = "{grpc}"
tls = {{ cert = "server.pem", key = "server.key" }}
[jwks]
listen = "{jwks}"
[metrics]
listen = "{metrics}"
[store]
url = "{store}"
[audit]
dir = "{audit}"
[[trust]]
bundle = "ca.pem"
trust_domain = "{TRUST_DOMAIN}"
roles = ["workload", "operator"]
[[hsm]]
name = "{HSM}"
module = "{MODULE}"
module_env = {{ SOFTHSM2_CONF = "{conf}" }}
token_label = "{HSM}"
pin_source = "file:pin"
workers = {WORKERS}
[[operator]]
id = "spiffe://{TRUST_DOMAIN}/operator"
roles = ["rotate"]
{testing}"#,
            instance = self.instance,
            testing = testing.unwrap_or_default(),
            audit = self.audit.display(),
        ))
    }
}

impl Server {
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Where key sets are served.
    pub(crate) fn jwks(&self) -> SocketAddr {
        self.addresses.jwks
    }

    /// Where metrics are read.
    pub(crate) fn metrics(&self) -> SocketAddr {
        self.addresses.metrics
    }

    /// How a workload connects that may sign for every client.
    pub(crate) fn workload(&self) -> Connection {
        self.workload.clone()
    }

    /// How an operator connects that may list and change keys.
    pub(crate) fn operator(&self) -> Connection {
        self.operator.clone()
    }

    /// Tells it to go, and waits until it has gone.
    pub(crate) fn stop(mut self) -> Result<(), Box<dyn Error>> {
        let pid = i32::try_from(self.child.id()).ok().and_then(Pid::from_raw).ok_or("not a process id")?;
        kill_process(pid, Signal::TERM)?;
        let status = self.child.wait()?;
        if status.success() { Ok(()) } else { Err(format!("the server ended with {status}").into()) }
    }

    /// Asks `/readyz/sign` until it says yes.
    pub(crate) fn wait_until_ready(&mut self) -> Result<(), Box<dyn Error>> {
        let patience = Instant::now() + Duration::from_secs(60);
        while !ready(self.addresses.metrics).unwrap_or(false) {
            if let Some(status) = self.child.try_wait()? {
                return Err(format!("the server ended with {status}").into());
            }
            if Instant::now() > patience {
                return Err("the server did not get ready within 60 s".into());
            }
            #[expect(clippy::disallowed_methods, reason = "another process tells nobody when it is ready")]
            thread::sleep(Duration::from_millis(50));
        }
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // After `stop` it has gone.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One OAuth client for each algorithm, and a workload that may sign for all.
pub(crate) fn clients(algs: &[Alg]) -> String {
    let client = |alg: &Alg| {
        let name = client_name(*alg);
        format!(
            r#"[[client]]
name = "{name}"
client_id = "0oa1b2c3d4e5f6g7h8i9"
profile = "generic"
token_endpoint = "https://ehr.example.com/oauth2/token"
hsm = ["{HSM}"]
keys = [{{ alg = "{alg}", {bits} }}]
provision = "auto"
"#,
            bits = if alg.is_rsa() { "rsa_bits = 2048" } else { "" },
        )
        .replace(", }", " }")
    };
    let names: Vec<_> = algs.iter().map(|alg| format!("\"{}\"", client_name(*alg))).collect();
    let workload =
        format!("[[workload]]\nid = \"spiffe://{TRUST_DOMAIN}/workload\"\nclients = [{}]\n", names.join(", "));
    algs.iter().map(client).collect::<String>() + &workload
}

/// The client whose keys are of `alg`.
pub(crate) fn client_name(alg: Alg) -> String {
    alg.as_str().to_ascii_lowercase()
}

/// A port that was free a moment ago.
fn free_address() -> io::Result<SocketAddr> {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()
}

fn ready(metrics: SocketAddr) -> io::Result<bool> {
    Ok(get(metrics, "/readyz/sign")?.starts_with("HTTP/1.1 200"))
}

/// What a server answers, header and all.
pub(crate) fn get(from: SocketAddr, path: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect(from)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

fn private(path: &Path, text: &str) -> io::Result<()> {
    OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?.write_all(text.as_bytes())
}
