use std::{fs, path::PathBuf, sync::atomic::Ordering::Relaxed, task::Poll};

use futures_util::{future::join_all, poll};
use hallmark_core::audit::{Chain, Place, finding::Verdict, walk::Knowledge};
use serde_json::Value;
use tempfile::TempDir;

use super::*;
use fakes::{FakeDisk, SetClock};

mod fakes;

#[tokio::test]
async fn lines_continue_one_chain_over_restarts() {
    let folder = TempDir::new().unwrap();
    for n in 1..=3 {
        let log = open(&folder, "a", FakeDisk::default());
        log.append(event(n * 10)).unwrap();
        log.append_synced(event(n * 10 + 1)).await.unwrap();
        log.close().await.unwrap();
    }
    let start = "start";
    let more = "refused-more";
    assert_eq!(kinds(&folder), [start, more, more, start, more, more, start, more, more]);
    assert_eq!(counts(&folder), [10, 11, 20, 21, 30, 31]);
    assert!(path(&folder, 3).exists() && !path(&folder, 4).exists(), "one file a start");
}

#[tokio::test]
async fn one_sync_serves_all_who_wait() {
    let (folder, disk) = (TempDir::new().unwrap(), FakeDisk::default());
    let log = open(&folder, "a", disk.clone());
    disk.hold_syncs();
    let first = log.append_synced(event(1));
    disk.sync_entered();
    let rest: Vec<_> = (2..500).map(|n| log.append_synced(event(n))).collect();
    disk.release_syncs();
    first.await.unwrap();
    assert!(join_all(rest).await.iter().all(Result::is_ok));
    let counters = log.counters();
    assert_eq!(counters.batches.load(Relaxed), 3, "the start, the first, and one for the other 498");
    assert_eq!(counters.events.load(Relaxed), 500);
    assert_eq!(counters.bytes.load(Relaxed), fs::metadata(path(&folder, 1)).unwrap().len());
}

#[tokio::test]
async fn nothing_resolves_before_its_sync() {
    let (folder, disk) = (TempDir::new().unwrap(), FakeDisk::default());
    let log = open(&folder, "a", disk.clone());
    disk.hold_syncs();
    log.append(event(1)).unwrap();
    let mut early = Box::pin(log.append_synced(event(2)));
    disk.sync_entered();
    // This one comes while the sync runs: that sync is not its own.
    let mut late = Box::pin(log.append_synced(event(3)));
    assert!(poll!(early.as_mut()).is_pending());
    disk.release_one_sync();
    early.await.unwrap();
    assert_eq!(counts(&folder), [1, 2], "what was appended before is covered too");
    disk.sync_entered();
    assert!(poll!(late.as_mut()).is_pending(), "an earlier sync must not count");
    disk.release_syncs();
    late.await.unwrap();
    assert_eq!(counts(&folder), [1, 2, 3]);
}

#[tokio::test]
async fn what_nobody_waits_for_gets_to_the_disk_by_itself() {
    let (folder, disk) = (TempDir::new().unwrap(), FakeDisk::default());
    let log = open(&folder, "a", disk.clone());
    for n in 1..=2 {
        disk.forget_syncs();
        log.append(event(n)).unwrap();
        disk.synced();
    }
    assert_eq!(counts(&folder), [1, 2]);
    drop(log);
}

