//! Which state of a key follows which, when, and why.
//!
//! ```text
//!            publish                activate               deactivate             retire           destroy
//! generated ───────▶ pre-active ─────────▶ active ──────────────▶ deactivated ──────▶ retired ──────▶ destroyed
//!                    (published)           (published, signs)     (published)         (not published)
//!                         ▲──── rollback ────┘ ◀──── rollback ────────┘
//!                         └──────────── not wanted any more ──────────▲
//!                         any ──── revoke ────▶ compromised (leaves the JWKS at once, never signs again)
//! ```
//!
//! [`sweep`] looks at one client and says what is to be done now. It is called every few seconds, finds what was cut
//! short from the records alone, and says nothing where nothing is due. Operators' wishes are in [`operator`].

mod draft;
pub mod gates;
mod observe;
pub mod operator;
mod plan;
mod policy;
mod record;
#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use draft::Draft;
use gates::Span;

pub use self::{
    gates::{Gate, SWAP_QUIET, departed},
    observe::{Elapsed, Observation, observe, observe_where},
    plan::{Blocked, Planned, blocked, next_jwks_change, next_step, plan},
    policy::{KeyPolicy, LinePolicy, Settings},
    record::{apply, may_follow},
};
use crate::{
    client::Provision,
    error::{Error, Reason},
    key::{ClientName, HsmName, KeyId, KeyLine, KeyRecord, KeyState},
    time::Timestamp,
};

/// What is to be done, with the reason that log, audit and operators see.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    pub step: Step,
    pub reason: String,
}

/// One step in the life of a key or a line.
///
/// All moves of one result are one transaction. The others are acts, done one by one; the next sweep goes on from what
/// became of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Reserve a record, or take the one `reserved` before, and make its key on the HSM. Where it is the `first` of a
    /// line, only if no object on the HSM names the client already. The next sweep publishes it.
    Generate { line: KeyLine, reserved: Option<KeyId>, first: bool },
    /// To the state that the key is in already: publish it.
    Move { key: KeyId, to: KeyState },
    /// Destroy both objects of the pair, if they are there.
    Destroy { key: KeyId },
    /// Sign nothing for this client until [`SWAP_QUIET`] has passed, then ask again, with [`Now::quiet`] saying so;
    /// go on once the answer is in force.
    Pause { client: ClientName },
}

/// How the world is when the rules are asked; one value serves all clients.
#[derive(Clone, Debug)]
pub struct Now {
    pub wall: Timestamp,
    /// The wall clock [`departed`] from the monotonic one: nothing that waits for a time happens.
    pub held: bool,
    /// HSMs that do not answer, or are not configured.
    pub unreachable: BTreeSet<HsmName>,
    /// HSMs that have not answered for `line_timeout`.
    pub gone: BTreeSet<HsmName>,
    /// Keys whose objects are missing on the HSM, or set aside.
    pub unusable: BTreeSet<KeyId>,
    /// Keys that an operator has confirmed to be registered, where the verifier does not read the JWKS.
    pub registered: BTreeSet<KeyId>,
    /// Keys with a certificate that is valid now.
    pub certified: BTreeSet<KeyId>,
    /// Keys that a rehearsal has seen at the public URL.
    pub rehearsed: BTreeSet<KeyId>,
    /// For how long signing has paused, by client.
    pub quiet: BTreeMap<ClientName, Duration>,
}

impl Now {
    /// All is well at `wall`.
    pub fn at(wall: Timestamp) -> Self {
        Self {
            wall,
            held: false,
            unreachable: BTreeSet::new(),
            gone: BTreeSet::new(),
            unusable: BTreeSet::new(),
            registered: BTreeSet::new(),
            certified: BTreeSet::new(),
            rehearsed: BTreeSet::new(),
            quiet: BTreeMap::new(),
        }
    }
}

/// What a key line needs before it can sign for the first time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Bootstrap {
    /// Nothing is there: reserve two records, then generate both keys.
    Start,
    /// An earlier attempt was cut short: generate what these reserved records lack. One may be missing.
    Resume(Vec<KeyId>),
}

