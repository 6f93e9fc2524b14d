//! What every store must do. An implementation runs all three suites from a test of its own:
//!
//! - [`run`]: records and changes, on empty stores;
//! - [`survives_reopening`]: nothing that was acknowledged is lost;
//! - [`pin_ledger`]: the rules of [`hallmark_core::ports::PinLedger`].
//!
//! A case that fails panics and names the promise that was broken.

use hallmark_core::ports::{ChangeState, KeyStore, RecordUpdate};

mod changes;
mod pins;
mod records;
mod samples;

pub use pins::pin_ledger;
pub use samples::{change, public, record, records_of_every_kind};

/// Runs every case on a store of its own. `fresh` makes an empty one.
pub async fn run<S: KeyStore>(fresh: impl AsyncFn() -> S) {
    fresh().await.ping().await.expect("a fresh store must answer");
    records::round_trip(&fresh().await).await;
    records::updates_replace_every_field(&fresh().await).await;
    records::updates_hold_only_from_the_expected_state(&fresh().await).await;
    records::all_or_nothing(&fresh().await).await;
    records::one_active_key_per_line(&fresh().await).await;
    records::a_swap_is_one_transaction(&fresh().await).await;
    records::identities_are_unique(&fresh().await).await;
    records::a_kid_stays_with_its_key(&fresh().await).await;
    records::of_concurrent_changes_one_wins(&fresh().await).await;
    changes::a_request_starts_once(&fresh().await).await;
    changes::a_failed_change_may_be_tried_again(&fresh().await).await;
    changes::another_request_starts_nothing(&fresh().await).await;
    changes::an_unknown_change_cannot_end(&fresh().await).await;
}

/// Writes to `store`, has `reopen` close it and open the same place again, and reads.
pub async fn survives_reopening<S: KeyStore>(store: S, reopen: impl AsyncFn(S) -> S) {
    let mut records = records_of_every_kind();
    store.apply(&records, &[]).await.unwrap();
    let change = change("1", "request-1");
    store.begin_change(&change).await.unwrap();
    store.end_change(&change.id, ChangeState::Applied, &[records[0].id]).await.unwrap();

    let store = reopen(store).await;
    assert_eq!(store.records().await.unwrap(), records, "records must survive");
    let again = changes::existing(&store, &change).await;
    assert_eq!((again.state, again.keys), (ChangeState::Applied, vec![records[0].id]), "changes must survive");

    let from = records[0].state;
    records[0].served_for_ms += 1;
    store.apply(&[], &[RecordUpdate { from, record: records[0].clone() }]).await.unwrap();
    let store = reopen(store).await;
    assert_eq!(store.records().await.unwrap(), records, "updates must survive");
}
