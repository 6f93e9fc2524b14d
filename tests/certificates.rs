//! Certificates from request to expiry, with OpenSSL as the CA and as the judge.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    time::{Duration, SystemTime},
};

use base64::{Engine, prelude::BASE64_STANDARD, prelude::BASE64_URL_SAFE_NO_PAD};
use hallmark_core::certificate::{Certificate, Thumbprints, chain::read};
use rcgen::{CertificateParams, DnType, KeyPair, PublicKeyData};
use serde_json::Value;

use crate::support::{HALLMARK, PATIENCE, Server, Site, eventually, site::OPS};

const URI: &str = "https://clinic.example/fhir";

/// A server whose client `demo` shows certificates, a place to work in, and an operator's connection.
struct Clinic {
    site: Site,
    server: Server,
    connection: PathBuf,
}

impl Clinic {
    async fn new() -> Self {
        Self::with(|_| {}).await
    }

    async fn with(set_up: impl FnOnce(&mut Site)) -> Self {
        let mut site = Site::new();
        site.replace(
            "provision = \"auto\"",
            "provision = \"auto\"\noverride = { x5c = true, x5t = true, x5t_s256 = true }",
        );
        site.replace("[audit]", "[rotation]\nevery = \"1s\"\n\n[audit]");
        set_up(&mut site);
        let server = site.start_with(|command| _ = command.arg("--unsafe-testing"));
        server.ready().await;
        site.ca.client(OPS).write(site.folder(), "ops");
        let connection = site.folder().join("ops.toml");
        let text = format!("endpoint = \"{}\"\nca = \"ca.pem\"\ncert = \"ops.pem\"\nkey = \"ops.key\"\n", server.grpc);
        fs::write(&connection, text).unwrap();
        Self { site, server, connection }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.site.folder().join(name)
    }

    fn hallmark(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(HALLMARK);
        command.args(arguments).arg("--connection").arg(&self.connection).current_dir(self.site.folder());
        command.output().unwrap()
    }

    fn openssl(&self, arguments: &[&str]) -> String {
        let output = Command::new("openssl").args(arguments).current_dir(self.site.folder()).output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "openssl {arguments:?}: {text}");
        text
    }

    /// A root and an intermediate CA: `root.crt`, `ca.crt`, `ca.key`.
    fn make_ca(&self) {
        let root = ["-keyout", "root.key", "-out", "root.crt", "-subj", "/CN=Test Root", "-days", "30"];
        self.openssl(&[&["req", "-x509", "-newkey", "rsa:2048", "-nodes", "-sha384"], root.as_slice()].concat());
        let ca = ["-keyout", "ca.key", "-out", "ca.csr", "-subj", "/CN=Test CA"];
        self.openssl(&[&["req", "-newkey", "rsa:2048", "-nodes"], ca.as_slice()].concat());
        fs::write(self.path("ca.ext"), "basicConstraints=critical,CA:TRUE\nkeyUsage=keyCertSign\n").unwrap();
        let by_root = ["-CA", "root.crt", "-CAkey", "root.key", "-CAcreateserial", "-extfile", "ca.ext"];
        self.openssl(
            &[&["x509", "-req", "-in", "ca.csr", "-out", "ca.crt", "-days", "20"], by_root.as_slice()].concat(),
        );
    }

    /// What the CA makes of a request; gives `NAME-chain.pem`, leaf first.
    fn issue(&self, name: &str) -> String {
        let (csr, crt, chain) = (format!("{name}.csr"), format!("{name}.crt"), format!("{name}-chain.pem"));
        let by_ca = ["-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-copy_extensions", "copy"];
        self.openssl(&[&["x509", "-req", "-in", &csr, "-out", &crt, "-days", "10"], by_ca.as_slice()].concat());
        self.concatenate(&[&crt, "ca.crt", "root.crt"], &chain);
        chain
    }

    fn concatenate(&self, files: &[&str], to: &str) {
        let text: String = files.iter().map(|file| fs::read_to_string(self.path(file)).unwrap()).collect();
        fs::write(self.path(to), text).unwrap();
    }

    fn install(&self, file: &str) -> Output {
        self.hallmark(&["cert", "install", "demo", file, "--reason", "test"])
    }

    /// Why it was not installed.
    fn refused(&self, file: &str) -> String {
        let output = self.install(file);
        assert_eq!(output.status.code(), Some(1), "{file} was installed: {output:?}");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    async fn header(&self) -> Value {
        let signed = self.server.app().sign_for("demo").await.unwrap();
        let header = signed.assertion.split('.').next().unwrap().to_owned();
        serde_json::from_slice(&BASE64_URL_SAFE_NO_PAD.decode(header).unwrap()).unwrap()
    }

    fn keys(&self) -> Vec<Value> {
        let listed = done(&self.hallmark(&["keys", "list", "--client", "demo", "--json"]));
        serde_json::from_str::<Value>(&listed).unwrap()["keys"].as_array().unwrap().clone()
    }

    fn kid(&self, state: &str) -> String {
        let keys = self.keys();
        let key = keys.iter().find(|key| key["state"] == state).unwrap();
        key["kid"].as_str().unwrap().to_owned()
    }
}

