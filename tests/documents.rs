//! What the pages for security people say is held against the program.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use hallmark_core::{
    audit::{Chain, EncodedEvent, Event, KeyEvent, Outcome, Signing},
    time::Timestamp,
};
use serde_json::Value;

fn page(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap()
}

fn root() -> PathBuf {
    env!("CARGO_MANIFEST_DIR").into()
}

/// Each `file.rs::test` in backticks.
fn named_tests(text: &str) -> BTreeSet<(&str, &str)> {
    text.split('`')
        .skip(1)
        .step_by(2)
        .filter_map(|code| code.split_once("::"))
        .filter(|(file, _)| file.ends_with(".rs"))
        .collect()
}

fn is_a_test(file: &Path, name: &str) -> bool {
    let text = fs::read_to_string(file).unwrap_or_default();
    let lines: Vec<_> = text.lines().map(str::trim).collect();
    let function = format!("fn {name}(");
    let Some(at) = lines.iter().position(|line| line.contains(&function)) else { return false };
    // Attributes stand above it; a macro may give the name.
    lines[..at].iter().rev().take(4).any(|line| line.contains("test"))
}

#[test]
fn every_test_that_is_named_exists() {
    let text = page("docs/THREAT-MODEL.md");
    let named = named_tests(&text);
    assert!(named.len() > 40, "{named:?}");
    let missing: Vec<_> = named.iter().filter(|(file, name)| !is_a_test(&root().join(file), name)).collect();
    assert!(missing.is_empty(), "docs/THREAT-MODEL.md names tests that are not there: {missing:?}");
}

/// In a table of what somebody cannot, each line says what shows it.
#[test]
fn nothing_is_ruled_out_without_a_test() {
    let text = page("docs/THREAT-MODEL.md");
    let (mut claims, mut bare, mut within) = (0, Vec::new(), false);
    for line in text.lines() {
        let is_row = line.starts_with('|');
        let begins = is_row && line.contains("cannot | shown by |");
        if within && is_row && !line.starts_with("|---") {
            claims += 1;
            bare.extend(named_tests(line).is_empty().then_some(line));
        }
        within = begins || (within && is_row);
    }
    assert!(claims > 30, "{claims} claims are read");
    assert!(bare.is_empty(), "claims without a test:\n{}", bare.join("\n"));
}

const SIGNING: Signing<'_> =
    Signing { request: "r", who: "w", client: "c", kid: "k", alg: "a", kind: "assertion", audience: "a" };
const KEY: KeyEvent<'_> = KeyEvent { change: "c", who: "w", action: "a", subject: "s", reason: "r" };

/// One record of each kind, with all that it may hold. Another kind does not compile until it is added.
fn next(event: Option<&Event<'_>>) -> Option<Event<'static>> {
    let some = "x";
    match event {
        None => Some(Event::Start { version: some }),
        Some(Event::Start { .. }) => Some(Event::SignIntent(SIGNING)),
        Some(Event::SignIntent(_)) => Some(Event::SignOutcome {
            request: some,
            outcome: Outcome::Done,
            reason: Some(some),
            jti: Some(some),
            iat: Some(1),
            exp: Some(1),
        }),
        Some(Event::SignOutcome { .. }) => Some(Event::KeyIntent(KEY)),
        Some(Event::KeyIntent(_)) => Some(Event::KeyOutcome { key: KEY, outcome: Outcome::Failed }),
        Some(Event::KeyOutcome { .. }) => Some(Event::Refused { request: some, who: some, client: some, reason: some }),
        Some(Event::Refused { .. }) => Some(Event::RefusedMore { count: 1 }),
        Some(Event::RefusedMore { .. }) => Some(Event::TornTail { file: some, bytes: 1 }),
        Some(Event::TornTail { .. }) => Some(Event::FileAbandoned { file: some, after: 1, cause: some }),
        Some(Event::FileAbandoned { .. }) => Some(Event::Rotated { file: some, after: 1 }),
        Some(Event::Rotated { .. }) => Some(Event::Checkpoint { hsm: some, why: some, overdue: Some(1), jws: some }),
        Some(Event::Checkpoint { .. }) => None,
    }
}

#[test]
fn the_fields_of_the_audit_log_are_those_that_auditors_are_told() {
    let (mut chain, mut fields, mut kinds) = (Chain::new("a"), BTreeMap::<String, BTreeSet<String>>::new(), 0);
    let mut event = next(None);
    while let Some(of) = event {
        let mut line = Vec::new();
        chain.link(&EncodedEvent::new(Timestamp::from_millis(1), &of), &mut line);
        let record: BTreeMap<String, Value> = serde_json::from_slice(&line).unwrap();
        let kind = record["event"].as_str().unwrap().to_owned();
        record.into_keys().for_each(|field| _ = fields.entry(field).or_default().insert(kind.clone()));
        kinds += 1;
        event = next(Some(&of));
    }
    let text = page("docs/CUSTODY.md");
    let table = text.split_once("| field | in records |").unwrap().1;
    let mut told = BTreeMap::new();
    for row in table.lines().skip(2).take_while(|line| line.starts_with('|')) {
        let codes = |cell: &str| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect::<BTreeSet<_>>();
        let cells: Vec<_> = row.split('|').collect();
        told.insert(codes(cells[1]).pop_first().unwrap(), codes(cells[2]));
    }
    for kinds_of in fields.values_mut().filter(|kinds_of| kinds_of.len() == kinds) {
        // The page says "all".
        kinds_of.clear();
    }
    assert_eq!(told, fields, "the table of docs/CUSTODY.md, by the fields that there are");
    let claims = text.split_once("| claim |").unwrap().1.split("\n\n").next().unwrap();
    for row in claims.lines().skip(2) {
        let fields_of = row.split('|').nth(5).unwrap();
        let known = |code: &str| told.contains_key(code) || KINDS_AND_ACTS.contains(&code);
        let strange: Vec<_> = fields_of.split('`').skip(1).step_by(2).filter(|code| !known(code)).collect();
        assert!(strange.is_empty(), "not in a record: {strange:?}");
    }
}

/// Values that the claims name beside fields.
const KINDS_AND_ACTS: [&str; 9] =
    ["possession", "evidence", "adopt", "revoke", "destroy", "propose", "approve", "deny", "expire"];
