use std::{
    future::pending,
    sync::atomic::{AtomicUsize, Ordering},
};

use tokio::{runtime, time::advance};

use super::*;
use crate::{Remedy, reason};

fn key() -> SignRequest {
    SignRequest::new("clinic").scope("read")
}

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(5)
}

/// Counts the token requests, each of which brings `token-N`.
#[derive(Default)]
struct Issuer(AtomicUsize);

impl Issuer {
    async fn ask(&self, cache: &TokenCache, granted_for: Option<u64>) -> String {
        let fetch = |_| {
            let n = self.0.fetch_add(1, Ordering::Relaxed) + 1;
            let token = AccessToken::sample(&format!("token-{n}"), granted_for.map(Duration::from_secs));
            async move { Ok(token) }
        };
        let token = cache.get(key(), soon(), fetch).await.expect("an access token");
        token.expose().to_owned()
    }
}

#[tokio::test(start_paused = true)]
async fn kept_until_shortly_before_its_end() {
    let (cache, issuer) = (TokenCache::default(), Issuer::default());
    assert_eq!(issuer.ask(&cache, Some(100)).await, "token-1");
    advance(Duration::from_secs(89)).await;
    assert_eq!(issuer.ask(&cache, Some(100)).await, "token-1");
    advance(Duration::from_secs(2)).await;
    assert_eq!(issuer.ask(&cache, Some(3600)).await, "token-2");
    advance(Duration::from_secs(3600 - 61)).await;
    assert_eq!(issuer.ask(&cache, Some(3600)).await, "token-2", "the margin is a minute at most");
    advance(Duration::from_secs(2)).await;
    assert_eq!(issuer.ask(&cache, Some(3600)).await, "token-3");
}

#[tokio::test]
async fn not_kept_where_its_end_is_unknown() {
    let (cache, issuer) = (TokenCache::default(), Issuer::default());
    assert_eq!(issuer.ask(&cache, None).await, "token-1");
    assert_eq!(issuer.ask(&cache, None).await, "token-2");
}

#[tokio::test]
async fn forgotten_on_request() {
    let (cache, issuer) = (TokenCache::default(), Issuer::default());
    issuer.ask(&cache, Some(100)).await;
    let fetch = |_| async { Err(Error::unexpected("not to be asked")) };
    let kept = cache.get(key(), soon(), fetch).await.expect("the one that is kept");
    cache.forget(&kept);
    assert_eq!(issuer.ask(&cache, Some(100)).await, "token-2");
}

#[tokio::test]
async fn an_error_is_not_kept() {
    let (cache, issuer) = (TokenCache::default(), Issuer::default());
    let fetch = |_| async { Err(Error::new(Remedy::CallOperator, reason::TOKEN_REFUSED, "no")) };
    let error = cache.get(key(), soon(), fetch).await.expect_err("refused");
    assert_eq!(error.reason(), reason::TOKEN_REFUSED);
    assert_eq!(issuer.ask(&cache, Some(100)).await, "token-1");
}

/// The first caller has a second, the other a minute: the flight lasts as long as the most patient.
#[tokio::test(start_paused = true)]
async fn a_patient_caller_lends_its_patience() {
    let cache = TokenCache::default();
    let fetch = |patience: Patience| async move {
        tokio::time::sleep(Duration::from_secs(30)).await;
        match Instant::now() < patience.deadline() {
            true => Ok(AccessToken::sample("late", None)),
            false => Err(Error::deadline("too late")),
        }
    };
    let start = Instant::now();
    let hasty = cache.get(key(), start + Duration::from_secs(1), fetch);
    let patient = cache.get(key(), start + Duration::from_secs(60), fetch);
    let (hasty, patient) = tokio::join!(hasty, patient);
    assert_eq!(hasty.expect_err("out of time").reason(), reason::DEADLINE_EXCEEDED);
    assert_eq!(patient.expect("an access token").expose(), "late");
}

/// A test suite gives each test its own runtime and may share one client among them.
#[test]
fn a_flight_that_died_with_its_runtime_is_replaced() {
    let (cache, issuer) = (TokenCache::default(), Issuer::default());
    let runtime = || runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let first = runtime();
    let gone = first.block_on(async {
        let never = cache.get(key(), soon(), |_| pending());
        tokio::time::timeout(Duration::from_millis(10), never).await
    });
    assert!(gone.is_err());
    drop(first);
    assert_eq!(runtime().block_on(issuer.ask(&cache, Some(100))), "token-1");
}

#[tokio::test]
async fn a_flight_that_dies_is_an_error_and_not_started_again_at_once() {
    let (cache, issuer) = (TokenCache::default(), Issuer::default());
    let started = Arc::new(AtomicUsize::new(0));
    let fetch = |_| {
        let started = started.clone();
        async move {
            match started.fetch_add(1, Ordering::Relaxed) {
                0 => panic!("on purpose"),
                _ => Ok(AccessToken::sample("second", None)),
            }
        }
    };
    let error = cache.get(key(), soon(), fetch).await.expect_err("the flight died");
    assert_eq!((error.remedy(), started.load(Ordering::Relaxed)), (Remedy::ReportBug, 1));
    assert_eq!(issuer.ask(&cache, Some(100)).await, "token-1", "the next caller has a flight of its own");
}

#[tokio::test(start_paused = true)]
async fn what_has_ended_does_not_pile_up() {
    let cache = TokenCache::default();
    for n in 0..5 {
        let fetch = |_| async { Ok(AccessToken::sample("short", Some(Duration::from_secs(10)))) };
        cache.get(SignRequest::new(format!("client-{n}")), soon(), fetch).await.expect("an access token");
        advance(Duration::from_secs(10)).await;
    }
    assert_eq!(lock(&cache.slots).len(), 1);
}
