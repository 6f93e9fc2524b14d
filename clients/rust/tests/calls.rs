//! Calls to Hallmark: what is sent, retried, waited for; and the stream.

use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

use hallmark_client::{Client, Connection, Remedy, SignRequest, reason};
use serde_json::json;
use tonic::Code;

use crate::support::hallmark::{FakeHallmark, OnSocket, impatient, refusal};

#[tokio::test]
async fn says_what_was_asked_for() {
    let hallmark = OnSocket::start().await;
    let serde_json::Value::Object(claims) = json!({"n": u64::MAX}) else { unreachable!() };
    let request = SignRequest::new("clinic").alg("ES384").audience("aud").scope("read").claims(claims);
    let request = request.lifetime(Duration::from_secs(60)).timeout(Duration::from_secs(2));
    let signed = hallmark.client.sign_assertion(request).await.expect("an assertion");
    assert_eq!((signed.assertion.as_str(), signed.jti.as_str()), ("header.claims.signature-1", "1"));
    assert!(!format!("{signed:?}").contains("signature-1"), "{signed:?}");
    let state = hallmark.fake.state();
    let sent = &state.requests[0];
    assert_eq!((sent.client.as_str(), sent.alg.as_str(), sent.audience.as_str()), ("clinic", "ES384", "aud"));
    assert_eq!(sent.claims_json, format!("{{\"n\":{}}}", u64::MAX).into_bytes());
    assert_eq!(sent.lifetime.map(|lifetime| lifetime.seconds), Some(60));
    let timeout = state.timeouts[0].as_deref().expect("a grpc-timeout");
    assert!(timeout.ends_with('u') && timeout.trim_end_matches('u').parse::<u64>().is_ok_and(|t| t <= 2_000_000));
}

#[tokio::test]
async fn only_what_may_pass_is_tried_again() {
    let hallmark = OnSocket::start().await;
    hallmark.fake.state().failures.push_back(refusal(Code::Unavailable, "PIN_REFUSED", None));
    let error = hallmark.client.sign_assertion(SignRequest::new("clinic")).await.expect_err("refused");
    assert_eq!((error.reason(), error.remedy()), ("PIN_REFUSED", Remedy::CallOperator));
    hallmark.fake.state().failures.push_back(refusal(Code::PermissionDenied, "CLIENT_NOT_PERMITTED", None));
    let error = hallmark.client.sign_assertion(SignRequest::new("clinic")).await.expect_err("refused");
    assert_eq!(error.message(), "refused: CLIENT_NOT_PERMITTED");
    assert_eq!(hallmark.fake.state().requests.len(), 2);
}

#[tokio::test]
async fn does_not_wait_longer_than_the_caller() {
    let hallmark = OnSocket::start().await;
    let late = refusal(Code::Unavailable, "HSM_UNAVAILABLE", Some(Duration::from_secs(60)));
    hallmark.fake.state().failures.push_back(late);
    let start = Instant::now();
    let error = hallmark.client.sign_assertion(SignRequest::new("clinic")).await.expect_err("refused");
    assert_eq!((error.reason(), error.retry_after()), ("HSM_UNAVAILABLE", Some(Duration::from_secs(60))));
    assert!(start.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn a_server_that_is_down_is_waited_for_or_told_at_once() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("h.sock");
    let hasty = Client::connect_with(Connection::unix(&path), impatient()).expect("a client");
    let error = hasty.sign_assertion(SignRequest::new("clinic")).await.expect_err("nobody there");
    assert_eq!((error.reason(), error.remedy()), (reason::UNREACHABLE, Remedy::RetryLater));
    assert_eq!(error.message(), format!("hallmark can't be reached: `unix:{}`", path.display()));
    let patient = Client::connect(Connection::unix(&path)).expect("a client");
    let waiting = tokio::spawn(async move { patient.sign_assertion(SignRequest::new("clinic")).await });
    let fake = FakeHallmark::default();
    fake.serve_on(path);
    waiting.await.expect("no panic").expect("an assertion");
}

#[tokio::test]
async fn a_refused_item_does_not_end_the_stream() {
    let hallmark = OnSocket::start().await;
    let busy = refusal(Code::ResourceExhausted, "RATE_LIMITED", Some(Duration::from_secs(1)));
    hallmark.fake.state().failures.push_back(busy);
    let items = (1..=3).map(|n| (format!("item-{n}"), SignRequest::new("clinic")));
    let mut answers = hallmark.client.sign_assertions(tokio_stream::iter(items)).await.expect("a stream");
    let mut results = HashMap::new();
    while let Some(answer) = answers.next().await {
        let answer = answer.expect("the stream holds");
        results.insert(answer.correlation_id, answer.result);
    }
    assert_eq!(results.len(), 3);
    let error = results["item-1"].as_ref().expect_err("refused");
    assert_eq!((error.reason(), error.retry_after()), ("RATE_LIMITED", Some(Duration::from_secs(1))));
    assert_eq!(results["item-3"].as_ref().expect("an assertion").assertion, "header.claims.signature-3");
}