fn done(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn der_of(path: &Path) -> Vec<u8> {
    read(&fs::read(path).unwrap()).unwrap().remove(0)
}

fn csr(clinic: &Clinic, client: &str, more: &[&str]) -> Output {
    let file = format!("{client}.csr");
    let names =
        ["--subject", "CN=clinic.example,O=Clinic", "--san-uri", URI, "--san-dns", "clinic.example", "--out", &file];
    clinic.hallmark(&[&["csr", client], names.as_slice(), more].concat())
}

#[tokio::test]
async fn from_a_request_to_an_assertion_that_shows_the_chain() {
    let clinic = Clinic::new().await;
    let refusal = clinic.server.app().sign_for("demo").await.unwrap_err();
    assert_eq!(refusal.reason, "NO_CERTIFICATE");
    assert!(refusal.message.contains("it has none") && refusal.message.contains("hallmark csr demo"), "{refusal:?}");

    let listed = done(&clinic.hallmark(&["keys", "list", "--client", "demo"]));
    assert_eq!(listed.matches("MISSING").count(), 2, "{listed}");

    clinic.make_ca();
    done(&csr(&clinic, "demo", &[]));
    let shown = clinic.openssl(&["req", "-in", "demo.csr", "-verify", "-noout", "-text"]);
    for part in ["verify OK", URI, "DNS:clinic.example", "Digital Signature", "O = Clinic, CN = clinic.example"] {
        assert!(shown.contains(part), "no `{part}` in {shown}");
    }
    let chain = clinic.issue("demo");
    let installed = clinic.install(&chain);
    done(&installed);
    assert!(String::from_utf8_lossy(&installed.stderr).contains("its authorization server must know it"));

    let (header, leaf) = (clinic.header().await, der_of(&clinic.path("demo.crt")));
    let x5c: Vec<_> = header["x5c"].as_array().unwrap().iter().map(|one| one.as_str().unwrap()).collect();
    let files = ["demo.crt", "ca.crt", "root.crt"].map(|file| BASE64_STANDARD.encode(der_of(&clinic.path(file))));
    assert_eq!(x5c, files, "leaf first, in standard base64");
    let thumbprints = Thumbprints::of(&leaf);
    assert_eq!((&header["x5t"], &header["x5t#S256"]), (&thumbprints.x5t().into(), &thumbprints.x5t_s256().into()));
    fs::write(clinic.path("shown.der"), BASE64_STANDARD.decode(x5c[0]).unwrap()).unwrap();
    clinic.openssl(&["x509", "-inform", "DER", "-in", "shown.der", "-out", "shown.crt"]);
    clinic.openssl(&["verify", "-CAfile", "root.crt", "-untrusted", "ca.crt", "shown.crt"]);

    let served = clinic.server.jwks_of("demo").await;
    let key = &served["keys"][0];
    assert_eq!((&key["x5c"][0], &key["x5t#S256"]), (&files[0].as_str().into(), &thumbprints.x5t_s256().into()));
    let shown = done(&clinic.hallmark(&["cert", "show", "demo"]));
    for part in [thumbprints.x5t(), thumbprints.x5t_s256(), URI.to_owned(), "-----BEGIN CERTIFICATE-----".to_owned()] {
        assert!(shown.contains(&part), "no `{part}` in {shown}");
    }
    let listed = done(&clinic.hallmark(&["keys", "list", "--client", "demo"]));
    assert!(listed.contains("CERTIFICATE") && listed.contains("in 9 days"), "{listed}");
    let (series, kid) = ("hallmark_certificate_expires_timestamp_seconds", clinic.kid("active"));
    let series = format!("{series}{{client=\"demo\",kid=\"{kid}\"}}");
    let end = Certificate::parse(&leaf).unwrap().validity.not_after.secs() as f64;
    let matches = async || (clinic.server.metric(&series).await == end).then_some(());
    eventually("the metric has the end of the certificate", PATIENCE, matches).await;
    let alarm = r#"hallmark_alarms{alarm="certificate"}"#;
    eventually("an alarm, for it ends in ten days", PATIENCE, async || {
        (clinic.server.metric(alarm).await > 0.5).then_some(())
    })
    .await;
}

#[tokio::test]
async fn what_no_server_would_take_is_refused_with_the_reason() {
    let clinic = Clinic::new().await;
    clinic.make_ca();
    done(&csr(&clinic, "demo", &[]));
    clinic.issue("demo");

    clinic.concatenate(&["root.crt", "ca.crt", "demo.crt"], "turned.pem");
    let turned = clinic.refused("turned.pem");
    assert!(turned.contains("wrong order") && turned.contains("must come first"), "{turned}");
    clinic.concatenate(&["demo.crt", "root.crt", "ca.crt"], "mixed.pem");
    assert!(clinic.refused("mixed.pem").contains("from the leaf up to the root"));
    clinic.concatenate(&["demo.crt", "root.crt"], "gap.pem");
    assert!(clinic.refused("gap.pem").contains("that one is missing"));
    clinic.openssl(&["req", "-newkey", "rsa:2048", "-nodes", "-keyout", "x.key", "-out", "x.csr", "-subj", "/CN=x"]);
    let foreign = clinic.issue("x");
    assert!(clinic.refused(&foreign).contains("is for another key"));
    clinic.concatenate(&["demo.crt", "x.key"], "with-key.pem");
    let (with_key, secret) = (clinic.refused("with-key.pem"), fs::read_to_string(clinic.path("x.key")).unwrap());
    assert!(with_key.contains("private key") && !with_key.contains(secret.lines().nth(1).unwrap()), "{with_key}");
    assert!(clinic.refused("demo.csr").contains("the request, not the certificate"));
    let day = Duration::from_secs(86_400);
    certify(&clinic, "past.pem", now() - 2 * day, now() - day);
    assert!(clinic.refused("past.pem").contains("it expired at"));
    certify(&clinic, "future.pem", now() + day, now() + 2 * day);
    assert!(clinic.refused("future.pem").contains("it is not valid before"));
    assert!(clinic.server.app().sign_for("demo").await.is_err(), "none of them was installed");
}

/// The key of `demo.csr`, as rcgen certifies it.
struct Requested(Vec<u8>);

impl PublicKeyData for Requested {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        &rcgen::PKCS_ECDSA_P256_SHA256
    }
}

