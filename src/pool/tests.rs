//! The reactions of `docs/adr/0006-…`, on a fake HSM with fault switches.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use hallmark_core::{
    assertion::probe,
    client::Custody,
    error::{Error, Reason},
    key::{Alg, HsmName, KeyId, KeyRecord, KeySpec, KeyState, PublicPart, Purpose},
    ports::{Clock, FaultClass, HsmFault, HsmSession},
    time::Timestamp,
};
use hallmark_testkit::{
    fake_hsm::{Call, FakeHsm, FakeToken},
    pin_ledger::MemoryPinLedger,
};
use tokio::sync::Notify;
use uuid::Uuid;

use super::{
    Observer, Pool, PoolKey, Settings, Signed,
    job::{Job, TaskJob},
};

/// Long enough for a loaded machine; nothing waits for it to pass.
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Debug)]
struct FixedClock;

impl Clock for FixedClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_secs(1_700_000_000)
    }
}

#[derive(Default)]
struct Watcher {
    faults: AtomicUsize,
    quarantined: AtomicUsize,
    losses: AtomicUsize,
    down: Notify,
    gave_up: Notify,
}

impl Observer for Watcher {
    fn fault(&self, _: &HsmName, _: &HsmFault) {
        self.faults.fetch_add(1, Ordering::SeqCst);
    }
    fn sessions(&self, _: &HsmName, _: usize) {}
    fn up(&self, _: &HsmName, up: bool) {
        if !up {
            self.losses.fetch_add(1, Ordering::SeqCst);
            self.down.notify_one();
        }
    }
    fn quarantined(&self, _: &HsmName, _: KeyId) {
        self.quarantined.fetch_add(1, Ordering::SeqCst);
    }
    fn gave_up(&self, _: &HsmName, _: &str) {
        self.gave_up.notify_one();
    }
}

struct Rig {
    token: Arc<FakeToken>,
    watcher: Arc<Watcher>,
    pool: Pool,
}

impl Rig {
    async fn new(workers: usize) -> Self {
        Self::with(workers, |_| ()).await
    }

    async fn with(workers: usize, set: impl FnOnce(&mut Settings)) -> Self {
        let rig = Self::down(workers, set, FakeHsm::new);
        tokio::time::timeout(PATIENCE, rig.pool.wait_until_up()).await.expect("the fake HSM connects");
        rig
    }

    fn down(workers: usize, set: impl FnOnce(&mut Settings), hsm: impl FnOnce(&Arc<FakeToken>) -> FakeHsm) -> Self {
        let (token, watcher) = (FakeToken::new(), Arc::new(Watcher::default()));
        let mut settings = Settings::new("fake".parse().unwrap(), workers);
        set(&mut settings);
        let pool = Pool::start(Arc::new(hsm(&token)), settings, Arc::new(FixedClock), watcher.clone()).unwrap();
        Self { token, watcher, pool }
    }

    async fn key(&self, n: u8) -> Arc<PoolKey> {
        let spec = KeySpec { alg: Alg::ES256, rsa_bits: 0 };
        let key = self.pool.generate(vec![n], format!("key-{n}"), spec).await.unwrap();
        let public = PublicPart { kid: key.thumbprint(), key };
        let (id, hsm) = (KeyId(Uuid::from_u128(n.into())), "fake".parse().unwrap());
        let blank = KeyRecord::of_custody(id, Alg::ES256, hsm, Timestamp::from_secs(0));
        let record = KeyRecord { cka_id: vec![n], label: format!("key-{n}"), state: KeyState::Active, ..blank };
        Arc::new(PoolKey::new(&record, &public, Custody::Local).unwrap())
    }

    async fn sign(&self, key: &Arc<PoolKey>) -> Result<Signed, Error> {
        self.pool.sign(key.clone(), probe(), Instant::now() + PATIENCE).await
    }