#[tokio::test]
async fn what_a_crash_tore_is_kept_and_recorded() {
    let folder = TempDir::new().unwrap();
    let log = open(&folder, "a", FakeDisk::default());
    let written = (1..=4).map(|n| log.append_synced(event(n)));
    assert!(join_all(written).await.iter().all(Result::is_ok));
    log.close().await.unwrap();
    let whole = fs::read_to_string(path(&folder, 1)).unwrap();
    let lines: Vec<_> = whole.split_inclusive('\n').collect();
    let half = &lines[4][..20];
    // Cut within a line; cut and padded with zeros by the file system; a page lost between two that were written.
    let kept = lines[..3].concat();
    for torn in [half.to_owned(), format!("{half}\0\0\0\0"), lines[4].to_owned(), format!("{half}\n{}", lines[4])] {
        let folder = TempDir::new().unwrap();
        fs::write(path(&folder, 1), format!("{kept}{torn}")).unwrap();
        let log = open(&folder, "a", FakeDisk::default());
        log.append_synced(event(9)).await.unwrap();
        log.close().await.unwrap();
        let lines = verify(&folder);
        assert_eq!(counts(&folder), [1, 2, 9]);
        let tail = lines.iter().find(|line| line["event"] == "torn-tail").unwrap();
        assert_eq!((&tail["file"], &tail["bytes"]), (&"a-00000001.jsonl".into(), &torn.len().into()));
        assert_eq!(fs::read_to_string(path(&folder, 1)).unwrap(), format!("{kept}{torn}"), "nothing is cut off");
    }
}

#[tokio::test]
async fn a_start_cut_short_does_not_break_the_chain() {
    let folder = TempDir::new().unwrap();
    let log = open(&folder, "a", FakeDisk::default());
    log.append_synced(event(1)).await.unwrap();
    log.close().await.unwrap();
    fs::write(path(&folder, 2), "").unwrap();
    fs::write(path(&folder, 3), "{\"seq\":3,\"pr").unwrap();
    let log = open(&folder, "a", FakeDisk::default());
    log.append_synced(event(2)).await.unwrap();
    assert_eq!(counts(&folder), [1, 2]);
    assert_eq!(kinds(&folder).iter().filter(|kind| *kind == "torn-tail").count(), 1);
    assert!(path(&folder, 4).exists());
}

#[tokio::test]
async fn a_power_cut_loses_nothing_that_was_acknowledged() {
    let (folder, disk) = (TempDir::new().unwrap(), FakeDisk::default());
    let log = open(&folder, "a", disk.clone());
    log.append_synced(event(1)).await.unwrap();
    disk.hold_syncs();
    let unacknowledged = log.append_synced(event(2));
    disk.sync_entered();
    // The machine stops here: what this disk did not sync is gone.
    let after = TempDir::new().unwrap();
    fs::copy(path(&folder, 1), path(&after, 1)).unwrap();
    let restarted = open(&after, "a", FakeDisk::default());
    restarted.append_synced(event(3)).await.unwrap();
    assert_eq!(counts(&after), [1, 3]);
    disk.release_syncs();
    unacknowledged.await.unwrap();
}

#[tokio::test]
async fn a_full_disk_stops_the_log_until_space_comes_back() {
    let (folder, disk) = (TempDir::new().unwrap(), FakeDisk::default());
    let log = open(&folder, "a", disk.clone());
    log.append_synced(event(1)).await.unwrap();
    disk.fill();
    log.append(event(2)).unwrap();
    let error = log.append_synced(event(3)).await.unwrap_err();
    assert!(error.0.contains("No space left"), "{error}");
    disk.creation_failed();
    until(|| !log.is_healthy()).await;
    assert!(log.append(event(4)).is_err(), "an unhealthy log must refuse at once");
    let mut refused = Box::pin(log.append_synced(event(5)));
    assert!(matches!(poll!(refused.as_mut()), Poll::Ready(Err(_))));

    disk.free();
    until(|| log.is_healthy()).await;
    log.append_synced(event(6)).await.unwrap();
    let lines = verify(&folder);
    assert_eq!(counts(&folder), [1, 2, 3, 6], "what had been taken is written, what was refused is not");
    let abandoned = lines.iter().find(|line| line["event"] == "file-abandoned").unwrap();
    assert_eq!((&abandoned["file"], &abandoned["after"]), (&"a-00000001.jsonl".into(), &2.into()));
    let files = fs::read_dir(folder.path()).unwrap().count();
    assert_eq!(files, 3, "two files and the lock: the tries in between leave nothing behind");
    assert!(log.counters().failures.load(Relaxed) >= 2);
}

