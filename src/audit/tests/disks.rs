//! Disks that are full, fail or hang, and places that can't be used.

use super::*;

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
