//! Keys and changes, for people and for programs.

use std::time::SystemTime;

use base64::{Engine, prelude::BASE64_STANDARD};
use hallmark_client::{ChangeState, HsmLook, Key, KeyChange, KeyList, Stray};
use serde_json::{Value, json};

use crate::cli::{
    certificates,
    output::{Output, distance, table, time},
    rotation::step_as_json,
};

pub(super) fn list_as_text(list: &KeyList, now: SystemTime) -> Output {
    let KeyList { keys, strays, unanswered_hsms, looks } = list;
    let mut output = Output::default();
    if keys.is_empty() {
        output.stderr += "no keys; make a client's first with `hallmark keys create CLIENT --reason TEXT`\n";
    } else {
        output.stdout += &keys_table(keys, now);
    }
    let absent: Vec<_> = keys.iter().filter(|key| key.absent).collect();
    if !absent.is_empty() {
        let count = absent.len();
        output.stderr +=
            &format!("absent from their HSM, and not used: {count}; see KEY_ABSENT in docs/OPERATIONS.md\n");
    }
    if !strays.is_empty() {
        let title = "objects without a record";
        output.stdout += &format!("{}{title}\n{}", if keys.is_empty() { "" } else { "\n" }, strays_table(strays));
        output.stderr += "to take an object in: hallmark keys adopt CLIENT --cka-id CKA_ID --reason TEXT\n";
    }
    let (before, never): (Vec<_>, Vec<_>) =
        unanswered_hsms.iter().partition(|hsm| looks.iter().any(|look| look.hsm == **hsm));
    if !before.is_empty() {
        output.stderr += &format!("down or without an answer, so what was seen before is shown: {}\n", names(&before));
    }
    if !never.is_empty() {
        output.stderr += &format!("not heard of, so nothing is said of what is there: {}\n", names(&never));
    }
    if !looks.is_empty() {
        let look = |look: &HsmLook| format!("{} {}", look.hsm, distance(now, look.at));
        let looks: Vec<_> = looks.iter().map(look).collect();
        output.stderr += &format!("HSMs were looked at: {}; look now: hallmark keys list --fresh\n", looks.join(", "));
    }
    output
}

fn names(hsms: &[&String]) -> String {
    hsms.iter().map(|hsm| hsm.as_str()).collect::<Vec<_>>().join(", ")
}

fn keys_table(keys: &[Key], now: SystemTime) -> String {
    // Most clients have none.
    let certified = keys.iter().any(|key| key.certificate.is_some() || key.certificate_missing);
    let head = ["CLIENT", "ALG", "HSM", "STATE", "KID", "CREATED", "NEXT"].map(str::to_owned);
    let row = |key: &Key| {
        let absent = if key.absent { ", absent" } else { "" };
        [
            key.client.clone().unwrap_or_else(|| format!("({})", key.purpose)),
            key.alg.clone(),
            key.hsm.clone(),
            format!("{}{absent}", key.state),
            key.kid.clone().unwrap_or_else(|| "-".to_owned()),
            key.created_at.map_or("-".to_owned(), time),
            next(key, now),
        ]
    };
    let rows: Vec<_> = std::iter::once(head).chain(keys.iter().map(row)).collect();
    if !certified {
        return table(&rows);
    }
    let last = std::iter::once("CERTIFICATE".to_owned()).chain(keys.iter().map(|key| certificate(key, now)));
    let with = |([client, alg, hsm, state, kid, created, next], of): ([String; 7], String)| {
        [client, alg, hsm, state, kid, created, of, next]
    };
    table(&rows.into_iter().zip(last).map(with).collect::<Vec<_>>())
}

/// When its certificate ends, or that it can't be used.
fn certificate(key: &Key, now: SystemTime) -> String {
    let Some(shown) = &key.certificate else {
        return if key.certificate_missing { "MISSING" } else { "-" }.to_owned();
    };
    match (shown.not_before, shown.not_after) {
        (_, Some(end)) if end < now => format!("EXPIRED {}, {}", time(end), distance(now, end)),
        (Some(start), _) if now < start => format!("NOT VALID before {}", time(start)),
        (_, Some(end)) => format!("until {}, {}", time(end), distance(now, end)),
        (_, None) => "-".to_owned(),
    }
}

fn next(key: &Key, now: SystemTime) -> String {
    let Some(step) = &key.next_step else { return "-".to_owned() };
    let waits = step.blocked.as_ref().map(|blocked| format!("; waits: {blocked}")).unwrap_or_default();
    format!("{} {}, {}{waits}", step.what, time(step.at), distance(now, step.at))
}

fn strays_table(strays: &[Stray]) -> String {
    let head = ["HSM", "CKA_ID", "LABEL", "KID (THUMBPRINT)"].map(str::to_owned);
    let row = |stray: &Stray| {
        // A label comes from the HSM: whoever wrote it does not get to write on this terminal.
        let label = stray.label.escape_debug().to_string();
        [stray.hsm.clone(), hex(&stray.cka_id), label, stray.kid.clone().unwrap_or_else(|| "-".to_owned())]
    };
    let rows: Vec<_> = std::iter::once(head).chain(strays.iter().map(row)).collect();
    table(&rows)
}