#[tokio::test]
async fn a_failed_sync_abandons_the_file() {
    let (folder, disk) = (TempDir::new().unwrap(), FakeDisk::default());
    let log = open(&folder, "a", disk.clone());
    log.append_synced(event(1)).await.unwrap();
    disk.fail_next_sync();
    log.append_synced(event(2)).await.unwrap_err();
    let abandoned = fs::read(path(&folder, 1)).unwrap();
    log.append_synced(event(3)).await.expect("the next file must serve");
    assert!(log.is_healthy());
    assert_eq!(fs::read(path(&folder, 1)).unwrap(), abandoned, "nothing may be written after a failed sync");
    assert_eq!(counts(&folder), [1, 2, 3]);
    assert!(path(&folder, 2).exists());
    log.close().await.unwrap();
    let log = open(&folder, "a", FakeDisk::default());
    log.append_synced(event(4)).await.unwrap();
    assert_eq!(counts(&folder), [1, 2, 3, 4], "a restart continues the newer file");
}

#[tokio::test]
async fn a_queue_that_is_full_refuses_at_once() {
    let (folder, disk) = (TempDir::new().unwrap(), FakeDisk::default());
    let options = AuditOptions { capacity: 4, ..options(disk.clone()) };
    let log = AuditLog::open(folder.path(), "a", options).unwrap();
    disk.hold_syncs();
    let first = log.append_synced(event(0));
    disk.sync_entered();
    let taken: Vec<_> = (1..=4).map(|n| log.append_synced(event(n))).collect();
    let error = log.append(event(5)).unwrap_err();
    assert_eq!(error.0, "the disk can't keep up: 4 events are waiting");
    assert!(log.append_synced(event(6)).await.is_err());
    disk.release_syncs();
    first.await.unwrap();
    assert!(join_all(taken).await.iter().all(Result::is_ok));
    assert_eq!(counts(&folder), [0, 1, 2, 3, 4]);
}

#[tokio::test]
async fn a_flood_of_refusals_becomes_a_number() {
    let (folder, clock) = (TempDir::new().unwrap(), Arc::new(SetClock::default()));
    let options = AuditOptions {
        clock: Arc::clone(&clock) as Arc<dyn Clock>,
        refusals_per_second: 3,
        ..options(FakeDisk::default())
    };
    let log = AuditLog::open(folder.path(), "a", options).unwrap();
    let refuse = |times: u64| {
        let refusal = Event::Refused { request: "r", who: "w", client: "c", reason: "CLIENT_NOT_PERMITTED" };
        (0..times).for_each(|_| log.refused(clock.now(), &refusal));
    };
    refuse(10);
    clock.advance(1000);
    refuse(5);
    log.close().await.unwrap();
    let refused = kinds(&folder).iter().filter(|kind| *kind == "refused").count();
    assert_eq!((refused, counts(&folder).iter().sum::<u64>()), (6, 9), "each second has its own, the rest is counted");
    assert_eq!(log.counters().refusals.load(Relaxed), 15);
}

#[tokio::test]
async fn counted_refusals_are_recorded_when_their_second_is_over() {
    let (folder, disk, clock) = (TempDir::new().unwrap(), FakeDisk::default(), Arc::new(SetClock::default()));
    let options =
        AuditOptions { clock: Arc::clone(&clock) as Arc<dyn Clock>, refusals_per_second: 0, ..options(disk.clone()) };
    let log = AuditLog::open(folder.path(), "a", options).unwrap();
    disk.forget_syncs();
    log.refused(clock.now(), &Event::Refused { request: "r", who: "w", client: "c", reason: "X" });
    clock.advance(1000);
    disk.synced();
    assert_eq!(counts(&folder), [1]);
}