/// A certificate of the active key, with these dates.
fn certify(clinic: &Clinic, file: &str, start: SystemTime, end: SystemTime) {
    let keys = clinic.keys();
    let key = keys.iter().find(|key| key["state"] == "active").unwrap();
    let spki = BASE64_STANDARD.decode(key["spki"].as_str().unwrap()).unwrap();
    let mut params = CertificateParams::default();
    params.distinguished_name.push(DnType::CommonName, "a leaf");
    (params.not_before, params.not_after) = (start.into(), end.into());
    let issuer = rcgen::Issuer::new(CertificateParams::default(), KeyPair::generate().unwrap());
    let point = spki[spki.len() - 65..].to_vec();
    fs::write(clinic.path(file), params.signed_by(&Requested(point), &issuer).unwrap().pem()).unwrap();
}

#[expect(clippy::disallowed_methods, reason = "the server's clock is the real one")]
fn now() -> SystemTime {
    SystemTime::now()
}

#[tokio::test]
async fn a_certificate_that_ran_out_does_not_sign() {
    let clinic = Clinic::new().await;
    let end = now() + Duration::from_secs(4);
    certify(&clinic, "short.pem", now() - Duration::from_secs(60), end);
    done(&clinic.install("short.pem"));
    let app = clinic.server.app();
    app.sign_for("demo").await.unwrap();
    let refusal = eventually("it runs out", PATIENCE, async || app.sign_for("demo").await.err()).await;
    assert_eq!(refusal.reason, "NO_CERTIFICATE");
    let date = humantime::format_rfc3339_seconds(end).to_string();
    assert!(refusal.message.contains(&format!("it expired at {date}")), "{refusal:?}");
    let listed = done(&clinic.hallmark(&["keys", "list", "--client", "demo"]));
    assert!(listed.contains("EXPIRED"), "{listed}");
}

