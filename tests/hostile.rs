//! Callers that send nonsense, too much, or nothing at all: the server goes on for the others.

use std::{
    fs,
    io::{self, Read, Write},
    net::{Shutdown, TcpStream},
    os::unix::net::UnixStream,
    time::{Duration, Instant},
};

use hallmark_proto::v1::{SignAssertionRequest, SignAssertionsRequest};
use prost::Message;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::sync::mpsc::unbounded_channel;
use tokio_stream::wrappers::UnboundedReceiverStream;

use crate::support::{PATIENCE, Server, Site, caller::for_client, eventually};

/// A call without a gRPC library: the bytes are the caller's own. Gives `grpc-status` and the message.
struct Raw {
    http: reqwest::Client,
    url: String,
}

impl Raw {
    fn new(site: &Site, server: &Server) -> Self {
        let app = site.app();
        let identity = reqwest::Identity::from_pem(format!("{}{}", app.cert, app.key).as_bytes()).unwrap();
        let ca = reqwest::Certificate::from_pem(site.ca.pem.as_bytes()).unwrap();
        let http = reqwest::Client::builder().tls_certs_only([ca]).identity(identity).build().unwrap();
        Self { http, url: format!("{}/hallmark.v1.AssertionService/SignAssertion", server.grpc) }
    }

    async fn call(&self, timeout: &str, body: Vec<u8>) -> (String, String) {
        let request = self.http.post(&self.url).header("content-type", "application/grpc").header("te", "trailers");
        let answer = request.header("grpc-timeout", timeout).body(body).send().await.unwrap();
        let header = |name: &str| answer.headers().get(name).map_or("", |value| value.to_str().unwrap()).to_owned();
        (header("grpc-status"), header("grpc-message"))
    }
}

/// A gRPC message with its five bytes of prefix.
fn framed(message: &[u8]) -> Vec<u8> {
    let mut frame = vec![0];
    frame.extend_from_slice(&u32::try_from(message.len()).unwrap().to_be_bytes());
    frame.extend_from_slice(message);
    frame
}

const INVALID_ARGUMENT: &str = "3";
const DEADLINE_EXCEEDED: &str = "4";
const RESOURCE_EXHAUSTED: &str = "8";
const OUT_OF_RANGE: &str = "11";
const UNIMPLEMENTED: &str = "12";
const INTERNAL: &str = "13";

#[tokio::test]
async fn requests_that_make_no_sense() {
    let site = Site::new();
    let server = site.start();
    server.ready().await;
    let raw = Raw::new(&site, &server);
    let sound = framed(&for_client("demo").encode_to_vec());

    // Its deadline had passed before it came.
    assert_eq!(raw.call("0m", sound.clone()).await.0, DEADLINE_EXCEEDED);
    assert_eq!(raw.call("soon", sound.clone()).await.0, INVALID_ARGUMENT);

    // Too large, by its prefix and in fact.
    let large = SignAssertionRequest { claims_json: vec![b' '; 6 << 20], ..for_client("demo") };
    let (status, _) = raw.call("5S", framed(&large.encode_to_vec())).await;
    assert!([OUT_OF_RANGE, RESOURCE_EXHAUSTED].contains(&status.as_str()), "{status}");
    let mut huge = sound.clone();
    huge[1..5].copy_from_slice(&u32::MAX.to_be_bytes());
    let (status, _) = raw.call("5S", huge).await;
    assert!([OUT_OF_RANGE, RESOURCE_EXHAUSTED].contains(&status.as_str()), "{status}");

    // No message, half a message, no protobuf, a compression that nobody agreed on.
    let mut compressed = sound.clone();
    compressed[0] = 1;
    for body in [vec![], sound[..sound.len() - 1].to_vec(), framed(&[0xff; 64]), compressed, vec![7; 3]] {
        let (status, message) = raw.call("5S", body.clone()).await;
        assert!(
            [INVALID_ARGUMENT, INTERNAL, UNIMPLEMENTED].contains(&status.as_str()),
            "{body:x?}: {status} {message}"
        );
    }
    server.app().sign_for("demo").await.unwrap();
    assert!(!server.log().contains("panicked"), "{}", server.log());
}

