//! Refusals, which anyone can cause as many of as he likes.

use super::*;

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
