//! `hallmark keys`.

use std::path::PathBuf;

use hallmark_client::{Adoption, Client, Confirmation, Key, KeyAction, KeyChange, ObjectRef, Order};

use super::{
    Failure,
    args::{AdoptArgs, AlterArgs, ConfirmArgs, CreateArgs, KeysCommand, ListArgs, OrderArgs, RevokeArgs, RotateArgs},
    connect::{As, connect, failure},
    consent::{Consent, ask, quoted},
    evidence,
    output::{Output, now},
};

mod approvals;
mod consequences;
pub(super) mod import;
pub(super) mod render;
mod timeline;

pub(super) async fn run(command: KeysCommand, connection: Option<PathBuf>, json: bool) -> Result<u8, Failure> {
    let connect = || connect(connection, As::Operator);
    match command {
        KeysCommand::List(args) => list(args, &connect()?, json).await,
        KeysCommand::Show(args) => {
            let key = connect()?.get_key(&args.kid).await.map_err(|error| failure(&error, "CLIENT"))?;
            if json { Output::json(&render::key_as_json(&key)) } else { render::key_as_text(&key, now()) }.print()
        }
        KeysCommand::Timeline(args) => {
            let client = args.client.as_deref();
            let keys = connect()?.list_keys(client).await;
            let keys = keys.map_err(|error| failure(&error, client.unwrap_or("CLIENT")))?;
            timeline::output(&keys, now(), json).print()
        }
        KeysCommand::Create(args) => create(args, &connect()?, json).await,
        KeysCommand::Rotate(args) => rotate(args, connect, json).await,
        KeysCommand::Activate(args) => alter(KeyAction::Activate, args, connect, json).await,
        KeysCommand::Deactivate(args) => alter(KeyAction::Deactivate, args, connect, json).await,
        KeysCommand::Retire(args) => alter(KeyAction::Retire, args, connect, json).await,
        KeysCommand::Destroy(args) => alter(KeyAction::Destroy, args, connect, json).await,
        KeysCommand::Revoke(args) => revoke(args, connect, json).await,
        KeysCommand::Adopt(args) => adopt(args, &connect()?, json).await,
        KeysCommand::Changes => approvals::list(&connect()?, json).await,
        KeysCommand::Approve(args) => approvals::approve(args, connect, json).await,
        KeysCommand::Deny(args) => approvals::deny(args, &connect()?, json).await,
        KeysCommand::Confirm(args) => confirm(args, &connect()?, json).await,
        KeysCommand::Evidence(args) => evidence::of_key(args, &connect()?, json).await,
        KeysCommand::Custody(args) => evidence::custody(args, &connect()?, json).await,
    }
}

async fn list(args: ListArgs, hallmark: &Client, json: bool) -> Result<u8, Failure> {
    let client = args.client.as_deref();
    let list = if args.fresh { hallmark.compare_keys_now(client).await } else { hallmark.compare_keys(client).await };
    let list = list.map_err(|error| failure(&error, client.unwrap_or("CLIENT")))?;
    if json { Output::json(&render::list_as_json(&list)) } else { render::list_as_text(&list, now()) }.print()
}

async fn create(args: CreateArgs, hallmark: &Client, json: bool) -> Result<u8, Failure> {
    let CreateArgs { client, alg, order } = args;
    let change = hallmark.create_keys(&client, alg.as_deref(), made(order, false)).await;
    let change = change.map_err(|error| failure(&error, &client))?;
    told(&change, &format!("made the first keys of `{client}`; show its JWKS: hallmark jwks {client}"), json)
}

async fn rotate(
    args: RotateArgs,
    connect: impl FnOnce() -> Result<Client, Failure>,
    json: bool,
) -> Result<u8, Failure> {
    let RotateArgs { client, alg, order, how } = args;
    // The standby is known to verifiers: unless it is forced, nothing is lost by a rotation.
    let consent = if how.force {
        let alg = alg.as_ref().map(|alg| format!(" --alg {}", quoted(alg))).unwrap_or_default();
        Consent::find(how.yes, &typed(&format!("rotate {}{alg}", quoted(&client)), &order, true))?
    } else {
        Consent::Given
    };
    let hallmark = connect()?;
    if consent == Consent::ToAsk {
        let keys = hallmark.list_keys(Some(&client)).await.map_err(|error| failure(&error, &client))?;
        ask(&consequences::of_forced_rotation(&client, alg.as_deref(), &keys))?;
    }
    let change = hallmark.rotate_keys(&client, alg.as_deref(), made(order, how.force)).await;
    let change = change.map_err(|error| failure(&error, &client))?;
    // How to take it back the server says, for each key: it knows which gates that would meet.
    told(&change, &format!("`{client}` signs with its standbys"), json)
}

