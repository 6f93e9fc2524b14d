//! The folder of `hallmark dev`: everything that a server needs, made once and reused.
//!
//! ```text
//! .hallmark/
//!   hallmark.toml                   the configuration; edit it as you like
//!   workload.toml operator.toml     how the CLI connects, as each of the two
//!   softhsm2.conf tokens/           the SoftHSM token, unless the keys are on a YubiKey
//!   pin so-pin                      its PIN, and its security officer's (0600)
//!   ca.pem server.* workload.* operator.*   development certificates; the CA's key is not kept
//!   keys.db audit/                  records and audit log
//! ```

use std::{
    fs, io,
    net::{IpAddr, Ipv4Addr},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    SanType, date_time_ymd,
};

use super::{super::args::DevClient, hsm::Hsm};

/// The trust domain of the development certificates.
const TRUST_DOMAIN: &str = "dev.hallmark.internal";
/// The label of the SoftHSM token.
pub(super) const TOKEN_LABEL: &str = "hallmark-dev";

/// What goes into a new folder.
pub(super) struct Plan<'a> {
    pub(super) clients: &'a [DevClient],
    pub(super) token_endpoint: &'a str,
    pub(super) hsm: &'a Hsm,
    /// Ports of gRPC, JWKS and metrics; 0 lets the system choose.
    pub(super) ports: [u16; 3],
}

/// A folder that holds, or will hold, all of it.
#[derive(Debug)]
pub(super) struct Sandbox {
    dir: PathBuf,
}

impl Sandbox {
    pub(super) fn new(dir: PathBuf) -> Self {
        Self { dir }
    }

    pub(super) fn config(&self) -> PathBuf {
        self.dir.join("hallmark.toml")
    }

    pub(super) fn file(&self, name: &str) -> PathBuf {
        self.dir.join(name)
    }

    pub(super) fn dir(&self) -> &Path {
        &self.dir
    }

    /// Whether an earlier run made it. The configuration is written last.
    pub(super) fn exists(&self) -> bool {
        self.config().exists()
    }

    pub(super) fn pin(&self) -> io::Result<String> {
        Ok(fs::read_to_string(self.file("pin"))?.trim_end().to_owned())
    }

    /// The security officer's PIN, made at the first call. Kept for a token whose making is cut short: without it nobody
    /// could set its user PIN.
    pub(super) fn so_pin(&self) -> io::Result<String> {
        match fs::read_to_string(self.file("so-pin")) {
            Ok(pin) if !pin.is_empty() => Ok(pin),
            // An empty one is what a cut before the first token leaves.
            Ok(_) => self.new_so_pin(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.new_so_pin(),
            Err(error) => Err(error),
        }
    }

    fn new_so_pin(&self) -> io::Result<String> {
        let pin = random_pin()?;
        self.write_private("so-pin", &pin)?;
        Ok(pin)
    }

    pub(super) fn create(&self, plan: &Plan<'_>) -> io::Result<()> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&self.dir)?;
        self.write(".gitignore", "*\n")?;
        if let Hsm::Softhsm(_) = plan.hsm {
            self.prepare_softhsm()?;
        }
        self.certificates().map_err(io::Error::other)?;
        let [grpc, ..] = plan.ports;
        for who in ["workload", "operator"] {
            self.connection(who, &format!("https://127.0.0.1:{grpc}"))?;
        }
        self.write("hallmark.toml", &self.settings(plan))
    }

    fn prepare_softhsm(&self) -> io::Result<()> {
        let tokens = self.file("tokens");
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&tokens)?;
        self.write(
            "softhsm2.conf",
            &format!("directories.tokendir = {}\nobjectstore.backend = file\nlog.level = ERROR\n", tokens.display()),
        )?;
        self.write_private("pin", &random_pin()?)
    }

    /// Writes how the CLI connects as `who`.
    pub(super) fn connection(&self, who: &str, endpoint: &str) -> io::Result<()> {
        let text = format!("endpoint = \"{endpoint}\"\nca = \"ca.pem\"\ncert = \"{who}.pem\"\nkey = \"{who}.key\"\n");
        self.write(&format!("{who}.toml"), &text)
    }

    fn certificates(&self) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let ca_key = KeyPair::generate()?;
        let mut ca = params("Hallmark development CA", vec![]);
        ca.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        ca.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        self.write("ca.pem", &ca.self_signed(&ca_key)?.pem())?;
        let ca = Issuer::new(ca, ca_key);