pub(super) fn key_as_text(key: &Key, now: SystemTime) -> Output {
    let mut lines = vec![
        ("kid", key.kid.clone().unwrap_or_else(|| "- (not generated yet)".to_owned())),
        ("client", key.client.clone().unwrap_or_else(|| format!("({})", key.purpose))),
        ("line", format!("{} on {}", key.alg, key.hsm)),
        ("state", key.state.to_string()),
        ("next", next(key, now)),
    ];
    if let Some(step) = &key.next_step {
        lines.push(("why", step.reason.clone()));
    }
    for (name, at) in moments(key) {
        lines.extend(at.map(|at| (name, format!("{}, {}", time(at), distance(now, at)))));
    }
    if key.certificate.is_some() || key.certificate_missing {
        lines.push(("certificate", certificate(key, now)));
    }
    lines.push(("origin", key.origin.clone()));
    lines.push(("CKA_ID", hex(&key.cka_id)));
    lines.push(("label", key.label.escape_debug().to_string()));
    lines.push(("record", key.id.clone()));
    let stdout = lines.into_iter().map(|(name, value)| format!("{name:<12} {value}\n")).collect();
    Output { stdout, stderr: String::new() }
}

fn moments(key: &Key) -> [(&'static str, Option<SystemTime>); 7] {
    [
        ("created", key.created_at),
        ("published", key.published_at),
        ("activated", key.activated_at),
        ("deactivated", key.deactivated_at),
        ("retired", key.retired_at),
        ("compromised", key.compromised_at),
        ("destroyed", key.destroyed_at),
    ]
}

/// `done` says what it was, for people.
pub(in crate::cli) fn change_as_text(change: &KeyChange, done: &str, now: SystemTime) -> Output {
    let KeyChange { id, state, keys, in_force_everywhere_at, advice, approval } = change;
    let mut stderr = match state {
        ChangeState::Applied => format!("{done}\n"),
        ChangeState::AwaitingApproval => {
            format!(
                "change `{id}` waits for a second operator's approval; that one types: hallmark keys approve {id} --reason TEXT\n"
            )
        }
        ChangeState::Denied => format!("change `{id}` is denied: nothing was done\n"),
        ChangeState::Expired => format!("change `{id}` has expired: nothing was done\n"),
        ChangeState::Failed => format!("change `{id}` was approved and failed; who approved it may do so again\n"),
        ChangeState::Running => format!("change `{id}` goes on; see: hallmark keys list\n"),
        _ => format!("change `{id}` is in a state that this version does not know; update hallmark\n"),
    };
    if let Some(at) = in_force_everywhere_at {
        stderr += &format!("in force everywhere at {}, {}\n", time(*at), distance(now, *at));
    }
    let waiting = approval.iter().filter(|_| *state == ChangeState::AwaitingApproval);
    for line in waiting.flat_map(|approval| &approval.plan).chain(advice) {
        stderr += &format!("- {line}\n");
    }
    let stdout = if keys.is_empty() { String::new() } else { keys_table(keys, now) };
    Output { stdout, stderr }
}

pub(in crate::cli) fn change_as_json(change: &KeyChange) -> Value {
    json!({
        "id": change.id,
        "state": change.state.as_str(),
        "keys": all_as_json(&change.keys),
        "in_force_everywhere_at": change.in_force_everywhere_at.map(time),
        "advice": change.advice,
        "approval": change.approval.as_ref().map(super::approvals::as_json),
    })
}

pub(super) fn list_as_json(list: &KeyList) -> Value {
    let stray = |stray: &Stray| json!({ "hsm": stray.hsm, "cka_id": hex(&stray.cka_id), "label": stray.label, "kid": stray.kid });
    let strays: Vec<_> = list.strays.iter().map(stray).collect();
    let looks: serde_json::Map<_, _> = list.looks.iter().map(|look| (look.hsm.clone(), json!(time(look.at)))).collect();
    json!({
        "keys": all_as_json(&list.keys),
        "strays": strays,
        "unanswered_hsms": list.unanswered_hsms,
        "looked_at": looks,
    })
}

pub(super) fn all_as_json(keys: &[Key]) -> Vec<Value> {
    keys.iter().map(key_as_json).collect()
}

pub(in crate::cli) fn key_as_json(key: &Key) -> Value {
    json!({
        "id": key.id,
        "client": key.client,
        "alg": key.alg,
        "hsm": key.hsm,
        "kid": key.kid,
        "state": key.state.as_str(),
        "purpose": key.purpose,
        "origin": key.origin,
        "cka_id": hex(&key.cka_id),
        "label": key.label,
        "spki": BASE64_STANDARD.encode(&key.spki),
        "created_at": key.created_at.map(time),
        "published_at": key.published_at.map(time),
        "activated_at": key.activated_at.map(time),
        "deactivated_at": key.deactivated_at.map(time),
        "retired_at": key.retired_at.map(time),
        "compromised_at": key.compromised_at.map(time),
        "destroyed_at": key.destroyed_at.map(time),
        "absent": key.absent,
        "next_step": key.next_step.as_ref().map(step_as_json),
        "certificate": key.certificate.as_ref().map(certificates::as_json),
        "certificate_missing": key.certificate_missing,
    })
}

/// In lower case, without separators.
pub(in crate::cli) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
