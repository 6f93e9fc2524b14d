//! mTLS: who is accepted, and certificates that are replaced on disk.

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use hallmark_client::{Client, Connection, Remedy, SignRequest, reason};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tonic::transport::{Certificate, Identity, ServerTlsConfig};

use crate::support::hallmark::FakeHallmark;

struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Self(CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("a certificate"))
    }

    /// The certificate in DER and PEM, and its key in PEM.
    fn issue(&self, name: &str) -> (Vec<u8>, String, String) {
        let key = KeyPair::generate().expect("a key");
        let params = CertificateParams::new(vec![name.to_owned()]).expect("parameters");
        let certificate = params.signed_by(&key, &self.0).expect("a certificate");
        (certificate.der().to_vec(), certificate.pem(), key.serialize_pem())
    }
}

async fn serve(fake: &FakeHallmark, authority: &Authority) -> String {
    let (_, certificate, key) = authority.issue("127.0.0.1");
    let ca = Certificate::from_pem(authority.0.pem());
    fake.serve_tls(ServerTlsConfig::new().identity(Identity::from_pem(certificate, key)).client_ca_root(ca)).await
}

fn write(folder: &Path, authority: &Authority) -> Vec<u8> {
    let (der, certificate, key) = authority.issue("workload.example");
    fs::write(folder.join("cert.pem"), certificate).expect("written");
    fs::write(folder.join("key.pem"), key).expect("written");
    fs::write(folder.join("ca.pem"), authority.0.pem()).expect("written");
    der
}

fn connect(url: &str, folder: &Path) -> Client {
    let text = format!("endpoint = '{url}'\nca = 'ca.pem'\ncert = 'cert.pem'\nkey = 'key.pem'\n");
    fs::write(folder.join("connection.toml"), text).expect("written");
    Client::connect(Connection::from_file(folder.join("connection.toml")).expect("a connection")).expect("a client")
}

#[tokio::test]
async fn a_new_certificate_is_used_without_a_restart() {
    let (fake, authority) = (FakeHallmark::default(), Authority::new());
    let folder = tempfile::tempdir().expect("a folder");
    let first = write(folder.path(), &authority);
    let client = connect(&serve(&fake, &authority).await, folder.path());
    client.sign_assertion(SignRequest::new("clinic")).await.expect("an assertion");

    // Half of a replacement can't be used; the old pair goes on.
    let (_, other, _) = authority.issue("workload.example");
    fs::write(folder.path().join("cert.pem"), other).expect("written");
    fake.state().refused_certificates.push(first.clone());
    let error = client.sign_assertion(SignRequest::new("clinic")).await.expect_err("expired");
    assert_eq!((error.reason(), error.remedy()), ("CERTIFICATE_EXPIRED", Remedy::AskPermission));

    let second = write(folder.path(), &authority);
    client.sign_assertion(SignRequest::new("clinic")).await.expect("an assertion");
    assert_eq!(fake.state().peers, [first, second]);
}

#[tokio::test]
async fn an_unknown_authority_is_told_at_once() {
    let (fake, authority) = (FakeHallmark::default(), Authority::new());
    let folder = tempfile::tempdir().expect("a folder");
    write(folder.path(), &authority);
    fs::write(folder.path().join("ca.pem"), Authority::new().0.pem()).expect("written");
    let client = connect(&serve(&fake, &authority).await, folder.path());
    let start = Instant::now();
    let error = client.sign_assertion(SignRequest::new("clinic")).await.expect_err("not trusted");
    assert_eq!(error.reason(), reason::TLS_FAILED, "{error:?}");
    assert!(start.elapsed() < Duration::from_secs(5), "it was tried again");
}

#[tokio::test]
async fn unusable_files_are_named() {
    let folder = tempfile::tempdir().expect("a folder");
    let refused = |connection| Client::connect(connection).err().expect("refused").to_string();
    let path = |name: &str| folder.path().join(name);
    let connection = || Connection::tls("https://127.0.0.1:1", path("ca.pem"), path("cert.pem"), path("key.pem"));
    assert!(refused(connection()).contains("ca.pem"));
    write(folder.path(), &Authority::new());
    fs::write(path("ca.pem"), "nothing").expect("written");
    assert!(refused(connection()).contains("no certificate in `ca`"));
    write(folder.path(), &Authority::new());
    fs::write(path("key.pem"), "nothing").expect("written");
    assert!(refused(connection()).contains("key.pem"));
}