    async fn refusal(&self, key: &Arc<PoolKey>) -> Reason {
        self.sign(key).await.expect_err("no signature").reason
    }

    async fn back_up(&self) {
        tokio::time::timeout(PATIENCE, self.pool.wait_until_up()).await.expect("the HSM comes back by itself");
    }
}

#[tokio::test]
async fn what_a_new_session_or_handle_mends_the_caller_does_not_see() {
    let rig = Rig::new(2).await;
    let key = rig.key(1).await;
    for class in [FaultClass::Session, FaultClass::Handle, FaultClass::Login, FaultClass::Unspecific] {
        rig.token.fail_next(Call::Sign, 1, class);
        rig.sign(&key).await.unwrap_or_else(|error| panic!("{class:?}: {error}"));
    }
    assert_eq!(rig.watcher.faults.load(Ordering::SeqCst), 4, "each was counted");
}

#[tokio::test]
async fn sessions_that_the_token_closed_are_opened_again() {
    let rig = Rig::new(2).await;
    let key = rig.key(1).await;
    rig.token.lose_sessions();
    for _ in 0..4 {
        rig.sign(&key).await.unwrap();
    }
}

#[tokio::test]
async fn a_wrong_request_costs_no_session() {
    let rig = Rig::new(1).await;
    let key = rig.key(1).await;
    let opened = rig.token.calls(Call::Open);
    for (class, reason) in [
        (FaultClass::Request, Reason::HsmRefused),
        (FaultClass::KeyAbsent, Reason::KeyAbsent),
        (FaultClass::CustodyTooWeak, Reason::CustodyTooWeak),
        (FaultClass::Unsupported, Reason::AlgUnsupported),
    ] {
        rig.token.fail_next(Call::Sign, 1, class);
        assert_eq!(rig.refusal(&key).await, reason);
    }
    assert_eq!(rig.token.calls(Call::Open), opened);
}

#[tokio::test]
async fn a_token_that_is_pulled_and_put_back_signs_again_by_itself() {
    let rig = Rig::new(2).await;
    let key = rig.key(1).await;
    rig.token.set_unplugged(true);
    let error = rig.sign(&key).await.expect_err("pulled");
    assert_eq!(error.reason, Reason::HsmUnavailable);
    assert!(error.retry_after.is_some(), "a caller is told when to come back");
    let before = Instant::now();
    assert_eq!(rig.refusal(&key).await, Reason::HsmUnavailable);
    assert!(before.elapsed() < Duration::from_secs(1), "refused at once while it is down");
    rig.token.set_unplugged(false);
    rig.back_up().await;
    rig.sign(&key).await.unwrap();
}

#[tokio::test]
async fn jobs_that_wait_when_the_token_is_lost_are_answered() {
    let rig = Rig::new(1).await;
    let key = rig.key(1).await;
    let hanging = rig.token.hang(Call::Sign);
    let jobs = (0..5).map(|_| rig.pool.sign(key.clone(), probe(), Instant::now() + PATIENCE));
    let jobs = futures_util::future::join_all(jobs);
    let (answers, ()) = tokio::join!(jobs, async {
        tokio::task::yield_now().await;
        rig.token.set_unplugged(true);
        drop(hanging);
    });
    assert!(answers.iter().all(|answer| matches!(answer, Err(error) if error.reason == Reason::HsmUnavailable)));
}

#[tokio::test]
async fn a_bad_signature_is_made_again_and_a_second_one_sets_the_key_aside() {
    let rig = Rig::new(2).await;
    let (sick, well) = (rig.key(1).await, rig.key(2).await);
    rig.token.forge_next(1);
    rig.sign(&sick).await.expect("the second try verifies");
    rig.token.forge_next(2);
    let set_aside = rig.sign(&sick).await.expect_err("it does not verify");
    assert_eq!(set_aside.reason, Reason::KeyQuarantined);
    let longest = set_aside.retry_after.expect("when it is tried again is known");
    assert_eq!(rig.watcher.quarantined.load(Ordering::SeqCst), 1);
    let calls = rig.token.calls(Call::Sign);
    let refused = rig.sign(&sick).await.expect_err("it is set aside");
    assert_eq!(refused.reason, Reason::KeyQuarantined);
    assert!(refused.retry_after.is_some_and(|left| left <= longest && !left.is_zero()), "{refused:?}");
    assert_eq!(rig.token.calls(Call::Sign), calls, "a key that is set aside is not asked for");
    rig.sign(&well).await.expect("one sick key does not take the others down");
}

