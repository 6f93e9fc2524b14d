//! Files that are long enough.

use super::*;

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
