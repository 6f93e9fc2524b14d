//! What every store must do. An implementation runs all three suites from a test of its own:
//!
//! - [`run`]: records, changes, the sweep and replicas, on empty stores;
//! - [`survives_reopening`]: nothing that was acknowledged is lost;
//! - [`pin_ledger`]: the rules of [`hallmark_core::ports::PinLedger`].
//!
//! A case that fails panics and names the promise that was broken.

use std::time::{Duration, Instant};

use hallmark_core::ports::{
    ApprovalStore, ChangeState, FollowerStore, KeyStore, RecordUpdate, ReplicaStore, SweepStore,
};

mod approvals;
mod certificates;
mod changes;
mod followers;
mod paths;
mod pins;
mod records;
mod registrations;
mod replicas;
mod reports;
mod samples;
mod sweep;

pub use pins::pin_ledger;
pub use samples::{change, public, record, records_of_every_kind};
pub use sweep::leads_eventually;

/// Runs every case on a store of its own. `fresh` makes an empty one.
pub async fn run<S: KeyStore + ApprovalStore + SweepStore + ReplicaStore + FollowerStore>(fresh: impl AsyncFn() -> S) {
    fresh().await.pulse().await.expect("a fresh store must answer");
    records::round_trip(&fresh().await).await;
    records::updates_replace_every_field(&fresh().await).await;
    certificates::a_move_takes_back_no_certificate(&fresh().await).await;
    certificates::a_confirmation_is_of_the_certificate_that_was_read(&fresh().await).await;
    certificates::an_installation_takes_the_place_of_what_was_read(&fresh().await).await;
    certificates::moves_leave_what_was_confirmed(&fresh().await).await;
    certificates::two_confirmations_at_once_both_hold(&fresh().await).await;
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
    approvals::a_proposal_waits_and_is_found_again(&fresh().await).await;
    approvals::of_several_who_decide_one_carries_it_out(&fresh().await).await;
    approvals::an_approved_change_that_failed_is_taken_up_by_who_approved_it(&fresh().await).await;
    approvals::nobody_approves_what_has_expired(&fresh().await).await;
    approvals::what_has_expired_is_ended_once(&fresh().await).await;
    sweep::the_generation_moves_exactly_with_changes(&fresh().await).await;
    sweep::the_time_goes_on(&fresh().await).await;
    sweep::one_leads_at_a_time(&fresh().await).await;
    sweep::observed_time_adds_up(&fresh().await).await;
    sweep::ten_thousand_are_observed_at_once(&fresh().await).await;
    sweep::the_high_water_never_falls_early(&fresh().await).await;
    sweep::the_largest_of_the_smaller_values_holds(&fresh().await).await;
    sweep::serving_the_old_value_again_takes_the_mark_away(&fresh().await).await;
    paths::where_sets_are_published_is_kept(&fresh().await).await;
    paths::no_client_is_forgotten(&fresh().await).await;
    registrations::the_last_registration_holds(&fresh().await).await;
    replicas::who_is_heard_of_lives(&fresh().await).await;
    replicas::differing_policies_are_named(&fresh().await).await;
    replicas::ten_thousand_policies_are_compared(&fresh().await).await;
    reports::each_says_what_it_finds(&fresh().await).await;
    followers::the_last_word_of_each_holds(&fresh().await).await;
}

/// Writes to `store`, has `reopen` close it and open the same place again, and reads.
pub async fn survives_reopening<S: KeyStore + ApprovalStore + SweepStore>(store: S, reopen: impl AsyncFn(S) -> S) {
    let mut records = records_of_every_kind();
    store.apply(&records, &[]).await.unwrap();
    let change = change("1", "request-1");
    store.begin_change(&change).await.unwrap();
    store.end_change(&change.id, ChangeState::Applied, &[records[0].id]).await.unwrap();

    store.publish_at(&[paths::at("c", Some("/k/c.json"))]).await.unwrap();

    let store = reopen(store).await;
    let read = store.records().await.unwrap();
    assert_eq!(read.records, records, "records must survive");
    assert_eq!(read.paths, [paths::at("c", Some("/k/c.json"))], "paths must survive");
    let again = changes::existing(&store, &change).await;
    assert_eq!((again.state, again.keys), (ChangeState::Applied, vec![records[0].id]), "changes must survive");

    let store = registrations::survive(store, &reopen).await.unwrap();
    let store = approvals::survive(store, &reopen).await.unwrap();
    let from = records[0].state;
    records[0].served_for_ms += 1;
    store.apply(&[], &[RecordUpdate { from, record: records[0].clone(), chain: None }]).await.unwrap();
    let store = reopen(store).await;
    assert_eq!(store.records().await.unwrap().records, records, "updates must survive");
}

/// Asks until it is so. A store's clock and a lock that falls tell nobody.
pub async fn eventually(mut is_so: impl AsyncFnMut() -> bool, promise: &str) {
    let limit = Instant::now() + PATIENCE;
    while !is_so().await {
        assert!(Instant::now() < limit, "{promise}");
    }
}

const PATIENCE: Duration = Duration::from_secs(20);