/// Whether an operator may have the first keys of `line` made, given all records of its client.
///
/// Refused where the line has a key in any state: a second first key would be one that no verifier knows.
pub fn bootstrap(line: &KeyLine, records: &[KeyRecord]) -> Result<Bootstrap, Error> {
    let of_line = |record: &&KeyRecord| record.line().as_ref() == Some(line);
    if let Some(lived) = records.iter().filter(of_line).find(|record| draft::has_lived(record)) {
        let kid = lived.public.as_ref().map_or("?", |public| public.kid.as_str());
        let text = format!("key line `{line}` has a key already: `{kid}` is {}; rotate it instead", lived.state);
        return Err(Error::new(Reason::AlreadyExists, text));
    }
    let reserved: Vec<_> = records.iter().filter(of_line).map(|record| record.id).collect();
    Ok(if reserved.is_empty() { Bootstrap::Start } else { Bootstrap::Resume(reserved) })
}

/// Publishes the first keys of lines, and their standbys, all in one transaction. `records` are those of the client.
///
/// While its URL answers 404, no verifier can have read a set of this client: all first keys sign at once. A line that
/// comes later waits, as every key does, and a sweep makes it sign.
pub fn establish(records: &[KeyRecord], first: &[KeyId], standbys: &[KeyId]) -> Vec<Change> {
    let began = draft::has_begun(records);
    let moves = |keys: &[KeyId], to, reason: &str| {
        let change = |key: &KeyId| Change { step: Step::Move { key: *key, to }, reason: reason.to_owned() };
        keys.iter().map(change).collect::<Vec<_>>()
    };
    let first = match began {
        false => moves(first, KeyState::Active, "first key of its line; no verifier has seen a set without it"),
        true => moves(first, KeyState::PreActive, "first key of its line; it signs once verifiers know it"),
    };
    let standbys = moves(standbys, KeyState::PreActive, "standby of a new line, published with the first key");
    first.into_iter().chain(standbys).collect()
}

/// What is to be done for one client now. `records` may hold those of others.
///
/// Each record is moved at most once. Asked again right after all moves were made, it answers with acts alone.
pub fn sweep(policy: &KeyPolicy, records: &[KeyRecord], now: &Now) -> Vec<Change> {
    let mut draft = Draft::new(policy, records, now);
    let lines = draft.lines();
    for line in &lines {
        retire(&mut draft, line);
        mend(&mut draft, line);
        match policy.line(line) {
            None => leave(&mut draft, line),
            Some(_) if !draft.has_lived(line) => begin(&mut draft, line),
            Some(terms) => switch(&mut draft, terms),
        }
    }
    for line in &lines {
        if policy.line(line).is_some() && draft.has_lived(line) {
            give_way(&mut draft, line);
            keep_a_standby(&mut draft, line);
        }
        destroy(&mut draft, line);
    }
    draft.changes
}

/// One active key, and it is published. Only a hand in the database can have made it otherwise.
fn mend(draft: &mut Draft<'_>, line: &KeyLine) {
    let mut active = draft.active(line).into_iter();
    if let Some(key) = active.next().filter(|key| !draft.is_published(*key)) {
        draft.to(key, KeyState::PreActive, "it was active without being published");
    }
    for key in active {
        draft.to(key, KeyState::Deactivated, "two keys of one line were active; the one that came last goes on");
    }
}

/// A line that is no longer configured stops signing, stays published until its gates pass, and its standby with it,
/// so that it can come back at once.
fn leave(draft: &mut Draft<'_>, line: &KeyLine) {
    let reason = "its line is no longer configured";
    let active = draft.active(line);
    if !active.is_empty() && draft.must_pause(line) {
        return draft.pause(reason);
    }
    for key in active {
        draft.to(key, KeyState::Deactivated, reason);
    }
    if draft.in_state(line, KeyState::Deactivated).is_empty() {
        for key in draft.in_state(line, KeyState::PreActive) {
            draft.to(key, KeyState::Deactivated, "its line is no longer configured, and has nothing else left");
        }
    }
}