#[tokio::test]
async fn many_unspecific_faults_are_a_lost_token() {
    let rig = Rig::new(2).await;
    let (one, two) = (rig.key(1).await, rig.key(2).await);
    rig.token.fail_next(Call::Sign, 4, FaultClass::Unspecific);
    let _ = tokio::join!(rig.sign(&one), rig.sign(&two));
    tokio::time::timeout(PATIENCE, rig.watcher.down.notified()).await.expect("the breaker opens");
    rig.back_up().await;
    rig.sign(&one).await.unwrap();
}

#[tokio::test]
async fn a_probe_is_never_signed_with_a_clients_key() {
    let rig = Rig::new(1).await;
    let mut key = PoolKey::clone(&*rig.key(1).await);
    key.purpose = Purpose::Assertion;
    assert_eq!(rig.refusal(&Arc::new(key)).await, Reason::Internal);
    assert_eq!(rig.token.calls(Call::Sign), 0);
}

#[tokio::test]
async fn a_deadline_that_has_passed_never_reaches_the_token() {
    let rig = Rig::new(1).await;
    let key = rig.key(1).await;
    let refused = rig.pool.sign(key, probe(), Instant::now()).await.unwrap_err();
    assert_eq!(refused.reason, Reason::DeadlineExceeded);
    assert_eq!(rig.token.calls(Call::Sign), 0);
}

/// Its caller was told so by its own clock, or is about to be.
#[tokio::test]
async fn a_task_whose_time_is_over_is_not_begun() {
    let rig = Rig::new(1).await;
    let begun = Arc::new(AtomicUsize::new(0));
    for (patience, times) in [(Duration::ZERO, 0), (PATIENCE, 1)] {
        let ((reply, answer), counted) = (tokio::sync::oneshot::channel(), begun.clone());
        let run = move |_: &mut dyn HsmSession| Ok(counted.fetch_add(1, Ordering::SeqCst));
        rig.pool.shared.submit(Job::Task(TaskJob::new(run, reply, Instant::now() + patience)));
        assert_eq!(answer.await.unwrap().is_ok(), times == 1);
        assert_eq!(begun.load(Ordering::SeqCst), times);
    }
}

/// A key that was to be destroyed is not, once it was said that this took too long.
#[tokio::test]
async fn what_nobody_waits_for_any_more_is_not_begun() {
    let rig = Rig::new(1).await;
    let key = rig.key(1).await;
    let hanging = rig.token.hang(Call::Sign);
    let mut signing = std::pin::pin!(rig.sign(&key));
    let mut destroying = std::pin::pin!(rig.pool.destroy(key.clone()));
    // Both are queued: the worker is inside the first.
    assert!(tokio::time::timeout(Duration::ZERO, &mut signing).await.is_err());
    assert!(tokio::time::timeout(Duration::ZERO, &mut destroying).await.is_err());
    destroying.set(rig.pool.destroy(key.clone()));
    drop(hanging);
    signing.await.unwrap();
    assert_eq!(rig.pool.list().await.unwrap().len(), 1, "it was destroyed for nobody");
    destroying.await.unwrap();
    assert_eq!(rig.pool.list().await.unwrap().len(), 0);
}