#[tokio::test]
async fn keys_of_every_kind_ask_and_sign_themselves() {
    let algs = ["RS256", "RS384", "PS256", "PS512", "ES384", "EdDSA"];
    let client = |alg: &str| alg.to_lowercase();
    let clinic = Clinic::with(|site| {
        for alg in algs {
            site.add_client(&client(alg), alg, "https://as.example/token");
        }
    })
    .await;
    for alg in algs {
        let client = client(alg);
        eventually("it has a key", PATIENCE, async || clinic.server.app().sign_for(&client).await.ok()).await;
        done(&csr(&clinic, &client, &[]));
        let shown = clinic.openssl(&["req", "-in", &format!("{client}.csr"), "-verify", "-noout", "-text"]);
        assert!(shown.contains("verify OK"), "{alg}: {shown}");
        let made = clinic.hallmark(&["cert", "self-sign", &client, "--days", "365", "--reason", "test"]);
        done(&made);
        assert!(String::from_utf8_lossy(&made.stderr).contains("show no certificate; its JWKS does"));
        let file = format!("{client}.pem");
        fs::write(clinic.path(&file), done(&clinic.hallmark(&["cert", "show", &client]))).unwrap();
        let verified = clinic.openssl(&["verify", "-check_ss_sig", "-CAfile", &file, &file]);
        assert!(verified.contains("OK"), "{alg}: {verified}");
    }
}

#[tokio::test]
async fn a_rotation_waits_for_the_certificate_of_the_next_key() {
    let clinic = Clinic::with(|site| {
        site.append("\n[unsafe_testing]\nlead = \"1s\"\n");
    })
    .await;
    let (active, standby) = (clinic.kid("active"), clinic.kid("pre-active"));
    let self_sign = |more: &[&str]| {
        let words = ["cert", "self-sign", "demo", "--days", "90", "--reason", "test"];
        clinic.hallmark(&[words.as_slice(), more].concat())
    };
    done(&self_sign(&[]));
    let rotate = || clinic.hallmark(&["keys", "rotate", "demo", "--reason", "test"]);
    let refused = eventually("only the certificate is missing", PATIENCE, async || {
        let said = String::from_utf8_lossy(&rotate().stderr).into_owned();
        (!said.contains("must be served")).then_some(said)
    })
    .await;
    assert!(refused.contains("no certificate that is valid now"), "{refused}");
    let shown = done(&clinic.hallmark(&["keys", "show", &standby]));
    assert!(shown.contains("certificate  MISSING"), "{shown}");

    done(&self_sign(&["--standby"]));
    done(&rotate());
    assert_eq!((clinic.kid("active"), clinic.kid("deactivated")), (standby.clone(), active));
    let header = clinic.header().await;
    assert_eq!((&header["kid"], header["x5c"].as_array().unwrap().len()), (&standby.as_str().into(), 1));
}

#[tokio::test]
async fn every_signature_is_in_the_audit_log_by_its_kind() {
    let clinic = Clinic::new().await;
    done(&csr(&clinic, "demo", &["--reason", "the first one"]));
    done(&clinic.hallmark(&["cert", "self-sign", "demo", "--days", "30", "--reason", "for the sandbox"]));
    let log: String = fs::read_dir(clinic.site.audit_dir())
        .unwrap()
        .map(|entry| fs::read_to_string(entry.unwrap().path()).unwrap_or_default())
        .collect();
    for part in [
        "\"kind\":\"certificate-request\"",
        "\"kind\":\"certificate\"",
        "\"action\":\"install-certificate\"",
        "\"reason\":\"the first one\"",
        "\"reason\":\"for the sandbox\"",
    ] {
        assert!(log.contains(part), "no {part} in {log}");
    }
}
