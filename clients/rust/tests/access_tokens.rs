//! `Client::token`: the cache, one request for many, fresh assertions, and what the authorization server says.

use std::time::{Duration, Instant};

use hallmark_client::{Error, Remedy, SignRequest, reason};
use tokio::task::JoinSet;
use tonic::Code;

use crate::support::{
    authorization_server::AuthorizationServer,
    hallmark::{OnSocket, refusal},
};

#[tokio::test]
async fn sends_the_token_request_as_it_was_described() {
    let server = AuthorizationServer::start().await;
    let hallmark = OnSocket::with_token_endpoint(&server.url).await;
    let token = hallmark.client.token("clinic", "read").await.expect("an access token");
    assert_eq!((token.expose(), token.token_type(), token.status()), ("token-1", "Bearer", 200));
    let seen = &server.seen()[0];
    assert_eq!((seen.method.as_str(), seen.target.as_str()), ("POST", "/oauth//token?tenant=%7e"));
    assert_eq!(seen.headers["x-profile"], "as told");
    assert_eq!(seen.headers["content-type"], "application/x-www-form-urlencoded");
    let body = "grant_type=client_credentials&resource=https%3A%2F%2Fa.example%2F%3Fx%3D1%26y\
                &client_assertion=header.claims.signature-1&resource=b+c";
    assert_eq!(seen.body, body);
}

#[tokio::test]
async fn keeps_one_for_each_request() {
    let server = AuthorizationServer::start().await;
    let hallmark = OnSocket::with_token_endpoint(&server.url).await;
    let ask = async |scope: &str| hallmark.client.token("clinic", scope).await.map(|token| token.expose().to_owned());
    assert_eq!(ask("read").await.expect("granted"), "token-1");
    assert_eq!(ask("read").await.expect("granted"), "token-1");
    assert_eq!(ask("write").await.expect("granted"), "token-2");
    let other = hallmark.client.token_for(SignRequest::new("clinic").scope("read").alg("ES384")).await;
    assert_eq!(other.expect("granted").expose(), "token-3");
    let again = hallmark.client.clone().token("clinic", "read").await.expect("granted");
    hallmark.client.forget_token(&again);
    assert_eq!(ask("read").await.expect("granted"), "token-4");
}

#[tokio::test]
async fn many_callers_share_one_request() {
    let server = AuthorizationServer::held().await;
    let hallmark = OnSocket::with_token_endpoint(&server.url).await;
    let mut callers = JoinSet::new();
    for _ in 0..10 {
        let client = hallmark.client.clone();
        callers.spawn(async move { client.token("clinic", "read").await });
    }
    server.arrival().await;
    server.release(10);
    while let Some(token) = callers.join_next().await {
        assert_eq!(token.expect("no panic").expect("an access token").expose(), "token-1");
    }
    assert_eq!(server.seen().len(), 1);
}

#[tokio::test]
async fn a_caller_that_goes_away_spoils_nothing() {
    let server = AuthorizationServer::held().await;
    let hallmark = OnSocket::with_token_endpoint(&server.url).await;
    let client = hallmark.client.clone();
    let first = tokio::spawn(async move { client.token("clinic", "read").await });
    server.arrival().await;
    let client = hallmark.client.clone();
    let second = tokio::spawn(async move { client.token("clinic", "read").await });
    first.abort();
    assert!(first.await.expect_err("aborted").is_cancelled());
    server.release(1);
    assert_eq!(second.await.expect("no panic").expect("an access token").expose(), "token-1");
    assert_eq!(server.seen().len(), 1);
}

