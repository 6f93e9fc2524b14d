//! What is recorded, in which order, and when whoever waits is told.

use super::*;

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
