//! Servers that are killed under load, on a disk that forgets what was not synced: what a caller received is in the log.

use std::{
    collections::HashSet,
    env, fs,
    path::{Path, PathBuf},
    process::Command,
    sync::{Arc, Mutex},
};

use hallmark_proto::v1::RevokeKeyRequest;
use serde_json::Value;
use tokio::{sync::Notify, task::JoinSet};

use super::commands::{audit, json_of};
use crate::support::{Caller, Site, audit_log, soak_or};

/// As many at once: some wait for a sync at any time.
const CALLERS: usize = 16;

/// The library, and where it keeps its notes.
struct Forgetful {
    library: PathBuf,
    notes: tempfile::TempDir,
}

impl Forgetful {
    fn new() -> Self {
        let notes = tempfile::tempdir().unwrap();
        let library = notes.path().join("forgetful.so");
        let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/audit/forgetful.c");
        let done =
            Command::new("cc").args(["-shared", "-fPIC", "-O2", "-Wall", "-o"]).arg(&library).arg(source).output();
        let done = done.expect("cc is what Rust links with");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        Self { library, notes }
    }

    fn under(&self, command: &mut Command) {
        command.env("LD_PRELOAD", &self.library).env("FORGETFUL_NOTES", self.notes.path());
    }

    fn fail_next_sync(&self) {
        fs::write(self.notes.path().join("fail-sync"), "").unwrap();
    }

    /// Takes from each audit file what was not synced, or a part of it: pages reach a disk in any order.
    fn forget(&self, dir: &Path, dice: &mut Dice) {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_none_or(|extension| extension != "jsonl") {
                continue;
            }
            let note = fs::read_to_string(self.notes.path().join(path.file_name().unwrap()));
            let synced: usize = match note {
                Ok(length) => length.trim().parse().unwrap(),
                Err(_) if dice.roll(2) == 0 => {
                    fs::remove_file(&path).unwrap();
                    continue;
                }
                Err(_) => 0,
            };
            let mut bytes = fs::read(&path).unwrap();
            assert!(bytes.len() >= synced, "{path:?}");
            let rest = bytes.len() - synced;
            if rest > 0 {
                match dice.roll(4) {
                    0 => bytes.truncate(synced),
                    1 => bytes.truncate(synced + dice.roll(rest)),
                    2 => {
                        let start = synced + dice.roll(rest);
                        let end = start + dice.roll(bytes.len() - start + 1);
                        bytes[start..end].fill(0);
                    }
                    _ => {}
                }
                fs::write(&path, bytes).unwrap();
            }
        }
    }
}

/// xorshift64*: the same history for the same seed, as far as threads let it.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        usize::try_from(self.0.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33).unwrap() % sides
    }
}

/// What callers were told.
#[derive(Default)]
struct Received {
    jtis: Mutex<HashSet<String>>,
    more: Notify,
}

impl Received {
    fn count(&self) -> usize {
        self.jtis.lock().unwrap().len()
    }

    async fn wait_for(&self, count: usize) {
        loop {
            let more = self.more.notified();
            if self.count() >= count {
                return;
            }
            more.await;
        }
    }

    /// Signs until nobody answers any more.
    async fn keep_signing(self: Arc<Self>, app: Caller) {
        loop {
            match app.sign_for("demo").await {
                Ok(signed) => {
                    self.jtis.lock().unwrap().insert(signed.jti);
                    self.more.notify_one();
                }
                Err(refused) if refused.reason.is_empty() => return,
                // A key was revoked, or a sync failed: it goes on in a moment.
                Err(_) => tokio::task::yield_now().await,
            }
        }
    }
}

#[tokio::test]
async fn what_a_caller_received_is_in_the_log_after_a_power_cut() {
    let crashes = soak_or(10_u64, 100);
    let seed = env::var("HALLMARK_SEED").ok().and_then(|seed| seed.parse().ok()).unwrap_or(0x5eed_0015_u64);
    let (disk, mut dice) = (Forgetful::new(), Dice(seed));
    let mut site = Site::new();
    site.replace("dir = \"audit\"", "dir = \"audit\"\ncheckpoint_every = \"1s\"\nmax_file_mib = 1");
    site.append("\n[unsafe_testing]\nsweep_every = \"100ms\"\nlead = \"200ms\"\n");
    let start = || {
        site.start_with(|command| {
            command.arg("--unsafe-testing");
            disk.under(command);
        })
    };
    let (received, mut revoked) = (Arc::new(Received::default()), Vec::new());
    for crash in 0..crashes {
        let mut server = start();
        server.ready().await;
        let mut callers = JoinSet::new();
        for _ in 0..CALLERS {
            callers.spawn(received.clone().keep_signing(server.app()));
        }
        let before = received.count();
        let revoking = dice.roll(3) == 0;
        received.wait_for(before + 100 + dice.roll(300)).await;
        // Not both: a revocation does not wait for a log that fails.
        if !revoking && dice.roll(2) == 0 {
            disk.fail_next_sync();
        }
        let revoke = tokio::spawn(revoke(server.ops(), server.app(), revoking.then(|| format!("crash-{crash}"))));
        received.wait_for(before + 600 + dice.roll(600)).await;
        server.process.kill();
        revoked.extend(revoke.await.unwrap());
        while callers.join_next().await.is_some() {}
        disk.forget(&site.audit_dir(), &mut dice);
    }
    let server = start();
    server.ready().await;
    server.stop().await;

    let received = received.jtis.lock().unwrap().clone();
    let records = audit_log::read(&site.audit_dir(), "test");
    all_is_there(&records, &received, &revoked, seed);
    let config = site.write();
    let verified = audit(&["verify", "--json", "--config"], &[config.as_ref()]);
    let verdict = json_of(&verified);
    assert_eq!(verified.status.code(), Some(0), "seed {seed}: {verdict:#}");
    let chain = &verdict["chains"][0];
    assert!(chain["checkpoints"].as_u64().unwrap() * 2 >= crashes, "{chain:#}");
    println!(
        "{crashes} crashes, {} assertions received, {} keys revoked meanwhile, {} records, {} notes of what was left",
        received.len(),
        revoked.len(),
        records.len(),
        chain["notes"].as_array().unwrap().len()
    );
}

fn all_is_there(records: &[Value], received: &HashSet<String>, revoked: &[String], seed: u64) {
    let done = |record: &&Value| record["outcome"] == "done";
    let logged: HashSet<_> = records.iter().filter(done).filter_map(|record| record["jti"].as_str()).collect();
    let lost: Vec<_> = received.iter().filter(|jti| !logged.contains(jti.as_str())).collect();
    assert!(
        lost.is_empty(),
        "seed {seed}: {} of {} assertions are not in the log: {lost:?}",
        lost.len(),
        received.len()
    );
    for change in revoked {
        let is_there = |r: &Value| r["action"] == "revoke" && r["change"] == change.as_str() && r["outcome"] == "done";
        assert!(records.iter().any(is_there), "seed {seed}: {change} was answered");
    }
}

/// Revokes the key that signs; gives the change if that was answered.
async fn revoke(ops: Caller, app: Caller, request_id: Option<String>) -> Option<String> {
    let request_id = request_id?;
    let kid = app.sign_for("demo").await.ok()?.kid;
    let request = RevokeKeyRequest { request_id, reason: "it got out".to_owned(), kid };
    let answer = ops.keys().revoke_key(request).await.ok()?.into_inner();
    Some(answer.change?.id)
}
