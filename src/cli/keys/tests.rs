use std::time::{Duration, UNIX_EPOCH};

use hallmark_client::KeyState;

use super::*;

fn key(client: Option<&str>, alg: &str, state: KeyState, kid: Option<&str>) -> Key {
    let created_at = Some(UNIX_EPOCH + Duration::from_secs(1_800_000_000));
    Key {
        id: "id-1".to_owned(),
        client: client.map(str::to_owned),
        alg: alg.to_owned(),
        hsm: "softhsm".to_owned(),
        kid: kid.map(str::to_owned),
        state,
        purpose: client.map_or("custody", |_| "assertion").to_owned(),
        origin: "generated".to_owned(),
        cka_id: vec![0, 255],
        label: "label".to_owned(),
        spki: vec![48, 0],
        created_at,
        published_at: created_at,
        activated_at: None,
        deactivated_at: None,
        retired_at: None,
        compromised_at: None,
        destroyed_at: None,
    }
}

fn keys() -> [Key; 3] {
    let thumbprint = Some("NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs");
    [
        key(Some("clinic"), "RS384", KeyState::Active, thumbprint),
        key(Some("a-much-longer-name"), "EdDSA", KeyState::PreActive, None),
        key(None, "ES256", KeyState::Active, Some("short")),
    ]
}

fn whole(output: &Output) -> String {
    format!("{}--- stderr\n{}", output.stdout, output.stderr)
}

#[test]
fn a_list_for_people() {
    insta::assert_snapshot!(whole(&list_as_text(&keys())));
    insta::assert_snapshot!(whole(&list_as_text(&[])));
}

#[test]
fn a_list_for_programs() {
    insta::assert_snapshot!(serde_json::to_string_pretty(&all_as_json(&keys()[..1])).expect("JSON"));
}

#[test]
fn a_change_says_how_it_stands() {
    let change = |state, keys: &[Key]| KeyChange { id: "change-1".to_owned(), state, keys: keys.to_vec() };
    let texts = [
        change_as_text(&change(ChangeState::Applied, &keys()[..1]), "clinic"),
        change_as_text(&change(ChangeState::AwaitingApproval, &[]), "clinic"),
        change_as_text(&change(ChangeState::Running, &[]), "clinic"),
    ];
    insta::assert_snapshot!(texts.iter().map(whole).collect::<String>());
}