/// HTTP/2, up to where the frames begin.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

fn nonsense() -> Vec<Vec<u8>> {
    let noise: Vec<u8> = (0..4096u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let after_preface = |frames: &[u8]| [PREFACE, frames].concat();
    vec![
        noise.clone(),
        b"GET / HTTP/1.1\r\nhost: x\r\n\r\n".to_vec(),
        PREFACE[..10].to_vec(),
        after_preface(&noise),
        // A settings frame of a length that settings can't have.
        after_preface(&[0, 0, 5, 4, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5]),
        // Data on a stream that was never opened.
        after_preface(&[0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 9, 1]),
        // A frame larger than was agreed.
        after_preface(&[0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 1]),
        // A TLS hello that promises more than comes.
        vec![22, 3, 1, 0x40, 0, 1, 0, 0x3f, 0xfc, 3, 3],
    ]
}

/// Sends `bytes` and no more; waits until the other side has closed. It may do so before it has read all of it.
fn send(mut stream: impl Read + Write, bytes: &[u8], done: impl FnOnce() -> io::Result<()>) {
    let _ = stream.write_all(bytes).and_then(|()| done());
    let mut answer = [0; 4096];
    loop {
        match stream.read(&mut answer) {
            Ok(0) => return,
            Ok(_) => {}
            Err(error) => return assert_ne!(error.kind(), io::ErrorKind::WouldBlock, "it does not close"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bytes_that_are_no_protocol() {
    let site = Site::new();
    let server = site.start();
    server.ready().await;
    let tcp = [server.grpc.trim_start_matches("https://").to_owned(), server.jwks.clone(), server.metrics.clone()];
    let unix = server.unix.clone();
    let sent = tokio::task::spawn_blocking(move || {
        for bytes in nonsense() {
            for address in &tcp {
                let stream = TcpStream::connect(address).unwrap();
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
                let closing = stream.try_clone().unwrap();
                send(stream, &bytes, || closing.shutdown(Shutdown::Write));
            }
            let stream = UnixStream::connect(&unix).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            let closing = stream.try_clone().unwrap();
            send(stream, &bytes, || closing.shutdown(Shutdown::Write));
        }
    });
    sent.await.unwrap();
    server.app().sign_for("demo").await.unwrap();
    assert_eq!(server.jwks_of("demo").await["keys"].as_array().unwrap().len(), 2);
    assert!(!server.log().contains("panicked"), "{}", server.log());
}

/// How much memory the server has in use, in MiB.
fn resident(server: &Server) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", server.process.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
}

const IDLE: usize = 10_000;

/// Room for [`IDLE`] connections, here and, by inheritance, in the server. What can't be run is said, and fails in CI.
fn room_for_idle_connections() -> bool {
    let limit = getrlimit(Resource::Nofile);
    let wanted = limit.maximum.unwrap_or(u64::MAX).min(1 << 20);
    let raised = setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum: limit.maximum });
    if raised.is_ok() && wanted >= IDLE as u64 + 2_000 {
        return true;
    }
    eprintln!("not run: {IDLE} idle connections, for this process may open {wanted} files only");
    assert_ne!(std::env::var("CI").as_deref(), Ok("true"), "raise the limit of open files (ulimit -Hn)");
    false
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ten_thousand_idle_connections() {
    if !room_for_idle_connections() {
        return;
    }
    let uid = rustix::process::getuid().as_raw();
    let mut site = Site::new();
    site.append(&format!("\n[[workload]]\nid = \"uid:{uid}\"\nclients = [\"demo\"]\n"));
    let server = site.start();
    server.ready().await;
    let before = resident(&server);

    let path = server.unix.clone();
    let connect = move || (0..IDLE).map(|_| UnixStream::connect(&path).unwrap()).collect::<Vec<_>>();
    let idle = tokio::task::spawn_blocking(connect).await.unwrap();
    eventually("all are accepted", PATIENCE, async || {
        (server.metric(r#"hallmark_connections{listener="unix"}"#).await >= IDLE as f64).then_some(())
    })
    .await;
    eprintln!("{IDLE} idle connections: {} MiB resident, {before} before", resident(&server));
    for caller in [server.app(), crate::support::Caller::unix(&server.unix)] {
        let began = Instant::now();
        caller.sign_for("demo").await.unwrap();
        assert!(began.elapsed() < Duration::from_secs(5), "{:?}", began.elapsed());
    }
    drop(idle);
    eventually("they are forgotten", PATIENCE, async || {
        (server.metric(r#"hallmark_connections{listener="unix"}"#).await < 100.0).then_some(())
    })
    .await;
    server.app().sign_for("demo").await.unwrap();
    assert!(!server.log().contains("panicked"), "{}", server.log());
}

/// Half-open TLS connections on the port for callers, and idle ones on the port for verifiers.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_never_say_a_word() {
    let site = Site::new();
    let server = site.start();
    server.ready().await;
    let (grpc, jwks) = (server.grpc.trim_start_matches("https://").to_owned(), server.jwks.clone());
    let connect = move || {
        let to = |address: &str| (0..500).map(|_| TcpStream::connect(address).unwrap()).collect::<Vec<_>>();
        [to(&grpc), to(&jwks)]
    };
    let silent = tokio::task::spawn_blocking(connect).await.unwrap();
    server.app().sign_for("demo").await.unwrap();
    assert_eq!(server.jwks_of("demo").await["keys"].as_array().unwrap().len(), 2);
    // Nobody may hold a place for ever without a word.
    for listener in ["grpc", "jwks"] {
        let series = format!("hallmark_connections{{listener=\"{listener}\"}}");
        eventually("they are closed", PATIENCE, async || (server.metric(&series).await < 100.0).then_some(())).await;
    }
    drop(silent);
}

const UNREAD: usize = 5_000;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_caller_that_stops_reading_its_stream() {
    let site = Site::new();
    let server = site.start();
    server.ready().await;
    let before = resident(&server);
    let (send, requests) = unbounded_channel();
    let mut client = server.app().assertions();
    let mut answers = client.sign_assertions(UnboundedReceiverStream::new(requests)).await.unwrap().into_inner();
    for n in 0..UNREAD {
        let request = Some(for_client("demo"));
        send.send(SignAssertionsRequest { correlation_id: n.to_string(), request, timeout: None }).unwrap();
    }
    drop(send);

    // It signs no further than it can send.
    let done = r#"hallmark_signatures_total{client="demo",alg="ES256",outcome="done"}"#;
    let (mut last, mut since) = (0.0, Instant::now());
    let signed = eventually("it stops to sign for them", PATIENCE, async || {
        let signed = server.metric(done).await;
        if signed != last {
            (last, since) = (signed, Instant::now());
        }
        (signed > 0.0 && since.elapsed() > Duration::from_secs(1)).then_some(signed)
    })
    .await;
    eprintln!(
        "a caller that does not read: {signed} of {UNREAD} signed, {} MiB resident, {before} before",
        resident(&server)
    );
    assert!(signed < UNREAD as f64 / 2.0, "{signed}");
    let began = Instant::now();
    server.app().sign_for("demo").await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(5), "others are served: {:?}", began.elapsed());

    // When it reads on, nothing is lost.
    let mut received = 0;
    while let Some(answer) = answers.message().await.unwrap() {
        assert!(answer.result.is_some());
        received += 1;
    }
    assert_eq!(received, UNREAD);
}