#[tokio::test]
async fn a_full_queue_refuses_early_and_says_when_to_retry() {
    let rig = Rig::with(1, |settings| settings.queue_per_worker = 2).await;
    let key = rig.key(1).await;
    let hanging = rig.token.hang(Call::Sign);
    let jobs = (0..8).map(|_| rig.pool.sign(key.clone(), probe(), Instant::now() + PATIENCE));
    let jobs = futures_util::future::join_all(jobs);
    let (answers, ()) = tokio::join!(jobs, async {
        tokio::task::yield_now().await;
        drop(hanging);
    });
    let refused: Vec<_> = answers.iter().filter_map(|answer| answer.as_ref().err()).collect();
    assert!((5..=6).contains(&refused.len()), "two wait, one may be under way: {refused:?}");
    assert!(refused.iter().all(|error| error.reason == Reason::Overloaded && error.retry_after.is_some()));
}

#[tokio::test]
async fn a_call_that_hangs_keeps_no_caller_beyond_its_deadline() {
    let rig = Rig::with(1, |settings| settings.stuck_after = Duration::from_millis(50)).await;
    let key = rig.key(1).await;
    let hanging = rig.token.hang(Call::Sign);
    let deadline = Instant::now() + Duration::from_millis(200);
    let answer = rig.pool.sign(key.clone(), probe(), deadline).await.expect_err("it hangs");
    assert!(matches!(answer.reason, Reason::DeadlineExceeded | Reason::HsmUnavailable), "{answer}");
    tokio::time::timeout(PATIENCE, rig.watcher.down.notified()).await.expect("the watchdog opens the breaker");
    drop(hanging);
    rig.back_up().await;
    rig.sign(&key).await.unwrap();
}

#[tokio::test]
async fn a_token_that_connects_while_all_workers_hang_stays_down() {
    let rig = Rig::with(1, |settings| settings.stuck_after = Duration::from_millis(50)).await;
    let key = rig.key(1).await;
    let hanging = rig.token.hang(Call::Sign);
    let _ = rig.pool.sign(key.clone(), probe(), Instant::now() + Duration::from_millis(100)).await;
    tokio::time::timeout(PATIENCE, rig.watcher.down.notified()).await.expect("the watchdog opens the breaker");
    let faults = rig.watcher.faults.load(Ordering::SeqCst);
    while rig.watcher.faults.load(Ordering::SeqCst) < faults + 4 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(rig.watcher.losses.load(Ordering::SeqCst), 1, "it does not come and go");
    drop(hanging);
    rig.back_up().await;
    rig.sign(&key).await.unwrap();
}

#[tokio::test]
async fn a_signature_that_never_returns_needs_a_new_process() {
    let short = Duration::from_millis(50);
    let rig = Rig::with(1, |settings| (settings.stuck_after, settings.give_up_after) = (short, short)).await;
    let key = rig.key(1).await;
    let hanging = rig.token.hang(Call::Sign);
    let _ = rig.pool.sign(key, probe(), Instant::now() + short).await;
    tokio::time::timeout(PATIENCE, rig.watcher.gave_up.notified()).await.expect("it says so");
    drop(hanging);
}

#[tokio::test]
async fn a_thread_left_in_a_lost_library_needs_a_new_process() {
    let rig = Rig::with(2, |settings| settings.reset_patience = Duration::from_millis(50)).await;
    let key = rig.key(1).await;
    let hanging = rig.token.hang(Call::Sign);
    let left_inside = rig.pool.sign(key.clone(), probe(), Instant::now() + Duration::from_millis(100)).await;
    assert!(left_inside.is_err());
    rig.token.fail_next(Call::List, 1, FaultClass::Gone);
    rig.token.fail_next(Call::Connect, 1000, FaultClass::Gone);
    let _ = rig.pool.list().await;
    tokio::time::timeout(PATIENCE, rig.watcher.gave_up.notified()).await.expect("it says so");
    drop(hanging);
}

