//! Everything that a `hallmark serve` needs, in a folder: a token, certificates, a configuration that tests can edit.

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use hallmark_testkit::softhsm::SoftHsm;

use super::{
    HALLMARK, Process, Server,
    pki::{Authority, Certified},
};

/// The workload.
pub(crate) const APP: &str = "spiffe://test.example/app";
/// The operator.
pub(crate) const OPS: &str = "spiffe://test.example/ops";

pub(crate) struct Site {
    pub(crate) token: SoftHsm,
    pub(crate) ca: Authority,
    app: Certified,
    ops: Certified,
    folder: tempfile::TempDir,
    config: String,
    under: &'static [&'static str],
}

impl Site {
    /// One client, `demo`, with ES256; one workload, [`APP`]; one operator, [`OPS`]. All ports are the system's choice.
    pub(crate) fn new() -> Self {
        Self::with_token(SoftHsm::new())
    }

    pub(crate) fn with_token(token: SoftHsm) -> Self {
        let folder = tempfile::Builder::new().prefix("hallmark-test-").tempdir().unwrap();
        let ca = Authority::new();
        ca.server().write(folder.path(), "server");
        fs::write(folder.path().join("ca.pem"), &ca.pem).unwrap();
        let (app, ops) = (ca.client(APP), ca.client(OPS));
        let config = CONFIG
            .replace("@MODULE@", SoftHsm::MODULE)
            .replace("@CONF@", &token.folder().join("softhsm2.conf").display().to_string())
            .replace("@LABEL@", SoftHsm::LABEL)
            .replace("@PIN@", &token.pin_file().display().to_string())
            .replace("@DIR@", &folder.path().display().to_string());
        Self { token, ca, app, ops, folder, config, under: &[] }
    }

    /// As an operator would edit the file. Panics where `from` does not stand in it.
    pub(crate) fn replace(&mut self, from: &str, to: &str) -> &mut Self {
        assert!(self.config.contains(from), "`{from}` does not stand in:\n{}", self.config);
        self.config = self.config.replace(from, to);
        self
    }

    pub(crate) fn append(&mut self, text: &str) -> &mut Self {
        self.config.push_str(text);
        self
    }

    /// One more client of the workload, with one key line.
    pub(crate) fn add_client(&mut self, name: &str, alg: &str, token_endpoint: &str) -> &mut Self {
        self.replace("clients = [\"demo\"", &format!("clients = [\"demo\", \"{name}\""));
        self.append(&format!(
            "\n[[client]]\nname = \"{name}\"\nclient_id = \"{name}-id\"\ntoken_endpoint = \"{token_endpoint}\"\n\
             hsm = [\"soft\"]\nkeys = [{{ alg = \"{alg}\" }}]\nprovision = \"auto\"\n"
        ))
    }

    /// Has the token reached through another library, with what that one wants in the environment.
    pub(crate) fn through(&mut self, module: &Path, env: &[(String, OsString)]) -> &mut Self {
        let env: String = env.iter().map(|(name, value)| format!(", {name} = \"{}\"", value.display())).collect();
        self.replace(SoftHsm::MODULE, &module.display().to_string());
        self.replace("softhsm2.conf\" }", &format!("softhsm2.conf\"{env} }}"))
    }

    /// Has it started by another program, such as `env`, with the same process id.
    pub(crate) fn under(&mut self, program: &'static [&'static str]) -> &mut Self {
        self.under = program;
        self
    }

    /// The workload's certificate.
    pub(crate) fn app(&self) -> &Certified {
        &self.app
    }

    /// A connection file for whoever has that certificate, and a server at `grpc`.
    pub(crate) fn connection(&self, name: &str, who: &Certified, grpc: &str) -> PathBuf {
        who.write(self.folder(), name);
        let path = self.folder().join(format!("{name}.toml"));
        let text = format!("endpoint = \"{grpc}\"\nca = \"ca.pem\"\ncert = \"{name}.pem\"\nkey = \"{name}.key\"\n");
        fs::write(&path, text).unwrap();
        path
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn audit_dir(&self) -> PathBuf {
        self.folder().join("audit")
    }

    /// Writes the configuration; gives its path.
    pub(crate) fn write(&self) -> PathBuf {
        let path = self.folder().join("hallmark.toml");
        fs::write(&path, &self.config).unwrap();
        path
    }

    /// Starts it, and waits until it listens.
    pub(crate) fn start(&self) -> Server {
        self.start_with(|_| {})
    }

    pub(crate) fn start_with(&self, set_up: impl FnOnce(&mut Command)) -> Server {
        let mut process = self.spawn(set_up);
        // In either format of the log.
        let line = process.wait_for_log("Addresses { grpc: ");
        let address = |name: &str| {
            let rest = line.split_once(name).unwrap_or_else(|| panic!("no `{name}` in: {line}")).1;
            let ends = |char: char| !(char.is_ascii_digit() || matches!(char, '.' | ':'));
            rest.split(ends).next().unwrap_or_default().to_owned()
        };
        Server {
            grpc: format!("https://{}", address("grpc: Some(")),
            unix: self.folder().join("hallmark.sock"),
            jwks: address("jwks: "),
            metrics: address("metrics: Some("),
            process,
            ca: self.ca.pem.clone(),
            app: self.app.clone(),
            ops: self.ops.clone(),
        }
    }

    /// Starts it and does not wait for anything: it may refuse to serve.
    pub(crate) fn spawn(&self, set_up: impl FnOnce(&mut Command)) -> Process {
        let config = self.write();
        let mut words = self.under.iter().chain(&[HALLMARK, "serve", "--config"]);
        let program = words.next().unwrap();
        Process::start("serve", self.folder(), program, |command| {
            command.args(words).arg(config);
            set_up(command);
        })
    }

    /// Writes `app.toml` and `ops.toml`: how commands reach that server as the workload, and as the operator.
    pub(crate) fn connections(&self, server: &Server) {
        for (name, who) in [("app", &self.app), ("ops", &self.ops)] {
            self.connection(name, who, &server.grpc);
        }
    }

    /// `hallmark check-config`.
    pub(crate) fn check(&self) -> Output {
        Command::new(HALLMARK).args(["check-config", "--config"]).arg(self.write()).output().unwrap()
    }
}

const CONFIG: &str = r#"[instance]
id = "test"

[grpc]
listen = "127.0.0.1:0"
unix = "hallmark.sock"
tls = { cert = "server.pem", key = "server.key" }

[jwks]
listen = "127.0.0.1:0"

[metrics]
listen = "127.0.0.1:0"

[store]
url = "sqlite://@DIR@/keys.db"

[audit]
dir = "audit"

[[trust]]
bundle = "ca.pem"
trust_domain = "test.example"
roles = ["workload", "operator"]

[[hsm]]
name = "soft"
module = "@MODULE@"
module_env = { SOFTHSM2_CONF = "@CONF@" }
token_label = "@LABEL@"
pin_source = "file:@PIN@"
workers = 2

[[operator]]
id = "spiffe://test.example/ops"
roles = ["destroy"]

[[workload]]
id = "spiffe://test.example/app"
clients = ["demo"]

[[client]]
name = "demo"
client_id = "demo-id"
token_endpoint = "https://as.example/token"
hsm = ["soft"]
keys = [{ alg = "ES256" }]
provision = "auto"
"#;