async fn alter(
    action: KeyAction,
    args: AlterArgs,
    connect: impl FnOnce() -> Result<Client, Failure>,
    json: bool,
) -> Result<u8, Failure> {
    let AlterArgs { kid, order, how } = args;
    let word = consequences::word(action);
    let harmless = action == KeyAction::Activate && !how.force;
    let command = typed(&format!("{word} {}", quoted(&kid)), &order, how.force);
    let consent = if harmless { Consent::Given } else { Consent::find(how.yes, &command)? };
    let hallmark = connect()?;
    if consent == Consent::ToAsk {
        ask_about(action, &kid, how.force, &hallmark).await?;
    }
    carry_out(action, &kid, made(order, how.force), &hallmark, json).await
}

async fn revoke(
    args: RevokeArgs,
    connect: impl FnOnce() -> Result<Client, Failure>,
    json: bool,
) -> Result<u8, Failure> {
    let RevokeArgs { kid, order, yes } = args;
    let consent = Consent::find(yes, &typed(&format!("revoke {}", quoted(&kid)), &order, false))?;
    let hallmark = connect()?;
    if consent == Consent::ToAsk {
        ask_about(KeyAction::Revoke, &kid, false, &hallmark).await?;
    }
    carry_out(KeyAction::Revoke, &kid, made(order, false), &hallmark, json).await
}

async fn confirm(args: ConfirmArgs, hallmark: &Client, json: bool) -> Result<u8, Failure> {
    let ConfirmArgs { kid, registered, rehearsed: _, order } = args;
    let what = if registered { Confirmation::Registered } else { Confirmation::Rehearsed };
    carry_out(KeyAction::Confirm(what), &kid, made(order, false), hallmark, json).await
}

async fn adopt(args: AdoptArgs, hallmark: &Client, json: bool) -> Result<u8, Failure> {
    let AdoptArgs { client, cka_id, label, alg, hsm, kid, order } = args;
    let object = match (cka_id, label) {
        (Some(id), _) => ObjectRef::CkaId(id.0),
        // One of the two is there: the arguments say so.
        (None, label) => ObjectRef::Label(label.unwrap_or_default()),
    };
    let adoption = Adoption { client: client.clone(), alg, hsm, object, kid };
    let change = hallmark.adopt_key(adoption, made(order, false)).await;
    let change = change.map_err(|error| failure(&error, &client))?;
    told(&change, &format!("taken in for `{client}`; see what comes next: hallmark rotation plan {client}"), json)
}

/// Shows what the change means for verifiers, and waits for a word.
async fn ask_about(action: KeyAction, kid: &str, force: bool, hallmark: &Client) -> Result<(), Failure> {
    let key = hallmark.get_key(kid).await.map_err(|error| failure(&error, "CLIENT"))?;
    let keys: Vec<Key> = match &key.client {
        Some(client) => hallmark.list_keys(Some(client)).await.map_err(|error| failure(&error, client))?,
        None => Vec::new(),
    };
    ask(&consequences::of(action, &key, &keys, force))
}

async fn carry_out(action: KeyAction, kid: &str, order: Order, hallmark: &Client, json: bool) -> Result<u8, Failure> {
    let change = hallmark.alter_key(action, kid, order).await;
    let change = change.map_err(|error| failure(&error, "CLIENT"))?;
    told(&change, &format!("{} `{kid}`", consequences::past(action)), json)
}

fn told(change: &KeyChange, done: &str, json: bool) -> Result<u8, Failure> {
    if json { Output::json(&render::change_as_json(change)) } else { render::change_as_text(change, done, now()) }
        .print()
}

pub(super) fn made(args: OrderArgs, force: bool) -> Order {
    let order = Order::new(args.reason);
    Order { request_id: args.request_id.unwrap_or(order.request_id), force, ..order }
}

/// The command as it was typed, but for `--yes`.
fn typed(what: &str, order: &OrderArgs, force: bool) -> String {
    let mut command = format!("hallmark keys {what} --reason {}", quoted(&order.reason));
    if let Some(id) = &order.request_id {
        command += &format!(" --request-id {}", quoted(id));
    }
    if force {
        command += " --force";
    }
    command
}

#[cfg(test)]
mod tests;