        let localhost = SanType::DnsName("localhost".try_into()?);
        let loopback = SanType::IpAddress(IpAddr::V4(Ipv4Addr::LOCALHOST));
        let mut server = params("Hallmark development server", vec![localhost, loopback]);
        server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.leaf("server", &server, &ca)?;
        for who in ["workload", "operator"] {
            let id = SanType::URI(format!("spiffe://{TRUST_DOMAIN}/{who}").try_into()?);
            let mut leaf = params(&format!("Hallmark development {who}"), vec![id]);
            leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
            self.leaf(who, &leaf, &ca)?;
        }
        Ok(())
    }

    fn leaf(
        &self,
        name: &str,
        params: &CertificateParams,
        ca: &Issuer<'_, KeyPair>,
    ) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
        let key = KeyPair::generate()?;
        self.write(&format!("{name}.pem"), &params.signed_by(&key, ca)?.pem())?;
        self.write_private(&format!("{name}.key"), &key.serialize_pem())?;
        Ok(())
    }

    fn settings(&self, plan: &Plan<'_>) -> String {
        let [grpc, jwks, metrics] = plan.ports;
        let (hsm, db) = (self.hsm_section(plan.hsm), self.file("keys.db"));
        let db = db.display();
        let mut text = format!(
            r#"# Made by `hallmark dev`. Edit it as you like; delete the folder to start anew.

[instance]
id = "dev"

[grpc]
listen = "127.0.0.1:{grpc}"
tls = {{ cert = "server.pem", key = "server.key" }}
reflection = true

[jwks]
listen = "127.0.0.1:{jwks}"
public_url = "http://127.0.0.1:{jwks}"

[metrics]
listen = "127.0.0.1:{metrics}"

[store]
url = "sqlite://{db}"

[audit]
dir = "audit"

[[trust]]
bundle = "ca.pem"
trust_domain = "{TRUST_DOMAIN}"
roles = ["workload", "operator"]

{hsm}
[[operator]]
id = "spiffe://{TRUST_DOMAIN}/operator"
roles = ["destroy"]
"#
        );
        text.push_str(&clients_and_workload(plan));
        text
    }

    fn hsm_section(&self, hsm: &Hsm) -> String {
        let name = hsm.name();
        match hsm {
            Hsm::Softhsm(module) => format!(
                "[[hsm]]\nname = \"{name}\"\nkind = \"pkcs11\"\nmodule = \"{}\"\nmodule_env = {{ SOFTHSM2_CONF = \"{}\" }}\n\
                 token_label = \"{TOKEN_LABEL}\"\npin_source = \"file:pin\"\nworkers = 2\n",
                module.display(),
                self.file("softhsm2.conf").display()
            ),
            Hsm::Yubikey { serial, pin_source, management_key_source } => {
                let serial = serial.map_or_else(String::new, |serial| format!("serial = {serial}\n"));
                format!(
                    "[[hsm]]\nname = \"{name}\"\nkind = \"yubikey\"\n{serial}pin_source = \"{pin_source}\"\n\
                     management_key_source = \"{management_key_source}\"\n"
                )
            }
        }
    }

    fn write(&self, name: &str, text: &str) -> io::Result<()> {
        fs::write(self.file(name), text)
    }

    fn write_private(&self, name: &str, text: &str) -> io::Result<()> {
        let mut file =
            fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(self.file(name))?;
        io::Write::write_all(&mut file, text.as_bytes())
    }
}

fn clients_and_workload(plan: &Plan<'_>) -> String {
    let mut text = String::new();
    for DevClient { name, alg } in plan.clients {
        text.push_str(&format!(
            r#"
[[client]]
name = "{name}"
client_id = "{name}"
profile = "generic"
token_endpoint = "{endpoint}"
hsm = ["{hsm}"]
keys = [{{ alg = "{alg}" }}]
provision = "auto"
"#,
            endpoint = plan.token_endpoint,
            hsm = plan.hsm.name(),
        ));
    }
    let names: Vec<_> = plan.clients.iter().map(|client| format!("\"{}\"", client.name)).collect();
    let names = names.join(", ");
    text + &format!("\n[[workload]]\nid = \"spiffe://{TRUST_DOMAIN}/workload\"\nclients = [{names}]\n")
}

/// Development certificates do not expire while anyone uses the folder; their CA's key is gone.
fn params(common_name: &str, names: Vec<SanType>) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.subject_alt_names = names;
    params.not_before = date_time_ymd(2024, 1, 1);
    params.not_after = date_time_ymd(2099, 1, 1);
    params
}

/// 16 digits: what every PKCS#11 token takes as a PIN.
fn random_pin() -> io::Result<String> {
    let mut bytes = [0; 16];
    aws_lc_rs::rand::fill(&mut bytes).map_err(|_| io::Error::other("the random generator failed"))?;
    // The slight bias of the remainder does not matter at this length.
    Ok(bytes.iter().map(|byte| char::from(b'0' + byte % 10)).collect())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_officers_pin_is_made_once_and_for_nobody_else() {
        let dir = tempfile::tempdir().unwrap();
        let sandbox = Sandbox::new(dir.path().to_owned());
        let first = sandbox.so_pin().unwrap();
        assert_eq!((first.len(), sandbox.so_pin().unwrap()), (16, first));
        assert_eq!(fs::metadata(sandbox.file("so-pin")).unwrap().permissions().mode() & 0o777, 0o600);
        sandbox.write_private("so-pin", "").unwrap();
        assert_eq!(sandbox.so_pin().unwrap().len(), 16, "an empty file is no PIN");
    }
}
