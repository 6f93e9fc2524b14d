use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hallmark_client::{ChangeState, HsmLook, KeyList, KeyState, Stray, UpcomingStep};

use super::{consequences, render::*, *};
use crate::cli::fixture::sample_key;

const NOW: u64 = 1_800_000_000;

fn at(secs: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(secs)
}

fn key(client: Option<&str>, alg: &str, state: KeyState, kid: Option<&str>) -> Key {
    Key {
        id: format!("id-{}", kid.unwrap_or("0")),
        client: client.map(str::to_owned),
        alg: alg.to_owned(),
        kid: kid.map(str::to_owned),
        purpose: client.map_or("custody", |_| "assertion").to_owned(),
        ..sample_key("", state)
    }
}

fn step(what: &str, blocked: Option<&str>) -> UpcomingStep {
    let text = str::to_owned;
    UpcomingStep {
        at: at(NOW + 12 * 86_400),
        client: text("clinic"),
        alg: text("RS384"),
        hsm: text("softhsm"),
        key_id: Some(text("id-1")),
        kid: Some(text("short")),
        what: text(what),
        reason: text("rotate = 90d is over"),
        blocked: blocked.map(text),
    }
}

fn keys() -> Vec<Key> {
    let thumbprint = Some("NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs");
    let active = key(Some("clinic"), "RS384", KeyState::Active, thumbprint);
    let blocked = Some("an operator confirms the registration");
    let standby = key(Some("a-much-longer-name"), "EdDSA", KeyState::PreActive, None);
    vec![
        Key { next_step: Some(step("deactivate", None)), ..active },
        Key { next_step: Some(step("activate", blocked)), absent: true, ..standby },
        key(None, "ES256", KeyState::Active, Some("short")),
    ]
}

fn list() -> KeyList {
    let stray = |label: &str, kid: Option<&str>| Stray {
        hsm: "softhsm".to_owned(),
        cka_id: vec![1, 171],
        label: label.to_owned(),
        kid: kid.map(str::to_owned),
    };
    let strays = vec![stray("made by hand", Some("b3Jkksdf")), stray("\u{1b}[2J", None)];
    let look = |hsm: &str, ago| HsmLook { hsm: hsm.to_owned(), at: at(NOW - ago) };
    let looks = vec![look("softhsm", 240), look("network", 7200)];
    let unanswered_hsms = vec!["network".to_owned(), "yubi".to_owned()];
    KeyList { keys: keys(), strays, unanswered_hsms, looks }
}

fn whole(output: &Output) -> String {
    format!("{}--- stderr\n{}", output.stdout, output.stderr)
}

#[test]
fn a_list_for_people() {
    insta::assert_snapshot!(whole(&list_as_text(&list(), at(NOW))));
    insta::assert_snapshot!(whole(&list_as_text(&KeyList::default(), at(NOW))));
    let only_strays = KeyList { keys: vec![], unanswered_hsms: vec![], ..list() };
    insta::assert_snapshot!(whole(&list_as_text(&only_strays, at(NOW))));
}

#[test]
fn a_list_for_programs() {
    let list = KeyList { keys: keys()[..1].to_vec(), ..list() };
    insta::assert_snapshot!(serde_json::to_string_pretty(&list_as_json(&list)).expect("JSON"));
}

#[test]
fn one_key_for_people() {
    let key = Key { activated_at: Some(at(NOW + 60)), ..keys().remove(0) };
    insta::assert_snapshot!(whole(&key_as_text(&key, at(NOW + 3 * 86_400))));
}

#[test]
fn a_change_says_how_it_stands() {
    let change = |state, keys: &[Key]| KeyChange {
        id: "change-1".to_owned(),
        state,
        keys: keys.to_vec(),
        in_force_everywhere_at: None,
        advice: vec![],
        approval: None,
    };
    let text = |change: &KeyChange| whole(&change_as_text(change, "made the first keys of `clinic`", at(NOW)));
    let texts = [
        text(&change(ChangeState::Applied, &keys()[..1])),
        text(&change(ChangeState::AwaitingApproval, &[])),
        text(&change(ChangeState::Running, &[])),
    ];
    insta::assert_snapshot!(texts.concat());
}

