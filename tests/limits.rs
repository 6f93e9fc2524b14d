//! Callers who ask more than they may are told so, and when to come back.

use std::time::Duration;

use hallmark_proto::v1::{
    ListKeysRequest, RevokeKeyRequest, SignAssertionsRequest, SignAssertionsResponse, sign_assertions_response,
};
use tonic::Code;
use tonic_types::RpcStatusExt;

use crate::support::{Refusal, Site, caller::for_client};

const SLOW: &str = "spiffe://test.example/slow";

#[tokio::test]
async fn an_operator_that_never_stops_asking_is_slowed_down_and_may_still_revoke() {
    let site = Site::new();
    let server = site.start();
    server.ready().await;
    let mut keys = server.ops().keys();
    let mut refused: Option<Refusal> = None;
    for _ in 0..20_000 {
        if let Err(status) = keys.list_keys(ListKeysRequest { page_size: 1, ..Default::default() }).await {
            refused = Some(status.into());
            break;
        }
    }
    let refused = refused.expect("there is a limit");
    assert_eq!((refused.code, refused.reason.as_str()), (Code::ResourceExhausted, "RATE_LIMITED"), "{refused:?}");
    let delay = refused.retry_after.expect("it says when");
    assert!(delay <= Duration::from_millis(100), "{delay:?}");

    // What is refused here comes from the use case.
    for _ in 0..50 {
        let revoke = RevokeKeyRequest { request_id: "r".into(), reason: "test".into(), kid: "nosuch".into() };
        let answer: Refusal = keys.revoke_key(revoke).await.unwrap_err().into();
        assert_eq!(answer.reason, "KEY_NOT_FOUND", "{answer:?}");
    }
    server.app().sign_for("demo").await.expect("nobody else is slowed down");
    assert!(server.metric(r#"hallmark_refusals_total{reason="RATE_LIMITED"}"#).await >= 1.0);
}

#[tokio::test]
async fn each_item_of_a_stream_counts() {
    let mut site = Site::new();
    site.append(&format!("\n[[workload]]\nid = \"{SLOW}\"\nclients = [\"demo\"]\nrate = \"3/h\"\n"));
    let server = site.start();
    server.ready().await;
    let mut client = server.caller(Some(&site.ca.client(SLOW))).assertions();
    let items = (0..8).map(|n| SignAssertionsRequest {
        correlation_id: n.to_string(),
        request: Some(for_client("demo")),
        timeout: None,
    });
    let mut answers = client.sign_assertions(tokio_stream::iter(items.collect::<Vec<_>>())).await.unwrap().into_inner();
    let (mut signed, mut refused) = (0, 0);
    while let Some(SignAssertionsResponse { result, .. }) = answers.message().await.unwrap() {
        match result.unwrap() {
            sign_assertions_response::Result::Assertion(_) => signed += 1,
            sign_assertions_response::Result::Error(status) => {
                assert_eq!(status.get_details_error_info().unwrap().reason, "RATE_LIMITED");
                let delay = status.get_details_retry_info().and_then(|info| info.retry_delay).expect("it says when");
                assert!(delay > Duration::from_secs(60), "{delay:?}");
                refused += 1;
            }
        }
    }
    assert_eq!((signed, refused), (3, 5));
    let counted = format!("hallmark_workload_limited_total{{workload=\"{SLOW}\",reason=\"RATE_LIMITED\"}}");
    assert_eq!(server.metric(&counted).await, 5.0);
}
