//! Callers without a certificate, whom an issuer's tokens name.

use std::{
    fs,
    net::TcpStream,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use hallmark_client::{Client, Connection, SignRequest};
use hallmark_proto::v1::{SignAssertionsRequest, sign_assertions_response};
use rustls::{
    ClientConfig, ClientConnection, RootCertStore,
    pki_types::{CertificateDer, pem::PemObject},
};
use serde_json::json;
use tokio::sync::mpsc::unbounded_channel;
use tokio_stream::wrappers::UnboundedReceiverStream;
use tonic::{Code, Request};
use tonic_types::RpcStatusExt;

use crate::support::{
    Caller, PATIENCE, Refusal, Server, Site,
    caller::for_client,
    eventually,
    issuer::{ISSUER, Issuer, POD, SigningKey, claims, now, write_keys},
    pki::replace,
};

/// A site that trusts tokens by keys that are `from`, such as `jwks_file = "jwks.json"`.
fn site(from: &str) -> Site {
    let mut site = Site::new();
    site.append(&format!(
        "\n[[issuer]]\nissuer = \"{ISSUER}\"\naudience = \"hallmark\"\nalgorithms = [\"ES256\"]\n{from}\n\
         \n[[workload]]\nid = \"jwt:{ISSUER}#{POD}\"\nclients = [\"demo\"]\n"
    ));
    site
}

/// A running server whose issuer's keys are in a file; the file begins with `key`.
async fn with_file(key: &SigningKey) -> (Site, Server) {
    let site = site("jwks_file = \"jwks.json\"");
    write_keys(&site.folder().join("jwks.json"), &[key]);
    let server = site.start_with(|command| _ = command.env("HALLMARK_LOG", "trace"));
    server.ready().await;
    (site, server)
}

fn bearing<T>(message: T, token: &str) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
    request
}

async fn sign(caller: &Caller, token: &str) -> Result<(), Refusal> {
    caller.sign(bearing(for_client("demo"), token)).await.map(drop)
}

async fn reason(caller: &Caller, token: &str) -> String {
    sign(caller, token).await.err().map(|refusal| refusal.reason).unwrap_or_default()
}

/// Signs without a pause, as a busy service does; every answer must be an assertion.
struct Busy {
    signed: Arc<AtomicUsize>,
    stop: Arc<AtomicBool>,
    task: tokio::task::JoinHandle<()>,
}

impl Busy {
    fn start(hallmark: Client) -> Self {
        let (signed, stop) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicBool::new(false)));
        let (count, stopped) = (signed.clone(), stop.clone());
        let task = tokio::spawn(async move {
            while !stopped.load(Ordering::Relaxed) {
                hallmark.sign_assertion(SignRequest::new("demo").timeout(PATIENCE)).await.unwrap();
                count.fetch_add(1, Ordering::Relaxed);
            }
        });
        Self { signed, stop, task }
    }

    /// Waits for some that began after this was called.
    async fn goes_on(&self) {
        let before = self.signed.load(Ordering::Relaxed);
        eventually("calls go on", PATIENCE, async || {
            assert!(!self.task.is_finished(), "a call was refused");
            (self.signed.load(Ordering::Relaxed) > before + 3).then_some(())
        })
        .await;
    }

    async fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        self.task.await.expect("no call was refused");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_service_signs_on_while_its_tokens_and_their_keys_change() {
    let keys = ["k1", "k2", "k3", "k4"].map(SigningKey::new);
    let [one, two, three, unpublished] = &keys;
    let issuer = Issuer::serving(&[one]).await;
    let site = site(&format!("jwks_url = \"{}\"", issuer.jwks_url));
    let mut server = site.start();
    server.ready().await;
    let file = site.folder().join("token");
    let renew = |key: &SigningKey| replace(&file, &format!("{}\n", key.token(POD)));
    renew(one);
    let hallmark = Client::connect(connection(&site, &server)).unwrap();
    let busy = Busy::start(hallmark);
    busy.goes_on().await;

    // The worst that an issuer may do: it signs with a key as soon as it is published. Twice, for the second time the
    // set has been read a moment ago.
    for (published, new) in [([two, one], two), ([three, two], three)] {
        issuer.publish(&published);
        renew(new);
        busy.goes_on().await;
    }
    let raw = server.caller(None);
    assert_eq!(reason(&raw, &one.token(POD)).await, "TOKEN_INVALID", "its key was taken back");

    issuer.go_down();
    let refused = sign(&raw, &unpublished.token(POD)).await.unwrap_err();
    assert_eq!((refused.code, refused.reason.as_str()), (Code::Unavailable, "ISSUER_UNAVAILABLE"), "{refused:?}");
    assert!(refused.retry_after.is_some());
    server.process.wait_for_log("the last ones count");
    busy.goes_on().await;
    busy.end().await;
    for (reason, times) in [("TOKEN_INVALID", 1.0), ("ISSUER_UNAVAILABLE", 1.0), ("TOKEN_EXPIRED", 0.0)] {
        let series = format!("hallmark_refusals_total{{reason=\"{reason}\"}}");
        assert_eq!(server.metric(&series).await, times, "{reason}");
    }
}

