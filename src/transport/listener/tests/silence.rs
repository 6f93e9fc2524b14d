//! Those who say nothing, half a word, or read nothing.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;

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
