//! Too many from one address, and those who say nothing.

use std::net::SocketAddr;

use rustls::{ClientConnection, pki_types::ServerName};
use tokio::net::TcpSocket;

use super::*;

/// From another address than all others here.
async fn from_elsewhere(to: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
    socket.connect(to).await.unwrap()
}

/// Connections that say `word` and no more.
async fn silent<const N: usize>(to: SocketAddr, word: &[u8]) -> [TcpStream; N] {
    let mut streams = Vec::new();
    for _ in 0..N {
        let mut stream = TcpStream::connect(to).await.unwrap();
        stream.write_all(word).await.unwrap();
        streams.push(stream);
    }
    streams.try_into().unwrap()
}

async fn until_refused(metrics: &Metrics, cause: &str, count: u64) {
    let counted = async {
        while refused(metrics, cause) < count {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    timeout(LATE, counted).await.unwrap_or_else(|_| panic!("{} of {count} for {cause}", refused(metrics, cause)));
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
async fn one_address_does_not_get_all_connections() {
    let metrics = Metrics::new();
    let mut listener = plain(&metrics).await;
    listener.limits.connections_per_address = 2;
    let server = whoami(listener);
    let mut held = silent::<2>(server.addr, b"").await;
    for stream in &mut held {
        exchange(stream, "GET", "/", "").await.unwrap();
    }
    closed(&mut TcpStream::connect(server.addr).await.unwrap()).await;
    assert_eq!(refused(&metrics, "address-limit"), 1);
    exchange(&mut from_elsewhere(server.addr).await, "GET", "/", "").await.unwrap();
}

#[tokio::test]
async fn who_says_nothing_makes_room_for_who_does() {
    let (files, metrics) = (Files::new(), Metrics::new());
    for word in [&b""[..], b"\x16\x03"] {
        let before = refused(&metrics, "half-open");
        let mut listener = secured(&files, &metrics).await;
        (listener.limits.half_open_per_address, listener.limits.handshake_timeout) = (4, Duration::from_secs(60));
        let server = whoami(listener);
        let mut silent = silent::<10>(server.addr, word).await;
        until_refused(&metrics, "half-open", before + 6).await;
        closed(&mut silent[0]).await;
        let identity = certified(&files.ca, &[uri("spiffe://a.example/x")]);
        let mut member = connect_tls(server.addr, files.client(Some(identity))).await.unwrap();
        exchange(&mut member, "GET", "/", "").await.unwrap();
    }
}

#[tokio::test]
async fn without_tls_it_is_the_first_request_that_counts() {
    let metrics = Metrics::new();
    let mut listener = plain(&metrics).await;
    listener.limits.half_open_per_address = 4;
    let server = whoami(listener);
    let mut busy = TcpStream::connect(server.addr).await.unwrap();
    exchange(&mut busy, "GET", "/", "").await.unwrap();
    let _silent = silent::<20>(server.addr, b"GET / HTTP/1.1\r\nhost: te").await;
    until_refused(&metrics, "half-open", 16).await;
    exchange(&mut busy, "GET", "/", "").await.expect("it has spoken");
    exchange(&mut TcpStream::connect(server.addr).await.unwrap(), "GET", "/", "").await.unwrap();
}

#[tokio::test]
async fn handshakes_that_stall_hold_up_no_others() {
    let (files, metrics) = (Files::new(), Metrics::new());
    let mut listener = secured(&files, &metrics).await;
    (listener.limits.handshakes, listener.limits.handshakes_per_address) = (2, 2);
    listener.limits.handshake_timeout = Duration::from_secs(60);
    let server = whoami(listener);
    let mut hello = Vec::new();
    let name = ServerName::try_from("localhost").unwrap();
    ClientConnection::new(Arc::new(files.client(None)), name).unwrap().write_tls(&mut hello).unwrap();
    let mut stalled = silent::<2>(server.addr, &hello).await;
    for stream in &mut stalled {
        stream.read_u8().await.expect("the server has answered, and waits");
    }
    let served = async {
        let mut stream = connect_tls(server.addr, files.client(None)).await.unwrap();
        exchange(&mut stream, "GET", "/", "").await.unwrap()
    };
    timeout(LATE, served).await.expect("a slot is free again");
}
