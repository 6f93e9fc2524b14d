//! `hallmark keys`: list and create.

use std::path::PathBuf;

use base64::{Engine, prelude::BASE64_STANDARD};
use hallmark_client::{ChangeState, Key, KeyChange};
use serde_json::{Value, json};

use super::{
    Failure,
    args::{KeysCreateArgs, KeysListArgs},
    connect::{As, connect, failure},
    output::{Output, table, time},
};

pub(super) async fn list(args: KeysListArgs, connection: Option<PathBuf>, json: bool) -> Result<u8, Failure> {
    let keys = connect(connection, As::Operator)?.list_keys(args.client.as_deref()).await;
    let keys = keys.map_err(|error| failure(&error, args.client.as_deref().unwrap_or("CLIENT")))?;
    if json { Output::json(&json!({ "keys": all_as_json(&keys) })) } else { list_as_text(&keys) }.print()
}

pub(super) async fn create(args: KeysCreateArgs, connection: Option<PathBuf>, json: bool) -> Result<u8, Failure> {
    let KeysCreateArgs { client, alg, reason } = args;
    let change = connect(connection, As::Operator)?.create_keys(&client, alg.as_deref(), &reason).await;
    let change = change.map_err(|error| failure(&error, &client))?;
    if json { Output::json(&change_as_json(&change)) } else { change_as_text(&change, &client) }.print()
}

fn list_as_text(keys: &[Key]) -> Output {
    if keys.is_empty() {
        let stderr = "no keys; make a client's first with `hallmark keys create CLIENT --reason TEXT`\n";
        return Output { stdout: String::new(), stderr: stderr.to_owned() };
    }
    let head = ["CLIENT", "ALG", "HSM", "STATE", "KID", "CREATED"].map(str::to_owned);
    let row = |key: &Key| {
        [
            key.client.clone().unwrap_or_else(|| format!("({})", key.purpose)),
            key.alg.clone(),
            key.hsm.clone(),
            key.state.to_string(),
            key.kid.clone().unwrap_or_else(|| "-".to_owned()),
            key.created_at.map_or("-".to_owned(), time),
        ]
    };
    let rows: Vec<_> = std::iter::once(head).chain(keys.iter().map(row)).collect();
    Output { stdout: table(&rows), stderr: String::new() }
}

fn change_as_text(change: &KeyChange, client: &str) -> Output {
    let KeyChange { id, state, keys } = change;
    let said = match state {
        ChangeState::Applied => {
            format!("keys made for `{client}`: {}; show its JWKS: hallmark jwks {client}\n", keys.len())
        }
        ChangeState::AwaitingApproval => format!("change `{id}` waits for a second operator's approval\n"),
        ChangeState::Running => format!("change `{id}` goes on; see: hallmark keys list --client {client}\n"),
        _ => format!("change `{id}` is in a state that this version does not know; update hallmark\n"),
    };
    let stdout = if keys.is_empty() { String::new() } else { list_as_text(keys).stdout };
    Output { stdout, stderr: said }
}

fn change_as_json(change: &KeyChange) -> Value {
    json!({ "id": change.id, "state": change.state.as_str(), "keys": all_as_json(&change.keys) })
}

fn all_as_json(keys: &[Key]) -> Vec<Value> {
    keys.iter().map(as_json).collect()
}

fn as_json(key: &Key) -> Value {
    let hex: String = key.cka_id.iter().map(|byte| format!("{byte:02x}")).collect();
    json!({
        "id": key.id,
        "client": key.client,
        "alg": key.alg,
        "hsm": key.hsm,
        "kid": key.kid,
        "state": key.state.as_str(),
        "purpose": key.purpose,
        "origin": key.origin,
        "cka_id": hex,
        "label": key.label,
        "spki": BASE64_STANDARD.encode(&key.spki),
        "created_at": key.created_at.map(time),
        "published_at": key.published_at.map(time),
        "activated_at": key.activated_at.map(time),
        "deactivated_at": key.deactivated_at.map(time),
        "retired_at": key.retired_at.map(time),
        "compromised_at": key.compromised_at.map(time),
        "destroyed_at": key.destroyed_at.map(time),
    })
}

#[cfg(test)]
mod tests;