fn revoked() -> KeyChange {
    KeyChange {
        id: "change-1".to_owned(),
        state: ChangeState::Applied,
        keys: vec![key(Some("clinic"), "RS384", KeyState::Compromised, Some("k1"))],
        in_force_everywhere_at: Some(at(NOW + 390)),
        advice: vec![
            "Disable the client at the authorization server: some go on accepting a removed key.".to_owned(),
            "Search its log for assertions with kid `k1`.".to_owned(),
        ],
        approval: None,
    }
}

#[test]
fn a_revocation_says_from_when_on_it_counts_and_what_else_to_do() {
    insta::assert_snapshot!(whole(&change_as_text(&revoked(), "revoked `k1`", at(NOW))));
    insta::assert_snapshot!(change_as_json(&revoked()).to_string());
}

#[test]
fn what_verifiers_will_see_is_said_before() {
    let active = key(Some("clinic"), "RS384", KeyState::Active, Some("k1"));
    let standby = key(Some("clinic"), "RS384", KeyState::PreActive, Some("k2"));
    let others = [
        Key { published_at: None, ..key(Some("clinic"), "RS384", KeyState::PreActive, Some("reserved")) },
        key(Some("clinic"), "ES384", KeyState::PreActive, Some("other-line")),
    ];
    let all: Vec<_> = [active.clone()].into_iter().chain(others.clone()).chain([standby.clone()]).collect();
    let retired = Key { state: KeyState::Retired, ..active.clone() };
    let deactivated = Key { state: KeyState::Deactivated, ..active.clone() };
    let texts = [
        consequences::of(KeyAction::Revoke, &active, &all, false),
        consequences::of(KeyAction::Revoke, &active, &others, false),
        consequences::of(KeyAction::Revoke, &standby, &all, false),
        consequences::of(KeyAction::Deactivate, &active, &all, true),
        consequences::of(KeyAction::Activate, &standby, &all, true),
        consequences::of(KeyAction::Retire, &deactivated, &all, false),
        consequences::of(KeyAction::Retire, &deactivated, &all, true),
        consequences::of(KeyAction::Destroy, &retired, &all, true),
        consequences::of(KeyAction::Destroy, &active, &all, false),
        consequences::of_forced_rotation("clinic", None, &all),
    ];
    insta::assert_snapshot!(texts.join("\n"));
}

#[test]
fn a_command_is_repeated_as_it_was_typed() {
    let order = OrderArgs { reason: "laptop stolen".to_owned(), request_id: Some("r 1".to_owned()) };
    assert_eq!(
        typed("deactivate k1", &order, true),
        "hallmark keys deactivate k1 --reason 'laptop stolen' --request-id 'r 1' --force"
    );
    let made = made(order, true);
    assert_eq!((made.request_id.as_str(), made.force), ("r 1", true));
    let fresh = || super::made(OrderArgs { reason: "why".to_owned(), request_id: None }, false);
    assert_ne!(fresh().request_id, fresh().request_id, "each command is a request of its own");
}

/// Nothing is sent, and nobody is asked for a connection, before someone agreed: tests have no terminal.
#[tokio::test]
async fn what_can_not_be_taken_back_is_refused_without_a_word() {
    let order = || OrderArgs { reason: "test".to_owned(), request_id: None };
    let alter_args = |force, yes| AlterArgs {
        kid: "k1".to_owned(),
        order: order(),
        how: super::super::args::ForceArgs { force, yes },
    };
    let no_server = || Err(Failure::new("connected"));
    for action in [KeyAction::Deactivate, KeyAction::Retire, KeyAction::Destroy] {
        let refused = alter(action, alter_args(false, false), no_server, false).await.unwrap_err();
        assert!(
            refused
                .render(false)
                .contains(&format!("hallmark keys {} k1 --reason test --yes", consequences::word(action)))
        );
        let agreed = alter(action, alter_args(false, true), no_server, false).await.unwrap_err();
        assert_eq!(agreed, Failure::new("connected"));
    }
    let harmless = alter(KeyAction::Activate, alter_args(false, false), no_server, false).await.unwrap_err();
    assert_eq!(harmless, Failure::new("connected"));
    let forced = alter(KeyAction::Activate, alter_args(true, false), no_server, false).await.unwrap_err();
    assert!(forced.render(false).contains("--force --yes"), "{}", forced.render(false));
    let revoke_args = RevokeArgs { kid: "k1".to_owned(), order: order(), yes: false };
    let revoked = revoke(revoke_args, no_server, false).await.unwrap_err();
    assert!(revoked.render(false).contains("hallmark keys revoke k1 --reason test --yes"));
}
