use std::{
    env,
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use hallmark_core::{
    key::KeyId,
    ports::{
        BegunChange, ChangeState, KeyStore as _, MaxAge, Observation, PinLedger, PinLedgerRefusal, PinVerdict,
        ReplicaStore as _, SweepStore as _,
    },
};
use hallmark_testkit::{
    postgres::Postgres,
    store_contract::{self, change, eventually, leads_eventually, record},
};
use tempfile::TempDir;
use tokio::runtime::Handle;
use uuid::Uuid;

use super::*;
use crate::store::{Attempt, LoginAttempts as _, StorePinLedger};

mod tls;

#[tokio::test(flavor = "multi_thread")]
async fn keeps_the_contract() {
    let Some(cluster) = Postgres::shared() else { return };
    store_contract::run(async || open(&cluster.database()).await).await;
}

#[tokio::test]
async fn survives_reopening() {
    let Some(cluster) = Postgres::own() else { return };
    let url = cluster.database();
    let reopen = async |store: PostgresStore| {
        store.close().await;
        // What was acknowledged is on the disk.
        cluster.kill();
        cluster.start();
        open(&url).await
    };
    store_contract::survives_reopening(open(&url).await, reopen).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keeps_the_pin_rules() {
    let Some(cluster) = Postgres::shared() else { return };
    let (url, runtime) = (cluster.database(), Handle::current());
    let ledger = move || {
        let store = runtime.block_on(open(&url));
        Arc::new(StorePinLedger::new(Arc::new(store), runtime.clone())) as Arc<dyn PinLedger>
    };
    tokio::task::spawn_blocking(move || store_contract::pin_ledger(ledger)).await.unwrap();
}

#[tokio::test]
async fn replicas_that_share_a_token_share_the_marker() {
    let Some(cluster) = Postgres::shared() else { return };
    let url = cluster.database();
    let (one, two) = (open_as(&url, "one").await, open_as(&url, "two").await);
    let [first, second] = [(); 2].map(|()| Attempt::new().unwrap());
    assert!(one.mark("token", "pin", first).await.unwrap());
    let marked = two.mark("token", "pin", second).await.unwrap();
    assert!(!marked, "a PIN that another replica tried must not be tried again");
    one.settle("token", "pin", first, PinVerdict::Refused).await.unwrap();
    let ledger = StorePinLedger::new(Arc::new(two), Handle::current());
    let begun = tokio::task::spawn_blocking(move || ledger.begin("token", "pin")).await.unwrap();
    assert_eq!(begun, Err(PinLedgerRefusal::AlreadyTried));
}

#[tokio::test]
async fn another_replica_sees_a_change_at_once() {
    let Some(cluster) = Postgres::shared() else { return };
    let url = cluster.database();
    let (one, two) = (open_as(&url, "one").await, open_as(&url, "two").await);
    let before = two.pulse().await.unwrap().generation;
    one.apply(&[record(1)], &[]).await.unwrap();
    let committed = Instant::now();
    let seen = async || two.pulse().await.unwrap().generation != before;
    eventually(seen, "a change must be seen").await;
    let after = committed.elapsed();
    assert!(after < Duration::from_millis(250), "a change must be seen at once, but took {after:?}");
    assert_eq!(two.records().await.unwrap().records, [record(1)]);
}

#[tokio::test]
async fn an_outage_is_told_at_once_and_ends_by_itself() {
    let Some(cluster) = Postgres::own() else { return };
    let store = open(&cluster.database()).await;
    let mut lead = store.try_lead().await.unwrap().unwrap();
    for outage in [Postgres::stop, Postgres::kill] {
        outage(&cluster);
        let asked = Instant::now();
        unavailable(store.pulse().await);
        unavailable(store.apply(&[record(1)], &[]).await);
        assert!(asked.elapsed() < ACQUIRE_LIMIT * 3, "an outage must be told soon, but took {:?}", asked.elapsed());
        unavailable(lead.still_held().await);
        unavailable(lead.observe(&[]).await);

        cluster.start();
        store.pulse().await.expect("the first call after the outage must succeed");
        store.apply(&[], &[]).await.unwrap();
        assert_eq!(store.records().await.unwrap().records, [], "what was refused must not be there");
        lead = leads_eventually(&store).await;
        assert!(lead.still_held().await.unwrap());
    }
}

#[tokio::test]
async fn a_database_that_hangs_costs_seconds() {
    let Some(cluster) = Postgres::own() else { return };
    let store = open(&cluster.database()).await;
    store.apply(&[record(1)], &[]).await.unwrap();
    let mut lead = store.try_lead().await.unwrap().unwrap();
    cluster.pause();
    let asked = Instant::now();
    unavailable(store.pulse().await);
    unavailable(lead.still_held().await);
    let took = asked.elapsed();
    assert!(took < CALL_LIMIT * 2 + Duration::from_secs(2), "a call must not hang, but took {took:?}");
    cluster.resume();
    assert_eq!(store.records().await.unwrap().records, [record(1)], "and all goes on by itself");
    unavailable(lead.still_held().await);
    drop(lead);
    leads_eventually(&store).await;
}

#[tokio::test]
async fn connections_that_the_network_forgot_are_replaced_at_once() {
    let Some(cluster) = Postgres::own() else { return };
    let url = cluster.database();
    let store = open(&url).await;
    let (a, b, c) = tokio::join!(store.records(), store.records(), store.records());
    a.and(b).and(c).unwrap();
    eventually(async || store.pool.num_idle() > 1, "the test needs several connections").await;
    cluster.freeze_connections(&url);
    unavailable(store.pulse().await);
    store.pulse().await.expect("one call may find out, and no other");
}

#[tokio::test]
async fn a_leader_that_was_cut_off_writes_nothing() {
    let Some(cluster) = Postgres::shared() else { return };
    let url = cluster.database();
    let (one, two) = (open_as(&url, "one").await, open_as(&url, "two").await);
    one.apply(&[record(1)], &[]).await.unwrap();
    let mut lead = one.try_lead().await.unwrap().unwrap();
    lead.observe(&[seen(5)]).await.unwrap();
    assert!(two.try_lead().await.unwrap().is_none(), "the lock holds for all replicas");

    cluster.sql_at(&url, "SELECT pg_terminate_backend(pid) FROM pg_locks WHERE locktype = 'advisory'");
    let mut next = leads_eventually(&two).await;
    unavailable(lead.observe(&[seen(7)]).await);
    unavailable(lead.still_held().await);
    unavailable(lead.lower_max_age(&[MaxAge { client: "c".parse().unwrap(), max_age_ms: 1 }]).await);
    next.observe(&[seen(11)]).await.unwrap();
    assert_eq!(two.records().await.unwrap().records[0].served_for_ms, 16, "the same time must not count twice");
}

#[tokio::test]
async fn the_sweep_lock_falls_with_the_process() {
    const URL: &str = "HALLMARK_TEST_LEADER_OF";
    if let Ok(url) = env::var(URL) {
        let store = open(&url).await;
        let _lead = store.try_lead().await.unwrap().unwrap();
        std::process::abort();
    }
    let Some(cluster) = Postgres::shared() else { return };
    let url = cluster.database();
    let this = "store::postgres::tests::the_sweep_lock_falls_with_the_process";
    let mut child = Command::new(env::current_exe().unwrap());
    let ended = child.args([this, "--exact"]).env(URL, &url).stdin(Stdio::null()).output().unwrap();
    assert_eq!(ended.status.code(), None, "the leader must have got as far as its death: {ended:?}");
    leads_eventually(&open(&url).await).await;
}

#[tokio::test]
async fn changes_of_living_replicas_are_left_alone() {
    let Some(cluster) = Postgres::shared() else { return };
    let url = cluster.database();
    let one = open_as(&url, "one").await;
    one.announce("one", &[]).await.unwrap();
    one.begin_change(&change("1", "request")).await.unwrap();
    let two = open_as(&url, "two").await;
    assert_eq!(state(&two, "request").await, ChangeState::Running, "a replica that starts must not fail others' work");

    cluster.sql_at(&url, "UPDATE replicas SET heard = heard - 3600 * 1000 WHERE instance = 'one'");
    assert_eq!(state(&two, "request").await, ChangeState::Failed, "who is gone runs nothing");
    two.announce("two", &[]).await.unwrap();
    let three = open_as(&url, "three").await;
    assert_eq!(state(&three, "request").await, ChangeState::Running, "and it was taken up once");

    drop(two);
    let two = open_as(&url, "two").await;
    assert_eq!(state(&two, "request").await, ChangeState::Failed, "what the same instance ran before it ended");
}

#[tokio::test]
async fn tables_of_a_newer_version_are_refused() {
    let Some(cluster) = Postgres::shared() else { return };
    let url = cluster.database();
    open(&url).await.close().await;
    cluster.sql_at(&url, "UPDATE _sqlx_migrations SET version = 9999 WHERE version = 1");
    let refusal = PostgresStore::open(options(&url, "one")).await.unwrap_err().to_string();
    let known = MIGRATIONS.iter().map(|migration| migration.version).max().unwrap();
    let expected = format!(
        "are of version 9999, and this Hallmark knows them up to version {known}\nhint: a newer Hallmark made them"
    );
    assert!(refusal.contains(&expected), "{refusal}");
}

#[tokio::test]
async fn what_cannot_be_opened_says_what_to_type() {
    let Some(cluster) = Postgres::shared() else { return };
    let (folder, url) = (TempDir::new().unwrap(), cluster.database());
    let nowhere = format!("postgres:///db?host={}", folder.path().display());
    let guarded = cluster.url("postgres", Postgres::OTHER_USER);
    for (url, expected) in [
        (nowhere.as_str(), "hint: look whether it runs there: `pg_isready"),
        (&url.replace("test_", "absent_"), "hint: make it: `createdb"),
        (&guarded, "hint: "),
        ("postgres://u:secret-word@h/db", "hint: put it into a file: `password_file` in [store]"),
        ("postgres://h/db?user=u&password=secret-word", "hint: put it into a file: `password_file` in [store]"),
    ] {
        let complaint = PostgresStore::open(options(url, "one")).await.unwrap_err().to_string();
        assert!(complaint.contains(expected), "{url}: {complaint}");
        assert!(!complaint.contains("secret-word"), "a password must not be shown: {complaint}");
    }
}

#[tokio::test]
async fn the_password_comes_from_a_file_and_may_change() {
    let Some(cluster) = Postgres::own() else { return };
    let (folder, url) = (TempDir::new().unwrap(), cluster.url("postgres", Postgres::OTHER_USER));
    cluster.sql("postgres", "GRANT ALL ON SCHEMA public TO PUBLIC");
    let file = folder.path().join("password");
    let with_file = || PostgresOptions { password_file: Some(file.clone()), ..options(&url, "one") };
    secret(&file, "wrong", 0o600);
    let refusal = PostgresStore::open(with_file()).await.unwrap_err().to_string();
    assert!(refusal.contains("hint: put the right password into the file"), "{refusal}");
    secret(&file, Postgres::PASSWORD, 0o644);
    let refusal = PostgresStore::open(with_file()).await.unwrap_err().to_string();
    assert!(refusal.contains("its mode is 644") && refusal.contains("hint: chmod 600 "), "{refusal}");
    secret(&file, Postgres::PASSWORD, 0o600);
    let store = PostgresStore::open(with_file()).await.unwrap();

    cluster.sql("postgres", &format!("ALTER ROLE {} PASSWORD 'new'", Postgres::OTHER_USER));
    secret(&file, "new", 0o600);
    cluster.stop();
    cluster.start();
    let works = async || store.pulse().await.is_ok();
    eventually(works, "a new password in the file must be taken").await;
}

#[tokio::test]
async fn conflicting_changes_of_two_replicas_never_wait_for_each_other() {
    let Some(cluster) = Postgres::shared() else { return };
    let url = cluster.database();
    let (one, two) = (open_as(&url, "one").await, open_as(&url, "two").await);
    one.apply(&[record(1), record(2)], &[]).await.unwrap();
    for served_for_ms in 1..50 {
        let to = |n| hallmark_core::ports::RecordUpdate {
            from: hallmark_core::key::KeyState::PreActive,
            record: hallmark_core::key::KeyRecord { served_for_ms, ..record(n) },
            chain: None,
        };
        let (there, back) = ([to(1), to(2)], [to(2), to(1)]);
        let (a, b) = tokio::join!(one.apply(&[], &there), two.apply(&[], &back));
        a.and(b).expect("the order in which records are named must not matter");
    }
}

async fn open(url: &str) -> PostgresStore {
    open_as(url, "one").await
}

async fn open_as(url: &str, instance: &str) -> PostgresStore {
    PostgresStore::open(options(url, instance)).await.unwrap()
}

fn options(url: &str, instance: &str) -> PostgresOptions {
    let (url, instance) = (url.to_owned(), instance.to_owned());
    PostgresOptions { url, password_file: None, instance, lease: Duration::from_secs(60) }
}

async fn state(store: &PostgresStore, request: &str) -> ChangeState {
    match store.begin_change(&change("other", request)).await.unwrap() {
        BegunChange::Existing(existing) => existing.state,
        BegunChange::New => panic!("forgotten"),
    }
}

fn seen(served_ms: u64) -> Observation {
    Observation { key: KeyId(Uuid::from_u128(1)), served_ms, kept_ms: 0 }
}

fn unavailable<T: fmt::Debug>(answer: Result<T, StoreError>) {
    assert!(matches!(answer, Err(StoreError::Unavailable(_))), "must be unavailable, but was {answer:?}");
}

fn secret(file: &Path, content: &str, mode: u32) {
    fs::write(file, content).unwrap();
    fs::set_permissions(file, Permissions::from_mode(mode)).unwrap();
}
