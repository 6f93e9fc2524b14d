//! Many assertions over one stream.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use hallmark_client::{Client, Connection, SignRequest};
use hallmark_proto::v1::{SignAssertionsRequest, sign_assertions_response};
use tokio::sync::mpsc::unbounded_channel;
use tokio_stream::wrappers::UnboundedReceiverStream;

use crate::support::{Dev, Site, caller::for_client};

fn item(id: &str, client: &str) -> SignAssertionsRequest {
    SignAssertionsRequest { correlation_id: id.to_owned(), request: Some(for_client(client)), timeout: None }
}

/// A refused item is an answer like any other, and the stream goes on.
#[tokio::test]
async fn results_carry_their_ids_and_refusals_end_nothing() {
    let dev = Dev::start(&["--client", "fast:ES256", "--client", "slow:RS384"]);
    let (send, requests) = unbounded_channel();
    let mut client = dev.caller("workload").assertions();
    let mut answers = client.sign_assertions(UnboundedReceiverStream::new(requests)).await.unwrap().into_inner();

    let mut no_time = item("no-time", "fast");
    no_time.timeout = Some(prost_types::Duration::default());
    let mut no_request = item("no-request", "fast");
    no_request.request = None;
    let mut reserved = item("reserved", "fast");
    reserved.request.as_mut().unwrap().claims_json = br#"{"sub": "someone else"}"#.to_vec();
    let expected = HashMap::from([
        ("no-time", "DEADLINE_EXCEEDED"),
        ("no-request", "INVALID_REQUEST"),
        ("reserved", "RESERVED_CLAIM"),
        ("foreign", "CLIENT_NOT_PERMITTED"),
        ("good-1", ""),
        ("good-2", ""),
    ]);
    for message in
        [no_time, no_request, reserved, item("foreign", "nosuch"), item("good-1", "fast"), item("good-2", "slow")]
    {
        send.send(message).unwrap();
    }
    let mut seen = HashMap::new();
    while seen.len() < expected.len() {
        let answer = answers.message().await.unwrap().expect("the stream goes on");
        let reason = match answer.result.unwrap() {
            sign_assertions_response::Result::Assertion(signed) => {
                assert_eq!(signed.assertion.split('.').count(), 3);
                String::new()
            }
            sign_assertions_response::Result::Error(status) => reason(&status),
        };
        assert!(seen.insert(answer.correlation_id, reason).is_none(), "one answer for each");
    }
    for (id, reason) in expected {
        assert_eq!(seen[id], reason, "{id}");
    }

    // It still serves, and ends when the caller ends it.
    send.send(item("last", "fast")).unwrap();
    assert_eq!(answers.message().await.unwrap().unwrap().correlation_id, "last");
    drop(send);
    assert!(answers.message().await.unwrap().is_none());
}

fn reason(status: &tonic_types::Status) -> String {
    use tonic_types::RpcStatusExt;
    status.get_details_error_info().map(|info| info.reason).unwrap_or_default()
}

/// A slow signature does not hold up the fast ones behind it.
#[tokio::test]
async fn results_come_when_they_are_ready() {
    let mut site = Site::new();
    site.add_client("slow", "RS512", "https://as.example/token");
    site.replace("{ alg = \"RS512\" }", "{ alg = \"RS512\", rsa_bits = 4096 }");
    let server = site.start();
    server.ready().await;
    crate::support::eventually("the slow client has its key", crate::support::PATIENCE, async || {
        server.app().sign_for("slow").await.ok()
    })
    .await;
    let (send, requests) = unbounded_channel();
    let mut client = server.app().assertions();
    let mut answers = client.sign_assertions(UnboundedReceiverStream::new(requests)).await.unwrap().into_inner();
    // On a busy machine the slow one may be first once; were the results in the order of the items, it always would.
    for _ in 0..10 {
        send.send(item("slow", "slow")).unwrap();
        for n in 0..8 {
            send.send(item(&format!("fast-{n}"), "demo")).unwrap();
        }
        let mut order = Vec::new();
        while order.len() < 9 {
            order.push(answers.message().await.unwrap().unwrap().correlation_id);
        }
        assert_eq!(order.iter().collect::<HashSet<_>>().len(), 9, "{order:?}");
        if order[0] != "slow" {
            return;
        }
    }
    panic!("the slow one always came first");
}

/// A thousand through the thin client: each has its own `jti`, and none is lost.
#[tokio::test]
async fn a_thousand_over_one_stream() {
    let dev = Dev::start(&["--client", "fast:ES256"]);
    let hallmark = Client::connect(Connection::from_file(dev.path("/connection")).unwrap()).unwrap();
    let requests = (0..1000).map(|n| (n.to_string(), SignRequest::new("fast").timeout(Duration::from_secs(60))));
    let requests: Vec<_> = requests.collect();
    let mut stream = hallmark.sign_assertions(tokio_stream::iter(requests)).await.unwrap();
    let (mut ids, mut jtis) = (HashSet::new(), HashSet::new());
    while let Some(result) = stream.next().await {
        let result = result.unwrap();
        let signed = result.result.unwrap();
        assert!(ids.insert(result.correlation_id) && jtis.insert(signed.jti));
    }
    assert_eq!(ids.len(), 1000);
}
