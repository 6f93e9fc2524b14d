//! Changes that wait for a second operator.

use std::time::Duration;

use futures_util::future::join_all;
use hallmark_core::ports::{
    ApprovalStore, BegunChange, ChangeState, Decided, Decision, KeyChange, KeyStore, Proposal, Proposed, StoreError,
};

use super::{eventually, samples::change};

pub(super) async fn a_proposal_waits_and_is_found_again(store: &(impl KeyStore + ApprovalStore)) {
    let waiting = waiting("1", "request");
    assert_eq!(store.propose(&waiting, &proposal(DAY)).await.unwrap(), BegunChange::New);
    let found = store.proposed("1").await.unwrap().expect("what was proposed must be there");
    let Proposal { payload, plan, credential, .. } = proposal(DAY);
    assert_eq!(
        (&found.change, &found.payload, &found.plan, &found.credential),
        (&waiting, &payload, &plan, &credential),
        "it must come back as it was proposed"
    );
    assert!(found.expires > waiting.created && found.decision.is_none());
    assert_eq!(store.all_proposed(10).await.unwrap(), [found]);
    assert_eq!(store.proposed("no such").await.unwrap(), None);
    assert_eq!(store.decide("no such", &yes("b")).await.unwrap(), Decided::Unknown);

    // The same request starts nothing, whichever way it comes.
    let again = self::waiting("2", "request");
    assert_eq!(store.propose(&again, &proposal(DAY)).await.unwrap(), BegunChange::Existing(waiting.clone()));
    let unguarded = KeyChange { state: ChangeState::Running, ..again };
    assert_eq!(store.begin_change(&unguarded).await.unwrap(), BegunChange::Existing(waiting));
    assert_eq!(store.proposed("1").await.unwrap().unwrap().change.state, ChangeState::AwaitingApproval);

    let newer = KeyChange { created: change("x", "x").created.plus(DAY), ..self::waiting("3", "other") };
    store.propose(&newer, &proposal(DAY)).await.unwrap();
    let ids: Vec<_> = store.all_proposed(1).await.unwrap().into_iter().map(|proposed| proposed.change.id).collect();
    assert_eq!(ids, ["3"], "the newest first, and no more than asked for");
}

pub(super) async fn of_several_who_decide_one_carries_it_out(store: &(impl KeyStore + ApprovalStore)) {
    store.propose(&waiting("1", "request"), &proposal(DAY)).await.unwrap();
    let decisions: Vec<_> = (0..8).map(|n| Decision { approved: n % 2 == 0, ..yes(&format!("op-{n}")) }).collect();
    let decided = join_all(decisions.iter().map(|decision| store.decide("1", decision))).await;
    let decided: Vec<_> = decided.into_iter().map(Result::unwrap).collect();
    let taken: Vec<_> = (0..8).filter(|n| matches!(decided[*n], Decided::Taken(_))).collect();
    let [winner] = taken[..] else { panic!("one decision must hold, and {} did", taken.len()) };
    let state = if winner % 2 == 0 { ChangeState::Running } else { ChangeState::Denied };
    for (n, decided) in decided.iter().enumerate() {
        let (Decided::Taken(seen) | Decided::Before(seen)) = decided else { panic!("it is there") };
        assert_eq!((seen.change.state, seen.decision.as_ref()), (state, Some(&decisions[winner])), "as seen by {n}");
    }
    let once_more = store.decide("1", &decisions[winner]).await.unwrap();
    assert!(matches!(once_more, Decided::Before(_)), "what was decided must not start again: {once_more:?}");
    store.end_change("1", ChangeState::Applied, &[]).await.unwrap();
    let Decided::Before(ended) = store.decide("1", &yes("op-0")).await.unwrap() else { panic!("it has ended") };
    assert_eq!(ended.change.state, ChangeState::Applied);
}

