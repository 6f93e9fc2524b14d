//! Those who mean harm, at every port and by HTTP/2 itself, while normal callers go on.

use std::{
    io::{ErrorKind, Read, Write},
    net::TcpStream,
    os::unix::net::UnixStream,
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned, pki_types::pem::PemObject};
use tokio::{sync::oneshot, task::JoinHandle};

use crate::support::{Caller, PATIENCE, Server, Site, caller::for_client, caller::within};

/// What a normal caller allows: hundred times what a signature takes alone, and attackers share the machine.
const LIMIT: Duration = Duration::from_secs(3);
/// What the server may need more for all of this, in MiB.
const MEMORY: u64 = 96;
/// After so long without room to write, the server has stopped to read: as good as closed.
const STALLED: Duration = Duration::from_millis(300);

trait Wire: Read + Write + Send {}
impl<T: Read + Write + Send> Wire for T {}

/// One way to the server, before a byte is sent: nothing is waited for longer than so.
type Port = Arc<dyn Fn(Duration) -> Box<dyn Wire> + Send + Sync>;

fn tcp(address: &str, patience: Duration) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_write_timeout(Some(patience)).unwrap();
    stream.set_read_timeout(Some(patience)).unwrap();
    stream
}

fn unix(path: &Path, patience: Duration) -> UnixStream {
    let stream = UnixStream::connect(path).unwrap();
    stream.set_write_timeout(Some(patience)).unwrap();
    stream.set_read_timeout(Some(patience)).unwrap();
    stream
}

/// Where HTTP/2 is spoken: with an identity over the Unix socket, without one over TLS, and for verifiers.
fn ports(site: &Site, server: &Server) -> Vec<(&'static str, Port)> {
    let mut roots = RootCertStore::empty();
    roots.add(rustls::pki_types::CertificateDer::from_pem_slice(site.ca.pem.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let mut config = config.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let (config, grpc) = (Arc::new(config), server.grpc.trim_start_matches("https://").to_owned());
    let tls = move |patience| -> Box<dyn Wire> {
        let session = ClientConnection::new(config.clone(), "localhost".try_into().unwrap()).unwrap();
        Box::new(StreamOwned::new(session, tcp(&grpc, patience)))
    };
    let (path, jwks) = (server.unix.clone(), server.jwks.clone());
    vec![
        ("grpc", Arc::new(tls)),
        ("unix", Arc::new(move |patience| Box::new(unix(&path, patience)))),
        ("jwks", Arc::new(move |patience| Box::new(tcp(&jwks, patience)))),
    ]
}

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PRIORITY: u8 = 2;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;

/// RFC 9113 §4.1.
fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut frame = vec![length[1], length[2], length[3], kind, flags];
    frame.extend_from_slice(&stream.to_be_bytes());
    frame.extend_from_slice(payload);
    frame
}

/// `POST http://x/hallmark…` by the static table (RFC 7541 appendix A) and literals without Huffman.
fn request() -> Vec<u8> {
    let path = b"/hallmark.v1.AssertionService/SignAssertion";
    let mut block = vec![0x83, 0x86, 0x41, 1, b'x', 0x44, u8::try_from(path.len()).unwrap()];
    block.extend_from_slice(path);
    block
}

fn opening() -> Vec<u8> {
    [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), frame(SETTINGS, 0, 0, &[])].concat()
}

/// Odd, and each larger than the last.
fn stream(n: u32) -> u32 {
    2 * n + 1
}

