//! Told to stop under load: every accepted request is answered.

use std::time::{Duration, Instant};

use hallmark_testkit::p11_kit::P11Kit;
use tokio::{sync::mpsc::unbounded_channel, task::JoinSet};

use crate::support::{PATIENCE, Refusal, Site, audit_log, caller};

/// What a caller may be told: by a server that goes, that it goes; by its own side, that the connection is no more. The
/// log then tells whether the request had been accepted.
fn is_clean(refusal: &Refusal) -> bool {
    refusal.reason.is_empty() || refusal.reason == "SHUTTING_DOWN"
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_under_load_loses_no_accepted_request() {
    let site = Site::new();
    let mut server = site.start();
    server.ready().await;
    let before = signed(&site);
    let (send, mut ended) = unbounded_channel();
    let mut callers = JoinSet::new();
    for _ in 0..8 {
        let (app, send) = (server.app(), send.clone());
        callers.spawn(async move {
            loop {
                let request = caller::within(Duration::from_secs(10), caller::for_client("demo"));
                let result = app.sign(request).await;
                let over = result.is_err();
                if send.send(result).is_err() || over {
                    return;
                }
            }
        });
    }
    drop(send);
    let mut jtis = before;
    for _ in 0..100 {
        jtis.push(ended.recv().await.unwrap().unwrap().jti);
    }
    let told = Instant::now();
    server.process.signal(rustix::process::Signal::TERM);
    while let Some(result) = ended.recv().await {
        match result {
            Ok(signed) => jtis.push(signed.jti),
            Err(refusal) => assert!(is_clean(&refusal), "{refusal:?}"),
        }
    }
    let status = server.process.wait(PATIENCE);
    assert_eq!(status.code(), Some(0));
    assert!(told.elapsed() < Duration::from_secs(20), "within the grace period: {:?}", told.elapsed());

    // Accepted means that its intent is in the log; answered, that its outcome is.
    let records = audit_log::read(&site.audit_dir(), "test");
    let requests = |event: &str| {
        let mut requests: Vec<_> = records
            .iter()
            .filter(|record| record["event"] == event)
            .map(|record| record["request"].to_string())
            .collect();
        requests.sort();
        requests
    };
    assert_eq!(requests("sign-intent"), requests("sign-outcome"));
    // Whatever was signed reached its caller: nothing was lost on the way, not even in the last connection to close.
    jtis.sort();
    let lost: Vec<_> = signed(&site).into_iter().filter(|jti| jtis.binary_search(jti).is_err()).collect();
    assert!(lost.is_empty(), "signed, and never received: {lost:?}");
    assert_eq!(signed(&site).len(), jtis.len(), "received, and not in the log");
}

/// The `jti` of each assertion that the audit log says was made.
fn signed(site: &Site) -> Vec<String> {
    let records = audit_log::read(&site.audit_dir(), "test");
    records.iter().filter_map(|record| record["jti"].as_str()).map(str::to_owned).collect()
}

/// A stream that is open when the server goes ends in order: what was sent is answered, then it is over.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sigterm_ends_streams_after_their_answers() {
    let site = Site::new();
    let mut server = site.start();
    server.ready().await;
    let (send, requests) = unbounded_channel();
    let requests = tokio_stream::wrappers::UnboundedReceiverStream::new(requests);
    let mut answers = server.app().assertions().sign_assertions(requests).await.unwrap().into_inner();
    for n in 0..20 {
        send.send(hallmark_proto::v1::SignAssertionsRequest {
            correlation_id: n.to_string(),
            request: Some(caller::for_client("demo")),
            timeout: None,
        })
        .unwrap();
    }
    for _ in 0..20 {
        answers.message().await.unwrap().unwrap();
    }
    server.process.signal(rustix::process::Signal::TERM);
    assert!(matches!(answers.message().await, Ok(None)), "the stream ends without an error");
    assert_eq!(server.process.wait(PATIENCE).code(), Some(0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_callers_do_not_hold_it_up() {
    let site = Site::new();
    let mut server = site.start();
    server.ready().await;
    let idle = server.app();
    idle.sign_for("demo").await.unwrap();
    let told = Instant::now();
    assert_eq!(server.process.stop().code(), Some(0));
    assert!(told.elapsed() < Duration::from_secs(5), "{:?}", told.elapsed());
}

/// Nothing brings that thread back; and the library must not be torn down under it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thread_that_is_stuck_in_the_library_does_not_spoil_the_end() {
    let mut site = Site::new();
    // See hsm-config/p11-kit.md.
    site.replace("workers = 2", "workers = 1");
    site.through(&P11Kit::module(), &P11Kit::env(&site.token));
    let mut line = P11Kit::new(&site.token);
    line.start();
    let mut server = site.start();
    server.ready().await;
    line.freeze();
    let request = caller::within(Duration::from_secs(1), caller::for_client("demo"));
    server.app().sign(request).await.expect_err("the HSM does not answer");
    let told = Instant::now();
    assert_eq!(server.process.stop().code(), Some(0), "{}", server.log());
    assert!(told.elapsed() < Duration::from_secs(20), "within the grace period: {:?}", told.elapsed());
    assert!(server.log().contains("stopped"), "the log is whole:\n{}", server.log());
}