/// The first keys of a line, where the server is to make them. Two are generated, then both published as one.
fn begin(draft: &mut Draft<'_>, line: &KeyLine) {
    if draft.policy.provision != Provision::Auto {
        return;
    }
    let reason = "first keys of its line: `provision` is `auto`";
    if draft.generate_missing(line, 2, true, reason) == 0 {
        let born = draft.standbys(line);
        let to = if draft.began { KeyState::PreActive } else { KeyState::Active };
        draft.to(born[0], to, reason);
        draft.to(born[1], KeyState::PreActive, reason);
    }
}

/// The standby takes over when the active key's time is up, or when there is none, and every gate has passed.
fn switch(draft: &mut Draft<'_>, terms: &LinePolicy) {
    let line = &terms.line;
    let active = draft.active(line).first().copied();
    let (Some(_), Some(next)) = (draft.due(terms), draft.ready(line)) else { return };
    let reason = match active {
        None => "its line had no active key".to_owned(),
        Some(_) => format!("the active key's time was up: `rotate` is {}", Span(terms.rotate.unwrap_or_default())),
    };
    if active.is_some() && draft.must_pause(line) {
        draft.pause(&reason);
        return;
    }
    if let Some(active) = active {
        draft.to(active, KeyState::Deactivated, &reason);
    }
    draft.to(next, KeyState::Active, &reason);
}

/// A line whose HSM is lost leaves signing to its siblings on other HSMs: the record, not the key. Without a sibling
/// it stays, for nothing else could sign.
fn give_way(draft: &mut Draft<'_>, line: &KeyLine) {
    if draft.now.gone.contains(&line.hsm) && draft.has_sibling(line) {
        for key in draft.active(line) {
            let reason = format!("HSM `{}` has been gone for too long; another one signs for this client", line.hsm);
            draft.to(key, KeyState::Deactivated, &reason);
        }
    }
}

/// A line has two keys: the one that signs, and one that every verifier knows already.
///
/// What is too much (after a rollback, or by hand) goes once those that stay are beyond their gate.
fn keep_a_standby(draft: &mut Draft<'_>, line: &KeyLine) {
    let wanted = 2_usize.saturating_sub(draft.active(line).len());
    draft.generate_missing(line, wanted, false, "its line lacks a standby");
    let standbys = draft.standbys(line);
    let (stay, surplus) = standbys.split_at(wanted.min(standbys.len()));
    for key in stay {
        if draft.is_generated(*key) && !draft.is_published(*key) {
            draft.to(*key, KeyState::PreActive, "published as the standby of its line");
        }
    }
    if stay.iter().all(|key| draft.is_beyond_lead(*key)) {
        for key in surplus {
            draft.to(*key, KeyState::Deactivated, "its line has another standby");
        }
    }
}

/// What signed leaves the JWKS once no assertion of it can be on its way.
fn retire(draft: &mut Draft<'_>, line: &KeyLine) {
    for key in draft.in_state(line, KeyState::Deactivated) {
        if gates::before_retiring(draft.policy, draft.record(key), draft.now).is_empty() {
            draft.to(key, KeyState::Retired, "no assertion under it can still be on its way");
        }
    }
}

/// What ended is destroyed on the HSM, where the policy says so.
fn destroy(draft: &mut Draft<'_>, line: &KeyLine) {
    let Some(after) = draft.policy.destroy_after else { return };
    if draft.now.held || draft.now.unreachable.contains(&line.hsm) {
        return;
    }
    for state in [KeyState::Retired, KeyState::Compromised] {
        for key in draft.in_state(line, state) {
            let ended = draft.record(key).ended();
            if ended.is_some_and(|ended| ended.plus(after) <= draft.now.wall) {
                draft.destroy(key, &format!("it ended, and `destroy_after` is {}", Span(after)));
            }
        }
    }
}