/// A name, whether the server must end the connection for it, and what is sent the n-th time.
type Attack = (&'static str, bool, fn(u32) -> Vec<u8>);

const ATTACKS: &[Attack] = &[
    // CVE-2023-44487.
    ("rapid reset", true, |n| {
        [frame(HEADERS, END_HEADERS, stream(n), &request()), frame(RST_STREAM, 0, stream(n), &[0, 0, 0, 8])].concat()
    }),
    // CVE-2025-8671: the server resets each, for a window that has no room for so much more. (One that grows by nothing
    // would end the connection at once, and show nothing.)
    ("made you reset", true, |n| {
        let window = frame(WINDOW_UPDATE, 0, stream(n), &[0x7f, 0xff, 0xff, 0xff]);
        [frame(HEADERS, END_HEADERS, stream(n), &request()), window].concat()
    }),
    // CVE-2024-27316.
    ("endless headers", true, |n| match n {
        0 => frame(HEADERS, 0, 1, &request()),
        _ => frame(CONTINUATION, 0, 1, &[&[0x00, 1, b'a', 0x7f, 0x80, 0x60][..], &[b'b'; 12_415]].concat()),
    }),
    ("empty continuations", true, |n| match n {
        0 => frame(HEADERS, 0, 1, &request()),
        _ => frame(CONTINUATION, 0, 1, &[]).repeat(64),
    }),
    // One entry of the dynamic table, named again and again: 4 kB for each byte.
    ("HPACK bomb", true, |n| {
        let entry = [&[0x40, 1, b'a', 0x7f, 0xa1, 0x1e][..], &[b'b'; 4_000]].concat();
        let block = [request(), entry, vec![0xbe; 11_000]].concat();
        frame(HEADERS, END_HEADERS | END_STREAM, stream(n), &block)
    }),
    ("settings flood", false, |_| frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0xff, 0xff]).repeat(64)),
    ("ping flood", false, |_| frame(PING, 0, 0, &[7; 8]).repeat(64)),
    ("priority flood", false, |n| frame(PRIORITY, 0, stream(n), &[0, 0, 0, 0, 9]).repeat(64)),
    ("empty data", false, |n| match n {
        0 => frame(HEADERS, END_HEADERS, 1, &request()),
        _ => frame(DATA, 0, 1, &[]).repeat(64),
    }),
    ("more streams than agreed", false, |n| frame(HEADERS, END_HEADERS, stream(n), &request())),
    // Answers that nobody makes room for.
    ("no window", false, |n| {
        let settings = frame(SETTINGS, 0, 0, &[0, 4, 0, 0, 0, 0]);
        [settings, frame(HEADERS, END_HEADERS | END_STREAM, stream(n), &request())].concat()
    }),
];

/// How an attack ended.
#[derive(Debug, PartialEq, Eq)]
enum End {
    Closed,
    /// The server reads no further until its answers are read.
    Stalled,
    /// All of it was taken.
    Borne,
}

/// Sends without ever reading, up to 1 MiB or 20,000 times, and sees how it ends.
fn attack(wire: &mut dyn Wire, part: fn(u32) -> Vec<u8>, patience: Duration) -> (End, usize) {
    let mut sent = 0;
    let parts = std::iter::once(opening()).chain((0..20_000).map(part));
    for part in parts {
        if sent > 1 << 20 {
            break;
        }
        match wire.write_all(&part).and_then(|()| wire.flush()) {
            Ok(()) => sent += part.len(),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                return (End::Stalled, sent);
            }
            Err(_) => return (End::Closed, sent),
        }
    }
    let (mut answer, since) = ([0; 16 * 1024], Instant::now());
    while since.elapsed() < patience {
        match wire.read(&mut answer) {
            Ok(0) => return (End::Closed, sent),
            Ok(_) => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => break,
            Err(_) => return (End::Closed, sent),
        }
    }
    (End::Borne, sent)
}

/// A normal caller, until it is told to stop: every answer comes, and in time. Gives how many, and the longest.
fn normal_caller(caller: Caller, server: &Server) -> (oneshot::Sender<()>, JoinHandle<(usize, Duration)>) {
    let (stop, mut stopped) = oneshot::channel();
    let jwks = server.jwks_url("demo");
    let calling = tokio::spawn(async move {
        let (mut count, mut longest) = (0, Duration::ZERO);
        while stopped.try_recv() == Err(oneshot::error::TryRecvError::Empty) {
            let asked = Instant::now();
            caller.sign(within(LIMIT, for_client("demo"))).await.expect("a signature in time");
            longest = longest.max(asked.elapsed());
            let asked = Instant::now();
            assert!(reqwest::get(&jwks).await.expect("a key set").status().is_success());
            longest = longest.max(asked.elapsed());
            count += 1;
        }
        (count, longest)
    });
    (stop, calling)
}

/// How much memory the server has in use, in MiB.
fn resident(server: &Server) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.process.pid())).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1024
}

