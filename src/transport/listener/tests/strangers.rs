//! Those who have not shown who they are.

use super::*;

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
