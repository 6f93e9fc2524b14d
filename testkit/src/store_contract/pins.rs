//! The PIN ledger: one try per PIN, across restarts.

use std::sync::Arc;

use hallmark_core::ports::{PinLedger, PinLedgerRefusal, PinVerdict};

/// Runs every case. `open` opens the same place each time, as a restart would: it closes what it opened before.
///
/// Blocks, as the ledger does: call it from a thread that may.
pub fn pin_ledger(mut open: impl FnMut() -> Arc<dyn PinLedger>) {
    a_refused_pin_is_never_tried_again(&mut open);
    a_crash_within_a_try_counts_as_tried(&mut open);
    an_accepted_pin_may_be_tried_again(&mut open);
    an_unknown_end_is_forgiven_to_a_good_pin_only(&mut open);
    an_unknown_end_is_forgiven_once_in_a_row(&mut open);
    a_pin_that_was_not_looked_at_counts_as_before(&mut open);
    a_pin_that_was_good_once_is_not_for_ever(&mut open);
    of_concurrent_tries_one_begins(&open());
}

fn a_refused_pin_is_never_tried_again(open: &mut impl FnMut() -> Arc<dyn PinLedger>) {
    let ledger = open();
    ledger.begin("refused", "a").unwrap();
    ledger.end("refused", "a", PinVerdict::Refused).unwrap();
    drop(ledger);
    for _ in 0..3 {
        assert_eq!(open().begin("refused", "a"), TRIED, "a refused PIN must not be tried again after a restart");
    }
    let ledger = open();
    ledger.begin("refused", "b").expect("a changed PIN file must be tried");
    ledger.end("refused", "b", PinVerdict::Refused).unwrap();
    assert_eq!(ledger.begin("refused", "a"), TRIED, "the first file is as wrong as it was");
    ledger.begin("another", "a").expect("another token has markers of its own");
}

fn a_crash_within_a_try_counts_as_tried(open: &mut impl FnMut() -> Arc<dyn PinLedger>) {
    open().begin("crash", "a").unwrap();
    assert_eq!(open().begin("crash", "a"), TRIED, "the try before the crash may have reached the token");
}

fn an_accepted_pin_may_be_tried_again(open: &mut impl FnMut() -> Arc<dyn PinLedger>) {
    for _ in 0..3 {
        let ledger = open();
        ledger.begin("accepted", "a").expect("an accepted PIN must be good for the next login");
        ledger.end("accepted", "a", PinVerdict::Accepted).unwrap();
    }
}

fn an_unknown_end_is_forgiven_to_a_good_pin_only(open: &mut impl FnMut() -> Arc<dyn PinLedger>) {
    let ledger = open();
    ledger.begin("unknown", "new").unwrap();
    ledger.end("unknown", "new", PinVerdict::Unknown).unwrap();
    assert_eq!(ledger.begin("unknown", "new"), TRIED, "a PIN that was never accepted may have been counted");

    ledger.begin("unknown", "good").unwrap();
    ledger.end("unknown", "good", PinVerdict::Accepted).unwrap();
    ledger.begin("unknown", "good").unwrap();
    ledger.end("unknown", "good", PinVerdict::Unknown).unwrap();
    drop(ledger);
    open().begin("unknown", "good").expect("a PIN accepted before must come back after the token does");
}

fn an_unknown_end_is_forgiven_once_in_a_row(open: &mut impl FnMut() -> Arc<dyn PinLedger>) {
    let ledger = open();
    for verdict in [PinVerdict::Accepted, PinVerdict::Unknown, PinVerdict::Accepted, PinVerdict::Unknown] {
        ledger.begin("in-a-row", "a").expect("forgiven, for it was accepted in between");
        ledger.end("in-a-row", "a", verdict).unwrap();
    }
    ledger.begin("in-a-row", "a").unwrap();
    ledger.end("in-a-row", "a", PinVerdict::Unknown).unwrap();
    drop(ledger);
    assert_eq!(open().begin("in-a-row", "a"), TRIED, "a token that never answers may have counted two tries");
}

fn a_pin_that_was_not_looked_at_counts_as_before(open: &mut impl FnMut() -> Arc<dyn PinLedger>) {
    let ledger = open();
    for (source, accepted) in [("new", false), ("good", true)] {
        if accepted {
            ledger.begin("not-looked-at", source).unwrap();
            ledger.end("not-looked-at", source, PinVerdict::Accepted).unwrap();
        }
        ledger.begin("not-looked-at", source).unwrap();
        ledger.end("not-looked-at", source, PinVerdict::NotTried).unwrap();
        ledger.begin("not-looked-at", source).expect("a PIN that was not looked at can be tried");
        ledger.end("not-looked-at", source, PinVerdict::Unknown).unwrap();
        let again = ledger.begin("not-looked-at", source);
        assert_eq!(again.is_ok(), accepted, "`{source}`: whether it was accepted before must stay as it was");
    }
}

fn a_pin_that_was_good_once_is_not_for_ever(open: &mut impl FnMut() -> Arc<dyn PinLedger>) {
    let ledger = open();
    ledger.begin("changed", "a").unwrap();
    ledger.end("changed", "a", PinVerdict::Accepted).unwrap();
    ledger.begin("changed", "a").unwrap();
    ledger.end("changed", "a", PinVerdict::Refused).unwrap();
    assert_eq!(ledger.begin("changed", "a"), TRIED, "the PIN was changed on the token");
    ledger.end("changed", "a", PinVerdict::Unknown).unwrap();
    assert_eq!(ledger.begin("changed", "a"), TRIED, "a refusal must forget that it was good before");
}

fn of_concurrent_tries_one_begins(ledger: &Arc<dyn PinLedger>) {
    let tries: Vec<_> = (0..8)
        .map(|_| {
            let ledger = Arc::clone(ledger);
            std::thread::spawn(move || ledger.begin("race", "a"))
        })
        .collect();
    let begun = tries.into_iter().map(|t| t.join().unwrap()).filter(Result::is_ok).count();
    assert_eq!(begun, 1, "of logins at once with one PIN, one may try it");
}

const TRIED: Result<(), PinLedgerRefusal> = Err(PinLedgerRefusal::AlreadyTried);