/// What a library still holds of a token that was pulled may look well until a login to it fails.
#[tokio::test]
async fn a_lost_token_is_logged_in_to_through_a_library_that_was_started_anew() {
    let rig = Rig::new(1).await;
    let key = rig.key(1).await;
    let calls = || (rig.token.calls(Call::Reset), rig.token.calls(Call::Connect));
    let (resets, connects) = calls();
    assert_eq!(resets, 0, "a first start is no loss");
    rig.token.fail_next(Call::List, 1, FaultClass::Gone);
    rig.pool.list().await.unwrap_err();
    tokio::time::timeout(PATIENCE, rig.watcher.down.notified()).await.expect("it is missed");
    rig.back_up().await;
    rig.sign(&key).await.unwrap();
    assert_eq!(calls(), (1, connects + 1), "no login before the new start, and one after it");
}

#[tokio::test]
async fn who_comes_before_the_hsm_is_connected_comes_back_soon() {
    let mut hanging = None;
    let rig = Rig::down(
        1,
        |_| (),
        |token| {
            hanging = Some(token.hang(Call::Connect));
            FakeHsm::new(token)
        },
    );
    let spec = KeySpec { alg: Alg::ES256, rsa_bits: 0 };
    let error = rig.pool.generate(vec![1], "key-1".into(), spec).await.unwrap_err();
    assert_eq!(error.reason, Reason::HsmUnavailable);
    assert_eq!(error.retry_after, Some(Duration::from_millis(100)), "{error}");
    drop(hanging);
}

#[tokio::test]
async fn a_connection_that_never_returns_needs_a_new_process() {
    let rig = Rig::with(1, |settings| settings.give_up_after = Duration::from_millis(50)).await;
    let hanging = rig.token.hang(Call::Connect);
    let key = rig.key(1).await;
    rig.token.set_unplugged(true);
    let _ = rig.sign(&key).await;
    tokio::time::timeout(PATIENCE, rig.watcher.gave_up.notified()).await.expect("it says so");
    drop(hanging);
}

#[tokio::test]
async fn a_wrong_pin_is_tried_once_however_often_the_keeper_tries() {
    let ledger = Arc::new(MemoryPinLedger::default());
    let rig = Rig::down(2, |_| (), |token| FakeHsm::with_pin(token, "000000", ledger.clone()));
    while rig.token.calls(Call::Connect) < 4 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!((rig.token.wrong_tries(), ledger.tries()), (1, 1));
    let why = rig.pool.down_because().expect("it is down");
    assert!(why.contains("operator"), "{why}");
    assert!(!rig.pool.is_up());
}

#[tokio::test]
async fn a_token_with_one_session_serves_all() {
    let rig = Rig::down(
        4,
        |_| (),
        |token| {
            token.set_max_sessions(Some(1));
            FakeHsm::new(token)
        },
    );
    rig.back_up().await;
    let key = rig.key(1).await;
    let jobs = (0..20).map(|_| rig.sign(&key));
    let answers = futures_util::future::join_all(jobs).await;
    assert!(answers.iter().all(Result::is_ok), "{:?}", answers.iter().find_map(|answer| answer.as_ref().err()));
}

#[tokio::test]
async fn a_pool_that_ends_answers_who_waits() {
    let rig = Rig::new(1).await;
    let key = rig.key(1).await;
    let hanging = rig.token.hang(Call::Sign);
    let shared = rig.pool.shared.clone();
    let jobs = (0..3).map(|_| rig.pool.sign(key.clone(), probe(), Instant::now() + PATIENCE));
    let (answers, ()) = tokio::join!(futures_util::future::join_all(jobs), async {
        tokio::task::yield_now().await;
        shared.shut_down();
    });
    drop(hanging);
    let ended = |answer: &Result<Signed, Error>| matches!(answer, Err(error) if error.reason == Reason::ShuttingDown);
    assert!(answers.iter().all(ended), "those that wait, and the one that hangs: {answers:?}");
}
