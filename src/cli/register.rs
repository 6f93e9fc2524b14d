//! `hallmark register`: what an authorization server wants to know of a client; sent, if it takes that over HTTP.
//!
//! [`facts`] asks Hallmark; `hallmark_core::registration` says what that makes for this profile; [`render`] shows it;
//! [`post`] sends it to the registration endpoint that [`endpoint`] found, and [`answer`] reads what comes back.

use std::path::PathBuf;

use hallmark_client::{ChangeState, Client, Error, KeyChange, OAuthClient, Order, Recorded, Registration};
use hallmark_core::registration::{Wishes, application};
use serde_json::json;

use super::{
    Failure,
    args::RegisterArgs,
    connect::{As, connect, failure},
    consent::{Consent, ask, quoted},
    keys::render::{change_as_json, change_as_text},
    output::{Output, inert, now, printable, printable_lines},
};

mod answer;
mod endpoint;
mod facts;
mod post;
mod render;

pub(super) async fn run(args: RegisterArgs, connection: Option<PathBuf>, json: bool) -> Result<u8, Failure> {
    let consent = if args.post { Some(post::consent(&args)?) } else { None };
    let hallmark = connect(connection, As::Operator)?;
    if let Some(client_id) = &args.client_id {
        return record(&hallmark, &args, client_id, json).await;
    }
    let facts = facts::gather(&hallmark, &args.client, wishes(&args)).await?;
    let application = application(&facts);
    match consent {
        Some(consent) => post::run(&hallmark, &args, &facts, &application, consent, json).await,
        None if json => Output::json(&render::as_json(&facts, &application)).print(),
        None => render::as_text(&facts, &application).print(),
    }
}

fn wishes(args: &RegisterArgs) -> Wishes {
    let RegisterArgs { name, scope, redirect_uris, contacts, .. } = args.clone();
    Wishes { name, scope, redirect_uris, contacts }
}

/// All signatures carry the new one at once.
async fn agreed(hallmark: &Client, args: &RegisterArgs, client_id: &str) -> Result<(), Failure> {
    let command = format!("hallmark register {} --client-id {} --force", quoted(&args.client), quoted(client_id));
    if Consent::find(args.yes, &command)? == Consent::Given {
        return Ok(());
    }
    let known = hallmark.oauth_client(&args.client).await.map_err(|error| failure(&error, &args.client))?;
    let before = known.recorded_client_id.as_deref();
    ask(&printable_lines(&consequence(&known.name, before, fixed(&known), client_id)))
}

/// What becomes of what is recorded, and of what is signed, where `client_id` is recorded.
fn consequence(name: &str, before: Option<&str>, fixed: Option<&str>, client_id: &str) -> String {
    let before = before.unwrap_or("nothing");
    let told = format!("`{name}` is recorded as `{before}`; from now on: `{client_id}`\n");
    match fixed {
        Some(fixed) => told + &format!("it goes on signing as `{fixed}`, which the server's configuration fixes\n"),
        None => told,
    }
}

/// The `client_id` that the server's configuration has, where that is another than the recorded one.
fn fixed(known: &OAuthClient) -> Option<&str> {
    known.client_id.as_deref().filter(|in_force| known.recorded_client_id.as_deref() != Some(*in_force))
}

/// A refusal to record, with the command that goes through.
fn not_recorded(error: &Error, client: &str, client_id: &str) -> Failure {
    let failure = failure(error, client);
    if error.reason() != "GATE_SHUT" {
        return failure;
    }
    let command = format!("hallmark register {} --client-id {} --force", quoted(client), quoted(client_id));
    failure.hint(format!("if it is meant, with the role `destroy`: {command}"))
}

fn order(args: &RegisterArgs, reason: String) -> Order {
    let order = Order::new(reason);
    if args.force { order.force() } else { order }
}

/// Writes down what people were given.
async fn record(hallmark: &Client, args: &RegisterArgs, client_id: &str, json: bool) -> Result<u8, Failure> {
    if args.force {
        agreed(hallmark, args, client_id).await?;
    }
    let client = args.client.clone();
    let registration = Registration { client, client_id: client_id.to_owned(), registration_uri: None };
    let reason = args.reason.clone().unwrap_or_else(|| "registered by hand".to_owned());
    let recorded = hallmark.record_registration(registration, order(args, reason)).await;
    let Recorded { client: now, advice, change, .. } =
        recorded.map_err(|error| not_recorded(&error, &args.client, client_id))?;
    if json {
        let change = change.as_ref().map(change_as_json);
        let shown = json!({ "client": now.name, "client_id": now.client_id, "advice": advice, "change": change });
        return Output::json(&shown).print();
    }
    let signs = format!("recorded: `{}` signs as `{}`", now.name, now.client_id.unwrap_or_default());
    Output { stdout: String::new(), stderr: printable_lines(&outcome(change.as_ref(), &signs, &advice)) }.print()
}

/// What was done, or what it waits for, and what else there is to know.
fn outcome(change: Option<&KeyChange>, done: &str, advice: &[String]) -> String {
    match change {
        Some(change) if change.state != ChangeState::Applied => change_as_text(change, done, now()).stderr,
        _ => advice.iter().fold(format!("{done}\n"), |text, advice| format!("{text}{advice}\n")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_configuration_fixes_is_told_apart_from_what_is_recorded() {
        let told = consequence("clinic", Some("recorded"), None, "new");
        assert_eq!(told, "`clinic` is recorded as `recorded`; from now on: `new`\n");
        let told = consequence("clinic", None, Some("written"), "new");
        assert!(told.ends_with("it goes on signing as `written`, which the server's configuration fixes\n"), "{told}");
    }
}
