//! What a crash leaves, and how the next start takes it up.

use super::*;

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
