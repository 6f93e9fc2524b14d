use std::{fs, path::PathBuf, sync::atomic::Ordering::Relaxed, task::Poll};

use futures_util::{future::join_all, poll};
use hallmark_core::audit::{Chain, Place, finding::Verdict, walk::Knowledge};
use serde_json::Value;
use tempfile::TempDir;

use super::*;
use fakes::{FakeDisk, SetClock};

mod crashes;
mod disks;
mod fakes;
mod refusals;
mod rotation;
mod waiting;

/// As an auditor reads it.
fn walked(folder: &TempDir) -> Verdict {
    let chains = reading::find(&[folder.path().to_owned()]).unwrap();
    assert_eq!(chains.len(), 1);
    reading::walk(&chains[0], Knowledge::default(), &mut |_| ()).unwrap()
}

fn head_of(folder: &TempDir) -> Place {
    let lines = verify(folder);
    let mut chain = Chain::new("a");
    for number in 1..=30 {
        let text = fs::read_to_string(path(folder, number)).unwrap_or_default();
        chain = text.lines().fold(chain, |chain, line| chain.follow(line).unwrap_or(chain));
    }
    assert_eq!(chain.seq(), lines.len() as u64);
    chain.place()
}

fn open(folder: &TempDir, instance: &str, disk: FakeDisk) -> AuditLog {
    AuditLog::open(folder.path(), instance, options(disk)).unwrap()
}

fn options(disk: FakeDisk) -> AuditOptions {
    let retry = (Duration::from_millis(1), Duration::from_millis(4));
    AuditOptions { disk: Box::new(disk), retry, ..AuditOptions::new(Arc::new(SetClock::default())) }
}

fn event(count: u64) -> EncodedEvent {
    EncodedEvent::new(Timestamp::from_millis(0), &Event::RefusedMore { count })
}

fn path(folder: &TempDir, number: u64) -> PathBuf {
    folder.path().join(format!("a-{number:08}.jsonl"))
}

/// Everything the chain of `a` says, read as a stranger would: file by file, line by line, leaving out only what a
/// later line declares void.
fn verify(folder: &TempDir) -> Vec<Value> {
    let mut names: Vec<_> = fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().path()).collect();
    names.retain(|path| path.extension().is_some_and(|e| e == "jsonl"));
    names.sort();
    let mut chains = vec![Chain::new("a")];
    let mut lines: Vec<Value> = Vec::new();
    for name in names {
        for (n, line) in fs::read_to_string(name).unwrap().lines().enumerate() {
            let Ok(parsed) = serde_json::from_str::<Value>(line) else { break };
            if n == 0 && parsed["event"] == "file-abandoned" {
                let after = usize::try_from(parsed["after"].as_u64().unwrap()).unwrap();
                chains.truncate(after + 1);
                lines.truncate(after);
            }
            let Some(next) = chains.last().unwrap().follow(line) else {
                assert_ne!(n, 0, "a file must continue the one before: {line}");
                break;
            };
            chains.push(next);
            lines.push(parsed);
        }
    }
    lines
}

fn kinds(folder: &TempDir) -> Vec<String> {
    verify(folder).iter().map(|line| line["event"].as_str().unwrap().to_owned()).collect()
}

fn counts(folder: &TempDir) -> Vec<u64> {
    verify(folder).iter().filter_map(|line| line["count"].as_u64()).collect()
}

/// Waits for what the writer does right after an event that a test can see.
async fn until(condition: impl Fn() -> bool) {
    let reached = async {
        while !condition() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), reached).await.expect("it must come to that");
}
