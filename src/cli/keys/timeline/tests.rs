use std::time::UNIX_EPOCH;

use hallmark_client::UpcomingStep;

use super::*;
use crate::cli::fixture::sample_key;

const DAY: u64 = 86_400;

/// Days after 1 July 2026.
fn day(day: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_782_864_000 + day * DAY)
}

fn key(kid: &str, state: KeyState, created: SystemTime) -> Key {
    Key {
        id: kid.to_owned(),
        created_at: Some(created),
        published_at: Some(created),
        ..sample_key(&format!("{kid}-and-more-of-it"), state)
    }
}

fn step(what: &str, at: SystemTime) -> Option<UpcomingStep> {
    let text = str::to_owned;
    Some(UpcomingStep {
        at,
        client: text("clinic"),
        alg: text("RS384"),
        hsm: text("softhsm"),
        key_id: None,
        kid: None,
        what: text(what),
        reason: text("why"),
        blocked: None,
    })
}

/// A year with a key every ninety days.
fn year() -> Vec<Key> {
    let lived = |kid: &str, state, created, active: u64, deactivated: Option<u64>, retired: Option<u64>| Key {
        activated_at: Some(day(active)),
        deactivated_at: deactivated.map(day),
        retired_at: retired.map(day),
        ..key(kid, state, day(created))
    };
    vec![
        Key { destroyed_at: Some(day(135)), ..lived("aaaaaaaa", KeyState::Destroyed, 0, 0, Some(90), Some(100)) },
        lived("bbbbbbbb", KeyState::Retired, 0, 90, Some(180), Some(190)),
        Key {
            next_step: step("retire", day(300)),
            ..lived("cccccccc", KeyState::Deactivated, 90, 180, Some(270), None)
        },
        Key { next_step: step("deactivate", day(360)), ..lived("dddddddd", KeyState::Active, 180, 270, None, None) },
        Key { next_step: step("activate", day(360)), ..key("eeeeeeee", KeyState::PreActive, day(270)) },
        Key { compromised_at: Some(day(45)), ..key("ffffffff", KeyState::Compromised, day(20)) },
    ]
}

#[test]
fn a_year_of_rotations() {
    insta::assert_snapshot!(draw(&year(), day(280), 120));
}

#[test]
fn a_narrow_terminal_has_the_same_picture() {
    insta::assert_snapshot!(draw(&year(), day(280), 20));
}

#[test]
fn first_keys_of_this_minute() {
    let now = day(0) + Duration::from_secs(60);
    let mut active = key("aaaaaaaa", KeyState::Active, day(0));
    active.activated_at = active.created_at;
    let reserved =
        Key { kid: None, published_at: None, hsm: "other".to_owned(), ..key("b", KeyState::PreActive, day(0)) };
    let custody = Key { client: None, purpose: "custody".to_owned(), ..active.clone() };
    insta::assert_snapshot!(draw(&[active, reserved, custody], now, 100));
}

#[test]
fn a_rotation_that_was_taken_back() {
    let back =
        Key { activated_at: Some(day(40)), deactivated_at: Some(day(30)), ..key("aaaaaaaa", KeyState::Active, day(0)) };
    // It was active from day 30 to day 40; what waits for someone is not drawn as if it came.
    let blocked = step("activate", day(50)).map(|step| UpcomingStep { blocked: Some("someone".to_owned()), ..step });
    let failed =
        Key { activated_at: Some(day(30)), next_step: blocked, ..key("bbbbbbbb", KeyState::PreActive, day(10)) };
    insta::assert_snapshot!(draw(&[back, failed], day(42), 80));
}

#[test]
fn a_clock_that_is_behind_draws_all_the_same() {
    let drawn = draw(&[key("aaaaaaaa", KeyState::PreActive, day(10))], day(0), 80);
    assert!(drawn.lines().nth(1).is_some_and(|row| row.contains('|') && row.ends_with('-')), "{drawn}");
}

#[test]
fn rows_are_as_wide_as_the_terminal() {
    for width in [70, 80, 132, 300] {
        let drawn = draw(&year(), day(280), width);
        let rows: Vec<_> = drawn.lines().skip(1).take(year().len()).map(|row| row.chars().count()).collect();
        assert!(rows.iter().all(|row| *row == width), "{width}: {rows:?}");
    }
}

#[test]
fn without_keys_there_is_nothing_to_draw() {
    let output = output(&[], day(0), false);
    assert!(output.stdout.is_empty() && output.stderr.contains("hallmark keys create"), "{}", output.stderr);
    assert_eq!(super::output(&[], day(0), true).stdout, "{\"keys\":[],\"now\":\"2026-07-01T00:00:00Z\"}\n");
}
