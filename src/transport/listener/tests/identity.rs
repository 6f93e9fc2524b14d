//! Who calls, by certificate or by socket.

use std::io::ErrorKind;

use rustls::{
    SignatureScheme,
    client::ResolvesClientCert,
    crypto::aws_lc_rs::sign::any_supported_type,
    pki_types::PrivateKeyDer,
    sign::CertifiedKey,
    version::{TLS12, TLS13},
};
use tokio::net::UnixStream;

use super::*;
use crate::transport::fixture::root;

#[derive(Debug)]
struct Thief(Arc<CertifiedKey>);

impl ResolvesClientCert for Thief {
    fn resolve(&self, _: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0))
    }

    fn has_certs(&self) -> bool {
        true
    }
}

#[tokio::test]
async fn the_certificate_says_who_calls_and_no_handshake_fails_for_it() {
    let (files, metrics) = (Files::new(), Metrics::new());
    let server = whoami(secured(&files, &metrics).await);
    let name = [uri("spiffe://a.example/x")];
    for (identity, expected) in [
        (Some(certified(&files.ca, &name)), "spiffe://a.example/x"),
        (Some(certified(&files.ca, &[uri("spiffe://b.example/x")])), "IDENTITY_INVALID"),
        (Some(certified(&root("stranger"), &name)), "CERTIFICATE_UNTRUSTED"),
        (None, "NOT_AUTHENTICATED"),
    ] {
        let mut stream = connect_tls(server.addr, files.client(identity)).await.unwrap();
        for _ in 0..2 {
            assert_eq!(body(&exchange(&mut stream, "GET", "/", "").await.unwrap()), expected);
        }
    }
}

#[tokio::test]
async fn a_certificate_without_its_key_gets_nowhere() {
    let (files, metrics) = (Files::new(), Metrics::new());
    let server = whoami(secured(&files, &metrics).await);
    let (stolen, key) = certified(&files.ca, &[uri("spiffe://a.example/x")]);
    let other_key = rcgen::KeyPair::generate().unwrap();
    for version in [&TLS12, &TLS13] {
        for (key, welcome) in [(&key, true), (&other_key, false)] {
            let key = any_supported_type(&PrivateKeyDer::try_from(key.serialize_der()).unwrap()).unwrap();
            let shown = Arc::new(Thief(Arc::new(CertifiedKey::new(vec![stolen.clone()], key))));
            let mut config = files.client(None);
            config.client_auth_cert_resolver = shown;
            let provider = config.crypto_provider().clone();
            let roots = {
                let mut roots = rustls::RootCertStore::empty();
                roots.add(files.ca.der().clone()).unwrap();
                roots
            };
            let mut one_version = rustls::ClientConfig::builder_with_provider(provider)
                .with_protocol_versions(&[version])
                .unwrap()
                .with_root_certificates(roots)
                .with_no_client_auth();
            one_version.client_auth_cert_resolver = config.client_auth_cert_resolver;
            let answer = async {
                let mut stream = connect_tls(server.addr, one_version).await?;
                exchange(&mut stream, "GET", "/", "").await
            };
            assert_eq!(answer.await.is_ok(), welcome, "{version:?}");
        }
    }
    assert_eq!(refused(&metrics, "handshake"), 2);
}

#[tokio::test]
async fn a_unix_peer_is_its_uid() {
    let (metrics, folder) = (Metrics::new(), tempfile::tempdir().unwrap());
    let path = folder.path().join("socket");
    for _ in 0..2 {
        // The second time a file is there that nobody listens on.
        drop(std::os::unix::net::UnixListener::bind(&path));
        let socket = Socket::unix(&path).unwrap();
        assert_eq!(Socket::unix(&path).unwrap_err().kind(), ErrorKind::AddrInUse);
        let server = whoami(Listener { socket, callers: Callers::PeerCredentials, ..plain(&metrics).await });
        let mut stream = UnixStream::connect(&path).await.unwrap();
        let expected = format!("uid:{}", rustix::process::getuid().as_raw());
        assert_eq!(body(&exchange(&mut stream, "GET", "/", "").await.unwrap()), expected);
        server.drain.cancel();
        server.served.await.unwrap();
        assert!(!path.exists());
    }
}

#[tokio::test]
async fn new_files_count_for_new_connections_and_end_the_old() {
    let (files, metrics) = (Files::new(), Metrics::new());
    let (tls, trusts) = (files.tls(PeerCertificates::Asked, &metrics), files.trusts(&metrics));
    let listener =
        Listener { tls: Some(tls.clone()), callers: Callers::Certificate(trusts.clone()), ..plain(&metrics).await };
    let server = whoami(listener);
    let client = || files.client(Some(certified(&files.ca, &[uri("spiffe://a.example/x")])));
    let mut stream = connect_tls(server.addr, client()).await.unwrap();
    exchange(&mut stream, "GET", "/", "").await.unwrap();
    let shown = |stream: &tokio_rustls::client::TlsStream<TcpStream>| {
        stream.get_ref().1.peer_certificates().unwrap()[0].clone()
    };

    files.write_server();
    tls.check();
    let mut next = connect_tls(server.addr, client()).await.unwrap();
    assert_ne!(shown(&stream), shown(&next));
    exchange(&mut next, "GET", "/", "").await.unwrap();
    exchange(&mut stream, "GET", "/", "").await.unwrap();

    std::fs::write(files.path("trust.pem"), root("other").pem()).unwrap();
    trusts.check();
    closed(&mut stream).await;
    closed(&mut next).await;
    let mut last = connect_tls(server.addr, client()).await.unwrap();
    assert_eq!(body(&exchange(&mut last, "GET", "/", "").await.unwrap()), "CERTIFICATE_UNTRUSTED");
}
