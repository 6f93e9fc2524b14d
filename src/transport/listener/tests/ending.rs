//! How connections end: with the server, with their age.

use std::io::ErrorKind;

use tokio::sync::Notify;

use super::*;

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