#[tokio::test]
async fn what_was_queued_is_written_before_the_end() {
    let folder = TempDir::new().unwrap();
    let log = open(&folder, "a", FakeDisk::default());
    log.append(event(1)).unwrap();
    let closed = log.close();
    assert!(log.append(event(2)).is_err(), "a closed log must take nothing");
    closed.await.unwrap();
    assert_eq!(counts(&folder), [1]);

    let log = open(&folder, "a", FakeDisk::default());
    let (other, queue) = (log.clone(), Arc::clone(&log.inner.queue));
    drop(log);
    other.append(event(3)).expect("a clone keeps it open");
    drop(other);
    queue.ended().wait().await.unwrap();
    assert_eq!(counts(&folder), [1, 3]);
}

#[tokio::test]
async fn nobody_waits_for_a_writer_that_is_gone() {
    let (folder, disk) = (TempDir::new().unwrap(), FakeDisk::default());
    let log = open(&folder, "a", disk.clone());
    disk.panic_at_next_sync();
    log.append_synced(event(1)).await.unwrap_err();
    log.close().await.unwrap_err();
    assert!(log.append(event(2)).is_err() && !log.is_healthy());
}

#[test]
fn a_place_that_cannot_be_used_is_refused_with_a_hint() {
    let folder = TempDir::new().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let full = FakeDisk::default();
    full.fill();
    let _held = open(&folder, "held", FakeDisk::default());
    for (dir, instance, disk, expected) in [
        (file.as_path(), "a", FakeDisk::default(), "hint: create it, let Hallmark's user write to it"),
        (folder.path(), "a", full, "No space left on device"),
        (folder.path(), "held", FakeDisk::default(), "hint: stop that process, or give this one its own `instance.id`"),
        (folder.path(), "../a", FakeDisk::default(), "hint: set `instance.id` to"),
    ] {
        let error = AuditLog::open(dir, instance, options(disk)).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    assert!(!path(&folder, 1).exists());
}

#[tokio::test]
async fn the_real_disk_keeps_lines_too() {
    let folder = TempDir::new().unwrap();
    for n in 1..=2 {
        let options = AuditOptions::new(Arc::new(SetClock::default()));
        let log = AuditLog::open(&folder.path().join("audit"), "a", options).unwrap();
        log.append_synced(event(n)).await.unwrap();
        log.close().await.unwrap();
    }
    let text = fs::read_to_string(folder.path().join("audit/a-00000002.jsonl")).unwrap();
    assert_eq!(text.lines().count(), 2);
}

#[tokio::test]
async fn a_sync_that_hangs_is_told() {
    let (folder, disk) = (TempDir::new().unwrap(), FakeDisk::default());
    let options = AuditOptions { hung_after: Duration::from_millis(20), ..options(disk.clone()) };
    let log = AuditLog::open(folder.path(), "a", options).unwrap();
    assert!(log.is_healthy());
    disk.hold_syncs();
    let waiting = log.append_synced(event(1));
    let told = async {
        while log.is_healthy() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), told).await.expect("a hanging disk is no healthy one");
    disk.release_syncs();
    waiting.await.unwrap();
    assert!(log.is_healthy());
}

#[tokio::test]
async fn a_file_that_is_long_enough_is_followed_by_the_next() {
    let (folder, disk) = (TempDir::new().unwrap(), FakeDisk::default());
    let options = AuditOptions { max_file: 600, ..options(disk.clone()) };
    let log = AuditLog::open(folder.path(), "a", options).unwrap();
    for n in 1..=20 {
        log.append_synced(event(n)).await.unwrap();
    }
    let head = log.head().unwrap();
    log.close().await.unwrap();
    assert_eq!(counts(&folder), (1..=20).collect::<Vec<_>>());
    let rotated = kinds(&folder).iter().filter(|kind| *kind == "rotated").count() as u64;
    assert!(rotated >= 3 && head.rotations >= 3 && rotated >= head.rotations, "{rotated} {head:?}");
    let verdict = walked(&folder);
    assert_eq!((verdict.findings, verdict.notes, verdict.end), (vec![], vec![], Some(head_of(&folder))));
}

