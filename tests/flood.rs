//! Whoever floods the JWKS port keeps nobody from signing.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
};

use crate::support::{Site, caller::for_client, caller::within};

/// Requests in one write: the flood is limited by the server, not by us.
const PIPELINED: usize = 16;
const FLOODERS: usize = 32;
/// Connections that say nothing.
const IDLE: usize = 200;
const SIGNATURES: usize = 100;
/// Hundred times what a signature takes alone: the flood and the flooders share the machine with the server.
const LIMIT: Duration = Duration::from_secs(2);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn signing_goes_on_while_the_jwks_port_is_flooded() {
    let site = Site::new();
    let server = site.start();
    server.ready().await;
    let mut idle = Vec::new();
    for _ in 0..IDLE {
        idle.push(TcpStream::connect(&server.jwks).await.unwrap());
    }
    let answered = Arc::new(AtomicU64::new(0));
    let mut flood = JoinSet::new();
    for _ in 0..FLOODERS {
        flood.spawn(flood_on(server.jwks.clone(), answered.clone()));
    }
    let app = server.app();
    let (mut times, began) = (Vec::new(), Instant::now());
    for _ in 0..SIGNATURES {
        let asked = Instant::now();
        app.sign(within(LIMIT, for_client("demo"))).await.expect("a signature in time");
        times.push(asked.elapsed());
    }
    times.sort_unstable();
    let rate = answered.load(Ordering::Relaxed) as f64 / began.elapsed().as_secs_f64();
    eprintln!(
        "under {rate:.0} JWKS answers/s a signature took {:?}, at most {:?}",
        times[SIGNATURES / 2],
        times[SIGNATURES - 1]
    );
    assert!(answered.load(Ordering::Relaxed) > 1000, "that was no flood");
    flood.shutdown().await;
}

async fn flood_on(addr: String, answered: Arc<AtomicU64>) {
    let request = format!("GET /clients/demo/jwks.json HTTP/1.1\r\nhost: {addr}\r\n\r\n").repeat(PIPELINED);
    let mut stream = TcpStream::connect(&addr).await.unwrap();
    let mut buffer = Vec::with_capacity(64 * 1024);
    loop {
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut seen = 0;
        while seen < PIPELINED {
            let read = stream.read_buf(&mut buffer).await.unwrap();
            assert!(read > 0, "the server closed a connection");
            seen += buffer.windows(STATUS.len()).filter(|window| *window == STATUS).count();
            // A head may be split between two reads.
            buffer.drain(..buffer.len().saturating_sub(STATUS.len() - 1));
        }
        answered.fetch_add(seen as u64, Ordering::Relaxed);
    }
}

const STATUS: &[u8] = b"HTTP/1.1 200 OK";