#[tokio::test]
async fn tries_again_with_a_fresh_assertion() {
    let server = AuthorizationServer::start().await;
    server.answer(503, "");
    server.answer(429, r#"{"error":"slow_down"}"#);
    let hallmark = OnSocket::with_token_endpoint(&server.url).await;
    let token = hallmark.client.token("clinic", "read").await.expect("an access token");
    assert_eq!(token.expose(), "token-3");
    let expected = ["header.claims.signature-1", "header.claims.signature-2", "header.claims.signature-3"];
    assert_eq!(server.assertions(), expected);
}

#[tokio::test]
async fn gives_up_after_a_few_tries() {
    let server = AuthorizationServer::start().await;
    for _ in 0..10 {
        server.answer(500, "out of order");
    }
    let hallmark = OnSocket::with_token_endpoint(&server.url).await;
    let error = hallmark.client.token("clinic", "read").await.expect_err("out of order");
    assert_eq!((error.reason(), error.remedy()), (reason::TOKEN_ENDPOINT_UNAVAILABLE, Remedy::RetryLater));
    assert_eq!(error.refusal().map(|refusal| refusal.status), Some(500));
    assert_eq!(server.seen().len(), 3);
}

async fn refused(status: u16, body: &str) -> (Error, usize) {
    let server = AuthorizationServer::start().await;
    server.answer(status, body);
    let hallmark = OnSocket::with_token_endpoint(&server.url).await;
    let error = hallmark.client.token("clinic", "read").await.expect_err("refused");
    (error, server.seen().len())
}

#[tokio::test]
async fn a_refusal_is_told_and_not_repeated() {
    let body = r#"{"error":"invalid_client","error_description":"bad header.claims.signature-1 !"}"#;
    let (error, requests) = refused(401, body).await;
    assert_eq!((error.reason(), error.remedy(), requests), (reason::TOKEN_REFUSED, Remedy::CallOperator, 1));
    let refusal = error.refusal().expect("the server's words");
    assert_eq!((refusal.status, refusal.error.as_deref()), (401, Some("invalid_client")));
    assert_eq!(refusal.error_description.as_deref(), Some("bad [the assertion] !"));
    assert!(!format!("{error:?} {error}").contains("signature-1"), "{error:?}");
    assert_eq!(refused(400, r#"{"error":"invalid_scope"}"#).await.0.remedy(), Remedy::FixRequest);
}

/// Enough to find out why, and nothing that would be of use to others.
#[tokio::test]
async fn a_refusal_says_what_was_sent_but_for_the_signature() {
    let server = AuthorizationServer::start().await;
    server.answer(401, r#"{"error":"invalid_client"}"#);
    let hallmark = OnSocket::with_token_endpoint(&server.url).await;
    // {"alg":"none"} and {"aud":"x"}
    hallmark.fake.state().signing_input = Some("eyJhbGciOiJub25lIn0.eyJhdWQiOiJ4In0".to_owned());
    let error = hallmark.client.token("clinic", "read").await.expect_err("refused");
    let sent = error.sent().expect("it was sent");
    assert_eq!((sent.header.as_str(), sent.claims.as_str()), (r#"{"alg":"none"}"#, r#"{"aud":"x"}"#));
    assert_eq!(sent.url, server.url);
    assert!(sent.date.as_ref().is_some_and(|date| date.ends_with(" GMT")), "{sent:?}");
    assert!(!format!("{error:?}").contains("signature-1"), "{error:?}");
}

#[tokio::test]
async fn does_not_follow_redirects_nor_read_for_ever() {
    let (error, requests) = refused(302, "").await;
    assert_eq!((error.refusal().map(|refusal| refusal.status), requests), (Some(302), 1));
    let (error, _) = refused(200, &"x".repeat(1024 * 1024)).await;
    assert_eq!(error.reason(), reason::TOKEN_RESPONSE_INVALID);
    let (error, _) = refused(400, &"ä".repeat(10_000)).await;
    assert!(error.refusal().expect("the server's words").body.len() < 3_000);
}

#[tokio::test]
async fn waits_as_hallmark_says() {
    let server = AuthorizationServer::start().await;
    let hallmark = OnSocket::with_token_endpoint(&server.url).await;
    let delay = Duration::from_millis(300);
    hallmark.fake.state().failures.push_back(refusal(Code::Unavailable, "HSM_UNAVAILABLE", Some(delay)));
    let start = Instant::now();
    hallmark.client.token("clinic", "read").await.expect("an access token");
    assert!(start.elapsed() >= delay);
    assert_eq!(hallmark.fake.state().requests.len(), 2);
}

#[tokio::test]
async fn callers_have_their_own_deadline() {
    let server = AuthorizationServer::held().await;
    let hallmark = OnSocket::with_token_endpoint(&server.url).await;
    let client = hallmark.client.clone();
    let patient = tokio::spawn(async move { client.token("clinic", "read").await });
    server.arrival().await;
    let hasty = SignRequest::new("clinic").scope("read").timeout(Duration::from_millis(50));
    let error = hallmark.client.token_for(hasty).await.expect_err("out of time");
    assert_eq!(error.reason(), reason::DEADLINE_EXCEEDED);
    server.release(1);
    assert!(patient.await.expect("no panic").is_ok());
}