#[tokio::test]
async fn a_rotation_that_fails_loses_nothing() {
    let (folder, disk) = (TempDir::new().unwrap(), FakeDisk::default());
    let options = AuditOptions { max_file: 300, ..options(disk.clone()) };
    let log = AuditLog::open(folder.path(), "a", options).unwrap();
    fs::write(path(&folder, 2), "").unwrap();
    for n in 1..=9 {
        log.append_synced(event(n)).await.unwrap();
    }
    log.close().await.unwrap();
    assert_eq!(counts(&folder), (1..=9).collect::<Vec<_>>());
    assert!(log.counters().failures.load(Relaxed) >= 1);
}

/// What a reader says of logs that crashed, failed and went on: nothing was edited.
#[tokio::test]
async fn what_the_log_went_through_is_told_from_an_edit() {
    let (folder, disk) = (TempDir::new().unwrap(), FakeDisk::default());
    let log = open(&folder, "a", disk.clone());
    log.append_synced(event(1)).await.unwrap();
    disk.fail_next_sync();
    log.append_synced(event(2)).await.unwrap_err();
    log.append_synced(event(3)).await.unwrap();
    log.close().await.unwrap();
    let mut file = fs::OpenOptions::new().append(true).open(path(&folder, 2)).unwrap();
    std::io::Write::write_all(&mut file, b"{\"seq\":77,\"pr\0\0\n{\"x").unwrap();
    // A start that was cut short after its first record, and one before its first.
    let verdict = walked(&folder);
    assert!(verdict.findings.len() == 1, "nobody knows yet that it was a crash: {:?}", verdict.findings);
    open(&folder, "a", FakeDisk::default()).close().await.unwrap();
    let begun = fs::read_to_string(path(&folder, 3)).unwrap();
    let (first, _) = begun.split_once('\n').unwrap();
    assert!(first.contains("torn-tail"), "{first}");
    fs::write(path(&folder, 3), format!("{first}\n{{\"seq\"")).unwrap();
    fs::write(path(&folder, 4), "").unwrap();
    let log = open(&folder, "a", FakeDisk::default());
    log.append_synced(event(4)).await.unwrap();
    log.close().await.unwrap();
    let verdict = walked(&folder);
    assert_eq!(verdict.findings, vec![]);
    assert_eq!(verdict.notes.len(), 3, "{:?}", verdict.notes);
    assert_eq!(verdict.end, Some(head_of(&folder)));

    // The same files, edited.
    let text = fs::read_to_string(path(&folder, 2)).unwrap();
    fs::write(path(&folder, 2), text.replacen("\"count\":3", "\"count\":9", 1)).unwrap();
    let verdict = walked(&folder);
    assert_eq!(verdict.findings.len(), 1, "{:?}", verdict.findings);
    fs::write(path(&folder, 2), text).unwrap();
    fs::remove_file(path(&folder, 2)).unwrap();
    let verdict = walked(&folder);
    assert!(verdict.findings[0].text.contains("a file is missing"), "{:?}", verdict.findings);
}

#[tokio::test]
async fn the_head_is_what_is_on_the_disk() {
    let folder = TempDir::new().unwrap();
    let log = open(&folder, "a", FakeDisk::default());
    let checkpoint = Event::Checkpoint { hsm: "one", why: "start", overdue: None, jws: "x" };
    log.append_synced(EncodedEvent::new(Timestamp::from_millis(1), &checkpoint)).await.unwrap();
    let signed = log.head().unwrap();
    assert_eq!(signed.checkpoint.as_ref(), Some(&signed.place));
    log.append_synced(event(1)).await.unwrap();
    let head = log.head().unwrap();
    assert_eq!((head.place.seq, head.checkpoint.clone(), &*head.file), (3, signed.checkpoint, "a-00000001.jsonl"));
    assert_eq!(head.place, head_of(&folder));
    log.close().await.unwrap();
    let restarted = open(&folder, "a", FakeDisk::default());
    assert_eq!(restarted.head().unwrap().checkpoint, head.checkpoint, "the next one names it after a restart too");
}

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
