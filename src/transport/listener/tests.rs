mod crowd;

use std::{
    io::ErrorKind,
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use http_body_util::Full;
use hyper::{body::Bytes, service::service_fn};
use rustls::{
    SignatureScheme,
    client::ResolvesClientCert,
    crypto::aws_lc_rs::sign::any_supported_type,
    pki_types::PrivateKeyDer,
    sign::CertifiedKey,
    version::{TLS12, TLS13},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UnixStream},
    sync::Notify,
    time::timeout,
};

use super::*;
use crate::{
    telemetry::Metrics,
    transport::{
        fixture::{Files, Running, certified, closed, connect_tls, exchange, plain, root, run, uri, whoami},
        reload::Reload,
        tls::PeerCertificates,
    },
};

const SOON: Duration = Duration::from_millis(200);
const LATE: Duration = Duration::from_secs(10);

fn count(metrics: &Metrics, series: &str) -> u64 {
    let scrape = metrics.encode();
    let value = scrape.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    value.map_or(0, |value| value.parse().unwrap())
}

fn refused(metrics: &Metrics, cause: &str) -> u64 {
    count(metrics, &format!(r#"hallmark_connections_refused_total{{listener="test",cause="{cause}"}}"#))
}

/// A TLS listener that asks for certificates, and speaks HTTP/1.1 too, so that tests can write requests by hand.
async fn secured(files: &Files, metrics: &Metrics) -> Listener {
    Listener {
        tls: Some(files.tls(PeerCertificates::Asked, metrics)),
        callers: Callers::Certificate(files.trusts(metrics)),
        ..plain(metrics).await
    }
}

fn body(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").unwrap().1
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
async fn one_too_many_is_closed_at_once_and_a_place_comes_back() {
    let metrics = Metrics::new();
    let mut listener = plain(&metrics).await;
    listener.limits.connections = 2;
    let server = whoami(listener);
    let mut first = TcpStream::connect(server.addr).await.unwrap();
    let mut second = TcpStream::connect(server.addr).await.unwrap();
    for stream in [&mut first, &mut second] {
        exchange(stream, "GET", "/", "").await.unwrap();
    }
    closed(&mut TcpStream::connect(server.addr).await.unwrap()).await;
    assert_eq!(refused(&metrics, "limit"), 1);

    drop(first);
    let again = async {
        loop {
            let mut stream = TcpStream::connect(server.addr).await.unwrap();
            if exchange(&mut stream, "GET", "/", "").await.is_ok() {
                break;
            }
        }
    };
    timeout(LATE, again).await.unwrap();
    exchange(&mut second, "GET", "/", "").await.unwrap();
    assert_eq!(count(&metrics, r#"hallmark_connections_accepted_total{listener="test"}"#), 3);
}

#[tokio::test]
async fn strangers_have_few_places_and_a_short_life() {
    let (files, metrics) = (Files::new(), Metrics::new());
    let mut listener = secured(&files, &metrics).await;
    listener.limits.unidentified = 1;
    let server = whoami(listener);
    let member = || files.client(Some(certified(&files.ca, &[uri("spiffe://a.example/x")])));
    let mut first_member = connect_tls(server.addr, member()).await.unwrap();
    exchange(&mut first_member, "GET", "/", "").await.unwrap();

    let mut stranger = connect_tls(server.addr, files.client(None)).await.unwrap();
    exchange(&mut stranger, "GET", "/", "").await.unwrap();
    let mut another = connect_tls(server.addr, files.client(None)).await.unwrap();
    exchange(&mut another, "GET", "/", "").await.expect("the older makes room");
    closed(&mut stranger).await;
    assert_eq!(refused(&metrics, "unidentified-limit"), 1);
    let mut second_member = connect_tls(server.addr, member()).await.unwrap();
    exchange(&mut second_member, "GET", "/", "").await.unwrap();
    exchange(&mut first_member, "GET", "/", "").await.unwrap();

    let mut listener = secured(&files, &metrics).await;
    listener.limits.unidentified_age = SOON;
    let server = whoami(listener);
    let mut stranger = connect_tls(server.addr, files.client(None)).await.unwrap();
    exchange(&mut stranger, "GET", "/", "").await.unwrap();
    closed(&mut stranger).await;
}

/// A server whose callers are known once they ask for `/prove`.
fn provable(listener: Listener) -> Running {
    run(listener, |peer| {
        let peer = Arc::clone(peer);
        service_fn(move |request: Request<Incoming>| {
            if request.uri().path() == "/prove" {
                peer.prove();
            }
            std::future::ready(Ok::<_, std::convert::Infallible>(Response::new(Full::new(Bytes::new()))))
        })
    })
}

#[tokio::test]
async fn who_proves_to_be_somebody_gives_the_narrow_place_back_at_once() {
    let (files, metrics) = (Files::new(), Metrics::new());
    let mut listener = secured(&files, &metrics).await;
    // It must be the proof that frees the place, and no time that is over.
    (listener.limits.unidentified, listener.limits.unidentified_age) = (1, Duration::from_secs(60));
    let server = provable(listener);
    let mut proved = Vec::new();
    for _ in 0..5 {
        let again = async {
            // The place is free a moment after the answer.
            loop {
                let mut stream = connect_tls(server.addr, files.client(None)).await.unwrap();
                if exchange(&mut stream, "GET", "/prove", "").await.is_ok() {
                    return stream;
                }
            }
        };
        proved.push(timeout(LATE, again).await.expect("the place is free"));
    }
    for stream in &mut proved {
        exchange(stream, "GET", "/", "").await.expect("it is a connection like others");
    }
}

#[tokio::test]
async fn who_proves_to_be_somebody_stays_and_who_does_not_goes() {
    let (files, metrics) = (Files::new(), Metrics::new());
    let mut listener = secured(&files, &metrics).await;
    listener.limits.unidentified_age = SOON;
    let server = provable(listener);
    let mut somebody = connect_tls(server.addr, files.client(None)).await.unwrap();
    exchange(&mut somebody, "GET", "/prove", "").await.unwrap();
    // It came later, so that its end is later than that of the first would be.
    let mut nobody = connect_tls(server.addr, files.client(None)).await.unwrap();
    exchange(&mut nobody, "GET", "/", "").await.unwrap();
    closed(&mut nobody).await;
    tokio::time::sleep(SOON / 2).await;
    exchange(&mut somebody, "GET", "/", "").await.expect("it stays");
}

#[tokio::test]
async fn the_silent_are_sent_away_and_hold_nobody() {
    let (files, metrics) = (Files::new(), Metrics::new());
    let mut listener = secured(&files, &metrics).await;
    listener.limits.handshake_timeout = SOON;
    let secured = whoami(listener);
    let mut listener = plain(&metrics).await;
    listener.limits.header_timeout = SOON;
    let open = whoami(listener);

    let mut no_hello = TcpStream::connect(secured.addr).await.unwrap();
    let mut no_request = TcpStream::connect(open.addr).await.unwrap();
    let mut half_header = TcpStream::connect(open.addr).await.unwrap();
    half_header.write_all(b"GET / HTTP/1.1\r\nhost: te").await.unwrap();
    let mut half_preface = TcpStream::connect(open.addr).await.unwrap();
    half_preface.write_all(b"PRI * HTTP/2.0\r\n").await.unwrap();
    let mut idle_h2 = TcpStream::connect(open.addr).await.unwrap();
    idle_h2.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    let mut busy = connect_tls(secured.addr, files.client(None)).await.unwrap();
    exchange(&mut busy, "GET", "/", "").await.unwrap();

    closed(&mut no_hello).await;
    for stream in [&mut no_request, &mut half_header, &mut half_preface, &mut idle_h2] {
        closed(stream).await;
    }
    assert_eq!(refused(&metrics, "handshake-timeout"), 1);
}

#[tokio::test]
async fn the_silent_keep_nobody_from_a_handshake() {
    let (files, metrics) = (Files::new(), Metrics::new());
    let mut listener = secured(&files, &metrics).await;
    listener.limits.handshakes = 1;
    listener.limits.handshake_timeout = Duration::from_secs(60);
    let server = whoami(listener);
    let mut silent = TcpStream::connect(server.addr).await.unwrap();
    silent.write_all(b"\x16\x03").await.unwrap();
    let served = async {
        let mut stream = connect_tls(server.addr, files.client(None)).await.unwrap();
        exchange(&mut stream, "GET", "/", "").await.unwrap()
    };
    timeout(LATE, served).await.unwrap();
}

/// Serves requests that wait until `release`; counts those that have come.
fn slow(listener: Listener, arrived: Arc<Notify>, release: CancellationToken) -> Running {
    run(listener, move |_| {
        let (arrived, release) = (arrived.clone(), release.clone());
        service_fn(move |_| {
            let (arrived, release) = (arrived.clone(), release.clone());
            async move {
                arrived.notify_one();
                release.cancelled().await;
                Ok::<_, std::convert::Infallible>(Response::new(Full::new(Bytes::from("late"))))
            }
        })
    })
}

#[tokio::test]
async fn what_was_accepted_is_answered_before_the_end() {
    let metrics = Metrics::new();
    let (arrived, release) = (Arc::new(Notify::new()), CancellationToken::new());
    let server = slow(plain(&metrics).await, arrived.clone(), release.clone());
    let h2 = reqwest::Client::builder().http2_prior_knowledge().build().unwrap();
    let request = tokio::spawn(h2.get(format!("http://{}/", server.addr)).send());
    arrived.notified().await;
    let mut http1 = TcpStream::connect(server.addr).await.unwrap();
    let addr = server.addr;
    let other = tokio::spawn(async move { exchange(&mut http1, "GET", "/", "").await });
    arrived.notified().await;
    let mut idle = TcpStream::connect(addr).await.unwrap();
    timeout(LATE, async {
        while count(&metrics, r#"hallmark_connections{listener="test"}"#) < 3 {
            tokio::task::yield_now().await;
        }
    })
    .await
    .unwrap();

    server.drain.cancel();
    closed(&mut idle).await;
    assert_eq!(TcpStream::connect(addr).await.unwrap_err().kind(), ErrorKind::ConnectionRefused);
    release.cancel();
    assert_eq!(request.await.unwrap().unwrap().text().await.unwrap(), "late");
    let answer = other.await.unwrap().unwrap();
    assert!(answer.contains("connection: close") && answer.ends_with("late"), "{answer}");
    timeout(LATE, server.served).await.unwrap().unwrap();
    assert_eq!(count(&metrics, r#"hallmark_connections{listener="test"}"#), 0);
}

#[tokio::test]
async fn the_grace_ends_even_if_a_request_does_not() {
    let metrics = Metrics::new();
    let mut listener = plain(&metrics).await;
    listener.limits.grace = SOON;
    let arrived = Arc::new(Notify::new());
    let server = slow(listener, arrived.clone(), CancellationToken::new());
    let mut stream = TcpStream::connect(server.addr).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nhost: test\r\n\r\n").await.unwrap();
    arrived.notified().await;
    server.drain.cancel();
    timeout(LATE, server.served).await.unwrap().unwrap();
    closed(&mut stream).await;
}

#[tokio::test]
async fn old_connections_are_asked_to_go() {
    let metrics = Metrics::new();
    let mut listener = plain(&metrics).await;
    listener.limits.age = SOON;
    let server = whoami(listener);
    let mut stream = TcpStream::connect(server.addr).await.unwrap();
    exchange(&mut stream, "GET", "/", "").await.unwrap();
    closed(&mut stream).await;
    let mut next = TcpStream::connect(server.addr).await.unwrap();
    exchange(&mut next, "GET", "/", "").await.unwrap();
}

#[tokio::test]
async fn streams_learn_that_their_connection_has_to_go() {
    let metrics = Metrics::new();
    let mut listener = plain(&metrics).await;
    listener.limits.age = SOON;
    let server = run(listener, |peer| {
        let peer = Arc::clone(peer);
        service_fn(move |_| {
            let peer = Arc::clone(&peer);
            async move {
                peer.closing().cancelled().await;
                Ok::<_, std::convert::Infallible>(Response::new(Full::new(Bytes::from("bye"))))
            }
        })
    });
    let mut stream = TcpStream::connect(server.addr).await.unwrap();
    let answer = timeout(LATE, exchange(&mut stream, "GET", "/", "")).await.unwrap().unwrap();
    assert_eq!(body(&answer), "bye");
}

#[tokio::test]
async fn a_client_that_does_not_read_holds_nobody() {
    let metrics = Metrics::new();
    let served = Arc::new(AtomicUsize::new(0));
    let counted = served.clone();
    let server = run(plain(&metrics).await, move |_| {
        let served = counted.clone();
        service_fn(move |_| {
            served.fetch_add(1, Ordering::Relaxed);
            let large = Bytes::from(vec![b'x'; 8 * 1024 * 1024]);
            std::future::ready(Ok::<_, std::convert::Infallible>(Response::new(Full::new(large))))
        })
    });
    let mut deaf = Vec::new();
    for _ in 0..16 {
        let mut stream = TcpStream::connect(server.addr).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nhost: test\r\n\r\n").await.unwrap();
        deaf.push(stream);
    }
    let mut reader = TcpStream::connect(server.addr).await.unwrap();
    let answer = timeout(LATE, exchange(&mut reader, "GET", "/", "")).await.unwrap().unwrap();
    assert!(answer.len() > 8 * 1024 * 1024);
    assert!(served.load(Ordering::Relaxed) >= 1);
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

#[tokio::test]
async fn grpc_ports_speak_http2_over_tls() {
    let (files, metrics) = (Files::new(), Metrics::new());
    let listener = Listener { protocol: Protocol::Http2, limits: Limits::grpc(), ..secured(&files, &metrics).await };
    let server = whoami(listener);
    let (certificate, key) = certified(&files.ca, &[uri("spiffe://a.example/x")]);
    let pem = x509_cert::der::pem::encode_string("CERTIFICATE", x509_cert::der::pem::LineEnding::LF, &certificate);
    let identity = reqwest::Identity::from_pem((pem.unwrap() + &key.serialize_pem()).as_bytes()).unwrap();
    let ca = reqwest::Certificate::from_pem(files.ca.pem().as_bytes()).unwrap();
    let client = reqwest::Client::builder().tls_certs_only([ca]).identity(identity).build().unwrap();
    let url = format!("https://localhost:{}/", server.addr.port());
    let client = client.get(url).send();
    let answer = client.await.unwrap();
    assert_eq!(answer.version(), http::Version::HTTP_2);
    assert_eq!(answer.text().await.unwrap(), "spiffe://a.example/x");
}

#[tokio::test]
async fn rubbish_harms_nobody() {
    let metrics = Metrics::new();
    let mut listener = plain(&metrics).await;
    listener.protocol = Protocol::Http2;
    let server = whoami(listener);
    for rubbish in [
        &b"\0\0\0\0\0\0\0\0"[..],
        b"GET / HTTP/1.1\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\x04\0\0\0\0\0",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0\0\0\x01\x09\0\0\0\0\x01\0",
    ] {
        let mut stream = TcpStream::connect(server.addr).await.unwrap();
        stream.write_all(rubbish).await.unwrap();
        let mut rest = Vec::new();
        let _ = timeout(LATE, stream.read_to_end(&mut rest)).await.expect("closed");
    }
    let client = reqwest::Client::builder().http2_prior_knowledge().build().unwrap();
    assert!(client.get(format!("http://{}/", server.addr)).send().await.is_ok());
}

#[test]
fn trouble_of_one_connection_is_not_ours() {
    assert!(is_of_one_connection(&ErrorKind::ConnectionAborted.into()));
    for ours in [rustix::io::Errno::MFILE, rustix::io::Errno::NFILE, rustix::io::Errno::NOMEM] {
        assert!(!is_of_one_connection(&ours.into()), "{ours}");
    }
}