/// With the workload `uid:…` of whoever runs this, over the Unix socket.
fn site() -> Site {
    let mut site = Site::new();
    let uid = rustix::process::getuid().as_raw();
    site.append(&format!("\n[[workload]]\nid = \"uid:{uid}\"\nclients = [\"demo\"]\n"));
    site
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_http2_can_be_abused_for() {
    let site = site();
    let server = site.start();
    server.ready().await;
    let before = resident(&server);
    let (stop, calling) = normal_caller(server.app(), &server);
    for (name, must_close, part) in ATTACKS {
        for (port, connect) in ports(&site, &server) {
            // A server that must close may be slow to.
            let patience = if *must_close { PATIENCE } else { STALLED };
            let ended = tokio::task::spawn_blocking(move || attack(&mut *connect(patience), *part, patience));
            let ended = ended.await.unwrap();
            eprintln!("{name} at {port}: {ended:?}");
            assert!(!must_close || ended.0 == End::Closed, "{name} at {port}: {ended:?}");
        }
    }
    stop.send(()).unwrap();
    let (count, longest) = calling.await.expect("normal callers go on");
    let more = resident(&server).saturating_sub(before);
    eprintln!("a normal caller had {count} signatures and key sets, each within {longest:?}; {more} MiB more");
    assert!(count > 10 && longest < LIMIT, "{count}, {longest:?}");
    assert!(more < MEMORY, "{more} MiB more than before");
    assert!(!server.log().contains("panicked"), "{}", server.log());
}

/// So many connections of each kind at a time.
const SLOW: usize = 150;

/// Bytes that come one by one, and no end of them: of a request, of a hello, of a preface and a frame. The last say nothing.
fn slow_words() -> [&'static [u8]; 4] {
    [
        b"GET /clients/demo/jwks.json HTTP/1.1\r\nhost: x\r\nx-a: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0\0\xff\xff\x01\0\0\0\0\x01aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa",
        b"",
    ]
}

/// Half-open and slow connections at both ports, from the address of the normal caller, which makes new ones all the time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_and_half_open_connections() {
    let site = site();
    let server = site.start();
    server.ready().await;
    let (grpc, jwks) = (server.grpc.trim_start_matches("https://").to_owned(), server.jwks.clone());
    let drip = tokio::task::spawn_blocking(move || {
        let to = |address: &str, word| (0..SLOW).map(|_| (tcp(address, STALLED), word)).collect::<Vec<_>>();
        let words = slow_words().into_iter();
        let mut slow: Vec<_> = words.flat_map(|word| [to(&grpc, word), to(&jwks, word)]).flatten().collect();
        let began = Instant::now();
        for at in 0.. {
            // Whoever was closed is gone; it is not about them.
            for (stream, word) in slow.iter_mut().filter(|(_, word)| !word.is_empty()) {
                drop(stream.write_all(word.get(at..=at).unwrap_or(b"a")));
            }
            if began.elapsed() > Duration::from_secs(4) {
                break;
            }
        }
        slow.len()
    });
    let (mut count, mut longest) = (0, Duration::ZERO);
    while !drip.is_finished() {
        let asked = Instant::now();
        server.app().sign(within(LIMIT, for_client("demo"))).await.expect("a new connection, and a signature in time");
        assert_eq!(server.jwks_of("demo").await["keys"].as_array().unwrap().len(), 2);
        longest = longest.max(asked.elapsed());
        count += 1;
    }
    let slow = drip.await.unwrap();
    eprintln!("beside {slow} slow connections {count} new ones were served, each within {longest:?}");
    assert!(count > 10 && longest < LIMIT * 2, "{count}, {longest:?}");
    assert!(!server.log().contains("panicked"), "{}", server.log());
}

#[tokio::test]
async fn headers_that_are_too_large() {
    let site = site();
    let server = site.start();
    server.ready().await;
    let jwks = server.jwks.clone();
    let refused = tokio::task::spawn_blocking(move || {
        let mut stream = tcp(&jwks, STALLED);
        let header = format!("GET /clients/demo/jwks.json HTTP/1.1\r\nhost: x\r\nx-a: {}\r\n\r\n", "a".repeat(1 << 20));
        let _ = stream.write_all(header.as_bytes());
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        answer
    });
    let answer = refused.await.unwrap();
    assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 431"), "{}", String::from_utf8_lossy(&answer));

    let mut request = tonic::Request::new(for_client("demo"));
    request.metadata_mut().insert("x-a", "a".repeat(64 * 1024).parse().unwrap());
    let app = server.app();
    app.sign(request).await.expect_err("it is too large");
    app.sign_for("demo").await.expect("the connection goes on, or a new one is made");
    assert_eq!(server.jwks_of("demo").await["keys"].as_array().unwrap().len(), 2);
}