pub(super) async fn an_approved_change_that_failed_is_taken_up_by_who_approved_it(
    store: &(impl KeyStore + ApprovalStore),
) {
    store.propose(&waiting("1", "request"), &proposal(DAY)).await.unwrap();
    assert!(matches!(store.decide("1", &yes("b")).await.unwrap(), Decided::Taken(_)));
    store.end_change("1", ChangeState::Failed, &[]).await.unwrap();
    for other in [yes("c"), Decision { approved: false, ..yes("b") }] {
        let decided = store.decide("1", &other).await.unwrap();
        assert!(matches!(decided, Decided::Before(_)), "nobody else decides once more: {decided:?}");
    }
    let Decided::Taken(again) = store.decide("1", &yes("b")).await.unwrap() else { panic!("the same may again") };
    assert_eq!(again.change.state, ChangeState::Running);
}

pub(super) async fn nobody_approves_what_has_expired(store: &(impl KeyStore + ApprovalStore)) {
    store.propose(&waiting("1", "request"), &proposal(Duration::from_millis(1))).await.unwrap();
    let state = async || store.proposed("1").await.unwrap().unwrap().change.state;
    eventually(async || state().await == ChangeState::Expired, "a proposal must end").await;
    let decided = store.decide("1", &yes("b")).await.unwrap();
    let Decided::Before(Proposed { change, decision: None, .. }) = decided else { panic!("it is over: {decided:?}") };
    assert_eq!(change.state, ChangeState::Expired);
}

pub(super) async fn what_has_expired_is_ended_once(store: &(impl KeyStore + ApprovalStore)) {
    for (id, patience) in [("over", Duration::from_millis(1)), ("waits", DAY), ("denied", DAY)] {
        store.propose(&waiting(id, &format!("request-{id}")), &proposal(patience)).await.unwrap();
    }
    store.decide("denied", &Decision { approved: false, ..yes("b") }).await.unwrap();
    let undecided = async || -> Vec<_> {
        let all = store.undecided().await.unwrap().into_iter();
        all.map(|proposed| (proposed.change.id, proposed.change.state)).collect()
    };
    let both = [("over", ChangeState::Expired), ("waits", ChangeState::AwaitingApproval)];
    let both = both.map(|(id, state)| (id.to_owned(), state));
    eventually(async || undecided().await == both, "one is over, and nobody has ended it").await;
    let ended = join_all((0..4).map(|_| store.expire("over"))).await;
    assert_eq!(ended.into_iter().filter(|ended| *ended.as_ref().unwrap()).count(), 1, "one ends it");
    assert_eq!(undecided().await, both[1..], "and it is over for good");
    assert_eq!(store.proposed("over").await.unwrap().unwrap().change.state, ChangeState::Expired);
    for other in ["waits", "denied", "no such"] {
        assert!(!store.expire(other).await.unwrap(), "{other} is not over");
    }
    assert_eq!(store.proposed("denied").await.unwrap().unwrap().change.state, ChangeState::Denied);
}

pub(super) async fn survive<S: KeyStore + ApprovalStore>(
    store: S,
    reopen: impl AsyncFn(S) -> S,
) -> Result<S, StoreError> {
    store.propose(&waiting("waits", "request-waits"), &proposal(DAY)).await?;
    store.propose(&waiting("runs", "request-runs"), &proposal(DAY)).await?;
    store.decide("runs", &yes("b")).await?;
    let waits = store.proposed("waits").await?;
    let store = reopen(store).await;
    assert_eq!(store.proposed("waits").await?, waits, "what waits must survive");
    let taken = store.decide("runs", &yes("b")).await?;
    assert!(matches!(taken, Decided::Taken(_)), "who approved it carries it out after a restart: {taken:?}");
    Ok(store)
}

fn waiting(id: &str, request_id: &str) -> KeyChange {
    KeyChange { state: ChangeState::AwaitingApproval, ..change(id, request_id) }
}

fn proposal(patience: Duration) -> Proposal {
    let plan = vec!["key `k'1` is destroyed".to_owned(), "\"ü\"".to_owned()];
    Proposal { payload: "{\"a\": [1]}".into(), plan, credential: "00ff".into(), patience }
}

fn yes(by: &str) -> Decision {
    Decision { approved: true, by: by.to_owned(), reason: "it's right".into() }
}

const DAY: Duration = Duration::from_hours(24);
