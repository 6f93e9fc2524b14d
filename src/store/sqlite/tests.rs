use std::{
    os::unix::fs::symlink,
    sync::{Arc, Mutex},
};

use hallmark_core::{
    key::KeyRecord,
    ports::{BegunChange, ChangeState, KeyStore as _, PinLedger},
};
use hallmark_testkit::store_contract::{self, change, public, record};
use tempfile::TempDir;
use tokio::runtime::Handle;

use super::*;
use crate::store::StorePinLedger;

#[tokio::test]
async fn keeps_the_contract_in_memory() {
    store_contract::run(async || SqliteStore::open("sqlite::memory:").await.unwrap()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn keeps_the_contract_on_disk() {
    let folders = Mutex::new(Vec::new());
    store_contract::run(async || {
        let folder = TempDir::new().unwrap();
        let store = SqliteStore::open(&url(&folder)).await.unwrap();
        folders.lock().unwrap().push(folder);
        store
    })
    .await;
}

#[tokio::test]
async fn survives_reopening() {
    let folder = TempDir::new().unwrap();
    let store = SqliteStore::open(&url(&folder)).await.unwrap();
    let reopen = async |store: SqliteStore| {
        store.close().await;
        SqliteStore::open(&url(&folder)).await.unwrap()
    };
    store_contract::survives_reopening(store, reopen).await;
}

#[tokio::test]
async fn keeps_the_pin_rules() {
    let (folder, runtime) = (TempDir::new().unwrap(), Handle::current());
    let open = move || {
        let store = runtime.block_on(SqliteStore::open(&url(&folder))).unwrap();
        Arc::new(StorePinLedger::new(Arc::new(store), runtime.clone())) as Arc<dyn PinLedger>
    };
    tokio::task::spawn_blocking(move || store_contract::pin_ledger(open)).await.unwrap();
}

#[tokio::test]
async fn a_second_process_is_refused_by_any_path_to_the_file() {
    let folder = TempDir::new().unwrap();
    let store = SqliteStore::open(&url(&folder)).await.unwrap();
    let link = folder.path().join("link.db");
    symlink(folder.path().join("hallmark.db"), &link).unwrap();
    for url in [url(&folder), format!("sqlite://{}", link.display())] {
        let refusal = SqliteStore::open(&url).await.unwrap_err().to_string();
        let holder = format!("locked by process `{}`", std::process::id());
        assert!(refusal.contains(&holder) && refusal.contains("\nhint: SQLite is for one replica"), "{refusal}");
    }
    store.close().await;
    SqliteStore::open(&url(&folder)).await.expect("a lock must end with its holder");
}

#[tokio::test]
async fn what_a_crash_cut_short_can_be_taken_up() {
    let folder = TempDir::new().unwrap();
    let store = SqliteStore::open(&url(&folder)).await.unwrap();
    store.begin_change(&change("1", "request")).await.unwrap();
    store.close().await;

    let store = SqliteStore::open(&url(&folder)).await.unwrap();
    let BegunChange::Existing(found) = store.begin_change(&change("2", "request")).await.unwrap() else {
        panic!("forgotten")
    };
    assert_eq!((found.id.as_str(), found.state), ("1", ChangeState::Failed));
}

#[tokio::test]
async fn a_corrupt_row_is_named() {
    let edits = [
        ("UPDATE keys SET state = 'aktiv'", "not a valid key state: `aktiv`"),
        ("UPDATE keys SET kid = 'a b'", "not a valid kid: `a b`"),
        ("UPDATE keys SET spki = x'3000'", "not a usable public key"),
        ("UPDATE keys SET alg = 'RS256'", "its public key can't do RS256"),
        ("UPDATE keys SET served_for_ms = -1", "out of range"),
        ("UPDATE keys SET id = 'x'", "key `x`"),
    ];
    for (edit, complaint) in edits {
        let store = SqliteStore::open("sqlite::memory:").await.unwrap();
        let stored = KeyRecord { public: Some(public()), ..record(1) };
        store.apply(&[stored], &[]).await.unwrap();
        sqlx::query(edit).execute(&store.pool).await.unwrap();
        match store.records().await {
            Err(StoreError::Corrupt(text)) => {
                assert!(text.starts_with("key `") && text.contains(complaint), "{edit}: {text}");
            }
            other => panic!("{edit}: {other:?}"),
        }
    }
}

#[tokio::test]
async fn every_commit_is_synced() {
    let folder = TempDir::new().unwrap();
    let store = SqliteStore::open(&url(&folder)).await.unwrap();
    let mode: String = sqlx::query_scalar("PRAGMA journal_mode").fetch_one(&store.pool).await.unwrap();
    let synchronous: i64 = sqlx::query_scalar("PRAGMA synchronous").fetch_one(&store.pool).await.unwrap();
    assert_eq!((mode.as_str(), synchronous), ("wal", 2));
}

#[tokio::test]
async fn what_cannot_be_opened_says_what_to_type() {
    let folder = TempDir::new().unwrap();
    let newer = url(&folder);
    let store = SqliteStore::open(&newer).await.unwrap();
    sqlx::query("UPDATE _sqlx_migrations SET version = 9999 WHERE version = 1").execute(&store.pool).await.unwrap();
    store.close().await;
    let missing = format!("sqlite://{}/nowhere/hallmark.db", folder.path().display());
    let text = folder.path().join("text.db");
    fs::write(&text, "not a database, and long enough for anyone to see that it is not one").unwrap();
    let text = format!("sqlite://{}", text.display());
    for (url, expected) in [
        ("postgres://db", "hint: write `sqlite:///var/lib"),
        ("sqlite://", "hint: write `sqlite:///var/lib"),
        (&missing, "hint: make the folder first: `mkdir -p "),
        (&text, "file is not a database"),
        (&newer, "are of version 9999, and this Hallmark knows them up to version "),
    ] {
        let complaint = SqliteStore::open(url).await.unwrap_err().to_string();
        assert!(complaint.contains(expected), "{url}: {complaint}");
    }
}

fn url(folder: &TempDir) -> String {
    format!("sqlite://{}/hallmark.db", folder.path().display())
}