/// A connection file as a pod has it.
fn connection(site: &Site, server: &Server) -> Connection {
    let path = site.folder().join("pod.toml");
    let text = format!("endpoint = \"{}\"\nca = \"ca.pem\"\nbearer_token_file = \"token\"\n", server.grpc);
    fs::write(&path, text).unwrap();
    Connection::from_file(path).unwrap()
}

#[tokio::test]
async fn a_token_where_no_issuer_is_configured_is_told_so() {
    let site = Site::new();
    let server = site.start();
    server.ready().await;
    let token = SigningKey::new("k1").token(POD);
    let refusal = sign(&server.caller(None), &token).await.unwrap_err();
    assert_eq!(refusal.reason, "NOT_AUTHENTICATED");
    assert!(refusal.message.contains("a bearer token was shown") && refusal.message.contains("no [[issuer]]"));
    let refusal = server.caller(None).sign(for_client("demo")).await.unwrap_err();
    assert!(refusal.message.contains("no bearer token"), "{refusal:?}");
}

#[tokio::test]
async fn tokens_that_count_for_nothing_and_are_written_down_nowhere() {
    let (key, stranger) = (SigningKey::new("k1"), SigningKey::new("k1"));
    let (site, server) = with_file(&key).await;
    let with = |name: &str, value: serde_json::Value| {
        let mut claims = claims(POD);
        claims[name] = value;
        claims
    };
    let without = |name: &str| {
        let mut claims = claims(POD);
        claims.as_object_mut().unwrap().remove(name);
        claims
    };
    let mut tokens = vec![
        ("TOKEN_INVALID", key.sign(&with("aud", json!("https://other.example")))),
        ("TOKEN_INVALID", key.sign(&with("iss", json!("https://other.example")))),
        ("TOKEN_EXPIRED", key.sign(&with("exp", json!(now() - 1)))),
        ("TOKEN_INVALID", key.sign(&with("exp", json!(null)))),
        ("TOKEN_INVALID", key.sign(&without("exp"))),
        ("TOKEN_INVALID", key.sign(&with("nbf", json!(now() + 3600)))),
        ("TOKEN_INVALID", key.sign(&with("iat", json!(now() + 3600)))),
        ("TOKEN_INVALID", key.forge(&claims(POD))),
        ("TOKEN_INVALID", key.unsigned(&claims(POD))),
        ("TOKEN_INVALID", stranger.token(POD)),
        ("WORKLOAD_UNKNOWN", key.token("system:serviceaccount:prod:other")),
    ];
    let caller = server.caller(None);
    assert_eq!(caller.sign_for("demo").await.unwrap_err().reason, "NOT_AUTHENTICATED");
    let mut shown = String::new();
    for (expected, token) in &tokens {
        let refused = sign(&caller, token).await.expect_err(expected);
        assert_eq!(refused.reason, *expected, "{refused:?}");
        let denied = matches!(refused.code, Code::Unauthenticated | Code::PermissionDenied);
        assert!(denied && (refused.code == Code::Unauthenticated) == expected.starts_with("TOKEN"), "{refused:?}");
        shown += &format!("{refused:?}");
    }
    let mut twice = bearing(for_client("demo"), &key.token(POD));
    twice.metadata_mut().append("authorization", format!("Bearer {}", key.token(POD)).parse().unwrap());
    assert_eq!(caller.sign(twice).await.unwrap_err().reason, "TOKEN_INVALID");

    // What the thin client says of a refusal.
    fs::write(site.folder().join("token"), &tokens[0].1).unwrap();
    let refused = Client::connect(connection(&site, &server)).unwrap();
    let refused = refused.sign_assertion(SignRequest::new("demo")).await.unwrap_err();
    assert_eq!(refused.reason(), "TOKEN_INVALID");
    shown += &format!("{refused} {refused:?}");

    // A good one does, on the same connection; and one of the key that comes next, at once.
    tokens.push(("", key.token(POD)));
    sign(&caller, &tokens.last().unwrap().1).await.unwrap();
    let next = SigningKey::new("k2");
    write_keys(&site.folder().join("jwks.json"), &[&next, &key]);
    sign(&caller, &next.token(POD)).await.unwrap();

    shown += &server.log();
    shown += &server.health("/metrics").await.1;
    shown += &all_text(&site.audit_dir());
    assert!(shown.contains(POD), "the audit log says who it was");
    for (expected, token) in &tokens {
        for secret in token.split('.').skip(1).filter(|part| !part.is_empty()) {
            assert!(!shown.contains(secret), "of the token for {expected:?}: {secret}");
        }
    }
}

fn all_text(folder: &Path) -> String {
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).filter(|path| path.is_file());
    files.map(|file| String::from_utf8_lossy(&fs::read(file).unwrap()).into_owned()).collect()
}

