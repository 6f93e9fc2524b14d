//! Policies and records for tests, and hands that do what a sweep says.

use std::time::Duration;

use uuid::Uuid;

use crate::{
    client::Provision,
    key::{Alg, KeyId, KeyLine, KeyRecord, KeySpec, KeyState, PublicPart},
    lifecycle::{Change, KeyPolicy, LinePolicy, Now, Step, apply, sweep},
    profile::Binding,
    public_key::PublicKey,
    time::Timestamp,
};

pub(super) const HOUR: Duration = Duration::from_secs(3600);
pub(super) const DAY: Duration = Duration::from_secs(86_400);
pub(super) const START: Timestamp = Timestamp::from_secs(1_800_000_000);

/// Of the tests' policies.
pub(super) const LEAD: Duration = Duration::from_secs(390);
pub(super) const KEEP: Duration = DAY;
pub(super) const ROTATE: Duration = Duration::from_secs(90 * 86_400);

pub(super) fn line(alg: Alg, hsm: &str) -> KeyLine {
    KeyLine { client: "c".parse().unwrap(), alg, hsm: hsm.parse().unwrap() }
}

pub(super) fn rsa() -> KeyLine {
    line(Alg::RS384, "h")
}

pub(super) fn policy(lines: &[KeyLine]) -> KeyPolicy {
    let terms = |line: &KeyLine| LinePolicy {
        line: line.clone(),
        spec: KeySpec { alg: line.alg, rsa_bits: 2048 },
        rotate: Some(ROTATE),
    };
    KeyPolicy {
        client: "c".parse().unwrap(),
        lines: lines.iter().map(terms).collect(),
        lead: LEAD,
        keep: KEEP,
        destroy_after: None,
        store_lease: Duration::from_secs(60),
        binding: Binding::Jwks,
        certificate: false,
        provision: Provision::Auto,
        first_rsa_key: false,
        static_host: false,
        rehearse: false,
        digest: String::new(),
    }
}

pub(super) fn id(n: u8) -> KeyId {
    KeyId(Uuid::from_u128(n.into()))
}

pub(super) fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap()
}

/// A record without a key.
pub(super) fn reserved(n: u8, line: &KeyLine) -> KeyRecord {
    KeyRecord { cka_id: vec![n], label: format!("label-{n}"), ..KeyRecord::of_line(id(n), line, START) }
}

/// A record with a key that nobody knows of.
pub(super) fn generated(n: u8, line: &KeyLine) -> KeyRecord {
    let key = PublicKey::from_ed25519(&[n; 32]).unwrap();
    KeyRecord { public: Some(PublicPart { kid: format!("k{n}").parse().unwrap(), key }), ..reserved(n, line) }
}

/// A key that was published at [`START`] and has come to `state` then, its lead gate behind it.
pub(super) fn key(n: u8, line: &KeyLine, state: KeyState) -> KeyRecord {
    let mut record = KeyRecord { state, served_for_ms: ms(LEAD), ..generated(n, line) };
    let times = &mut record.times;
    times.published = Some(START);
    let reached = |reached: bool| reached.then_some(START);
    times.activated = reached(!matches!(state, KeyState::PreActive));
    times.deactivated = reached(matches!(state, KeyState::Deactivated | KeyState::Retired));
    times.retired = reached(state == KeyState::Retired);
    times.compromised = reached(state == KeyState::Compromised);
    record
}

/// An active key and its standby.
pub(super) fn pair(line: &KeyLine) -> Vec<KeyRecord> {
    vec![key(1, line, KeyState::Active), key(2, line, KeyState::PreActive)]
}

pub(super) fn at(after: Duration) -> Now {
    Now::at(START.plus(after))
}

/// The steps alone.
pub(super) fn steps(changes: &[Change]) -> Vec<Step> {
    changes.iter().map(|change| change.step.clone()).collect()
}

pub(super) fn to(n: u8, to: KeyState) -> Step {
    Step::Move { key: id(n), to }
}

pub(super) fn swept(policy: &KeyPolicy, records: &[KeyRecord], now: &Now) -> Vec<Step> {
    let changes = sweep(policy, records, now);
    assert!(changes.iter().all(|change| !change.reason.is_empty()), "a change without its reason: {changes:?}");
    steps(&changes)
}

/// Makes all moves of `changes`, as one transaction does.
pub(super) fn moved(records: &[KeyRecord], changes: &[Change], wall: Timestamp) -> Vec<KeyRecord> {
    let mut records = records.to_vec();
    for change in changes {
        let Step::Move { key, .. } = &change.step else { continue };
        let record = records.iter_mut().find(|record| record.id == *key).unwrap();
        *record = apply(record, change, wall).unwrap();
    }
    records
}
