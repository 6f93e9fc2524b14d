//! Operators' changes.

use futures_util::future::join_all;
use hallmark_core::ports::{BegunChange, ChangeState, KeyChange, KeyStore, StoreError};

use super::samples::{change, record};

pub(super) async fn a_request_starts_once(store: &impl KeyStore) {
    let changes: Vec<_> = (0..16).map(|n| change(&format!("change-{n}"), "request")).collect();
    let begun = join_all(changes.iter().map(|change| store.begin_change(change))).await;
    let begun: Vec<_> = begun.into_iter().map(Result::unwrap).collect();
    let new: Vec<_> = (0..16).filter(|n| begun[*n] == BegunChange::New).collect();
    assert_eq!(new.len(), 1, "a request_id must start one change, however often it comes");
    let first = &changes[new[0]];
    for other in begun.iter().filter(|begun| **begun != BegunChange::New) {
        assert_eq!(*other, BegunChange::Existing(first.clone()), "the others must get the one that was started");
    }

    let made = [record(1), record(2)];
    store.apply(&made, &[]).await.unwrap();
    let keys = vec![made[1].id, made[0].id];
    store.end_change(&first.id, ChangeState::Applied, &keys).await.unwrap();
    let ended = KeyChange { state: ChangeState::Applied, keys, ..first.clone() };
    assert_eq!(existing(store, first).await, ended, "an ended change must show how it ended, and its keys in order");
    assert_eq!(existing(store, first).await.state, ChangeState::Applied, "an applied change must not start again");
}

pub(super) async fn a_failed_change_may_be_tried_again(store: &impl KeyStore) {
    let first = change("1", "request");
    assert_eq!(store.begin_change(&first).await.unwrap(), BegunChange::New);
    store.end_change("1", ChangeState::Failed, &[]).await.unwrap();

    let again = change("2", "request");
    let found = existing(store, &again).await;
    assert_eq!(
        (found.id.as_str(), found.state),
        ("1", ChangeState::Failed),
        "it comes back under its first id, failed"
    );
    let meanwhile = existing(store, &again).await;
    assert_eq!(meanwhile.state, ChangeState::Running, "who took it up is running it; a second caller must not");
}

pub(super) async fn another_request_starts_nothing(store: &impl KeyStore) {
    store.begin_change(&change("1", "request")).await.unwrap();
    store.end_change("1", ChangeState::Failed, &[]).await.unwrap();
    let other = KeyChange { request: "create d".into(), ..change("2", "request") };
    assert_eq!(existing(store, &other).await.request, "create c", "the stored request must be told apart from the new");
    let right = existing(store, &change("3", "request")).await;
    assert_eq!(right.state, ChangeState::Failed, "a wrong request must not have set it running");
}

pub(super) async fn an_unknown_change_cannot_end(store: &impl KeyStore) {
    let ended = store.end_change("nobody", ChangeState::Applied, &[]).await;
    assert!(matches!(ended, Err(StoreError::Conflict(_))), "must be a conflict, but was {ended:?}");
}

pub(super) async fn existing(store: &impl KeyStore, change: &KeyChange) -> KeyChange {
    match store.begin_change(change).await.unwrap() {
        BegunChange::Existing(existing) => existing,
        BegunChange::New => panic!("request_id `{}` was forgotten", change.request_id),
    }
}