#[tokio::test]
async fn a_certificate_counts_and_no_token_beside_it() {
    let key = SigningKey::new("k1");
    let (site, server) = with_file(&key).await;
    let (good, nobodys) = (key.token(POD), key.token("system:serviceaccount:prod:other"));
    let stranger = site.ca.client("spiffe://test.example/stranger");
    for token in [nobodys.as_str(), "nonsense", &key.forge(&claims(POD))] {
        sign(&server.app(), token).await.expect("the certificate is enough");
    }
    assert_eq!(reason(&server.caller(Some(&stranger)), &good).await, "WORKLOAD_UNKNOWN");
    let expired = site.ca.expired_client("spiffe://test.example/app");
    assert_eq!(reason(&server.caller(Some(&expired)), &good).await, "CERTIFICATE_UNTRUSTED");
    let socket = Caller::unix(&server.unix);
    assert_ne!(reason(&socket, &good).await, "", "there the uid counts");
    sign(&server.caller(None), &good).await.expect("without a certificate the token counts");
}

#[tokio::test]
async fn a_token_that_expires_on_an_open_stream() {
    let key = SigningKey::new("k1");
    let (_site, server) = with_file(&key).await;
    let end = now() + 4;
    let mut short = claims(POD);
    short["exp"] = json!(end);
    let short = key.sign(&short);
    let (send, requests) = unbounded_channel();
    let mut client = server.caller(None).assertions();
    let stream = bearing(UnboundedReceiverStream::new(requests), &short);
    let mut answers = client.sign_assertions(stream).await.unwrap().into_inner();
    let mut signed = 0;
    let refused = eventually("the token expires", PATIENCE, async || {
        let sent = now();
        let item = SignAssertionsRequest { request: Some(for_client("demo")), ..Default::default() };
        send.send(item).unwrap();
        match answers.message().await.unwrap().expect("the stream goes on").result.unwrap() {
            sign_assertions_response::Result::Error(status) => Some(status),
            sign_assertions_response::Result::Assertion(_) => {
                assert!(sent <= end, "signed after the end of the token");
                signed += 1;
                None
            }
        }
    })
    .await;
    assert!(signed > 0 && now() >= end, "refused before its end");
    assert_eq!(refused.code, i32::from(Code::Unauthenticated));
    assert_eq!(refused.get_details_error_info().unwrap().reason, "TOKEN_EXPIRED");
    assert_eq!(reason(&server.caller(None), &short).await, "TOKEN_EXPIRED", "a new call neither");
}

/// More than there are places for connections without a certificate that have shown nothing.
const PODS: usize = 80;

#[tokio::test]
async fn many_that_have_no_certificate_stay_connected_by_their_tokens() {
    let key = SigningKey::new("k1");
    let (_site, server) = with_file(&key).await;
    let token = key.token(POD);
    let pods: Vec<_> = (0..PODS).map(|_| server.caller(None)).collect();
    for round in 0..2 {
        for pod in &pods {
            sign(pod, &token).await.unwrap_or_else(|refused| panic!("round {round}: {refused:?}"));
        }
    }
    let accepted = server.metric(r#"hallmark_connections_accepted_total{listener="grpc"}"#).await;
    assert!(accepted < (PODS + 10) as f64, "{accepted} connections: some were closed");
    let refused = r#"hallmark_connections_refused_total{listener="grpc",cause="unidentified-limit"}"#;
    assert_eq!(server.metric(refused).await, 0.0);
}

/// As many connections as there are places for callers who have shown nothing, twice over.
const STRANGERS: usize = 130;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn strangers_on_all_places_keep_nobody_out() {
    let key = SigningKey::new("k1");
    let (site, server) = with_file(&key).await;
    let token = key.token(POD);
    let (ca, grpc) = (site.ca.pem.clone(), server.grpc.clone());
    let connect = move || (0..STRANGERS).map(|_| silent(&ca, &grpc)).collect::<Vec<_>>();
    let silent = tokio::task::spawn_blocking(connect).await.unwrap();
    // Once more than there are places: whoever came late would have to wait for one.
    for _ in 0..3 {
        sign(&server.caller(None), &token).await.unwrap_or_else(|refused| panic!("beside the silent: {refused:?}"));
    }

    let asking: Vec<_> = (0..STRANGERS).map(|_| server.caller(None)).collect();
    for stranger in &asking {
        assert_eq!(reason(stranger, "no.such.token").await, "TOKEN_INVALID");
    }
    let pushed_out = r#"hallmark_connections_refused_total{listener="grpc",cause="unidentified-limit"}"#;
    let pushed_out = server.metric(pushed_out).await;
    assert!(pushed_out >= 1.0, "all places were taken, and more asked");
    for _ in 0..3 {
        sign(&server.caller(None), &token).await.unwrap_or_else(|refused| panic!("beside those who ask: {refused:?}"));
    }
    drop(silent);
}

/// A connection whose handshake is over, without a certificate, and on which nothing is said.
fn silent(ca: &str, grpc: &str) -> (ClientConnection, TcpStream) {
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(ca.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut config = config.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let mut session = ClientConnection::new(Arc::new(config), "localhost".try_into().unwrap()).unwrap();
    let mut stream = TcpStream::connect(grpc.trim_start_matches("https://")).unwrap();
    while session.is_handshaking() {
        session.complete_io(&mut stream).unwrap();
    }
    (session, stream)
}
