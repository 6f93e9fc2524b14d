//! `hallmark keys changes`, `approve` and `deny`: changes that need two operators.

use std::time::SystemTime;

use hallmark_client::{Approval, ChangeState, Client, KeyChange};
use serde_json::{Value, json};

use super::{
    super::{
        Failure,
        args::{ApproveArgs, DenyArgs},
        connect::failure,
        consent::{Consent, ask, quoted},
        output::{Output, distance, now, printable, table, time},
    },
    render, told,
};

pub(super) async fn list(hallmark: &Client, json: bool) -> Result<u8, Failure> {
    let changes = hallmark.proposed_changes().await.map_err(|error| failure(&error, "CLIENT"))?;
    if json { all_as_json(&changes) } else { all_as_text(&changes, now()) }.print()
}

pub(super) async fn approve(
    args: ApproveArgs,
    connect: impl FnOnce() -> Result<Client, Failure>,
    json: bool,
) -> Result<u8, Failure> {
    let ApproveArgs { id, reason, yes } = args;
    let command = format!("hallmark keys approve {} --reason {}", quoted(&id), quoted(&reason));
    let consent = Consent::find(yes, &command)?;
    let hallmark = connect()?;
    if consent == Consent::ToAsk {
        let changes = hallmark.proposed_changes().await.map_err(|error| failure(&error, "CLIENT"))?;
        let found = changes.iter().find(|change| change.id == id).and_then(|change| change.approval.as_ref());
        let told = found.map(|approval| what_it_does(approval, now()));
        ask(&told.ok_or_else(|| Failure::new(format!("no change `{id}` waits")).hint("hallmark keys changes"))?)?;
    }
    let change = hallmark.approve_change(&id, &reason).await.map_err(|error| failure(&error, "CLIENT"))?;
    told(&change, &format!("approved `{id}`, and done"), json)
}

pub(super) async fn deny(args: DenyArgs, hallmark: &Client, json: bool) -> Result<u8, Failure> {
    let DenyArgs { id, reason } = args;
    let change = hallmark.deny_change(&id, &reason).await.map_err(|error| failure(&error, "CLIENT"))?;
    told(&change, "", json)
}

/// For the one who is to approve it.
fn what_it_does(approval: &Approval, now: SystemTime) -> String {
    let Approval { what, client, proposed_by, reason, plan, expires_at, .. } = approval;
    let mut text =
        format!("{proposed_by} proposed, for client `{client}`: {}\nbecause: {}\n", printable(what), printable(reason));
    for line in plan {
        text += &format!("- {}\n", printable(line));
    }
    if let Some(end) = expires_at {
        text += &format!("it is over at {}, {}\n", time(*end), distance(now, *end));
    }
    text
}

fn all_as_text(changes: &[KeyChange], now: SystemTime) -> Output {
    if changes.is_empty() {
        return Output { stderr: "no change waits, and none has waited\n".to_owned(), ..Output::default() };
    }
    let head = ["ID", "STATE", "WHAT", "CLIENT", "PROPOSED BY", "EXPIRES", "DECIDED BY"].map(str::to_owned);
    let row = |change: &KeyChange| {
        let Some(approval) = &change.approval else { return [const { String::new() }; 7] };
        let waits = change.state == ChangeState::AwaitingApproval;
        [
            change.id.clone(),
            change.state.as_str().to_owned(),
            printable(&approval.what),
            approval.client.clone(),
            printable(&approval.proposed_by),
            approval.expires_at.filter(|_| waits).map_or("-".to_owned(), |end| distance(now, end)),
            approval.decided_by.as_deref().map_or("-".to_owned(), printable),
        ]
    };
    let rows: Vec<_> = std::iter::once(head).chain(changes.iter().map(row)).collect();
    let mut stdout = table(&rows);
    for change in changes.iter().filter(|change| change.state == ChangeState::AwaitingApproval) {
        if let Some(approval) = &change.approval {
            stdout += &format!("\n{}\n{}", change.id, what_it_does(approval, now));
        }
    }
    let stderr = "another operator says yes or no: hallmark keys approve|deny ID --reason TEXT\n".to_owned();
    Output { stdout, stderr }
}

fn all_as_json(changes: &[KeyChange]) -> Output {
    Output::json(&json!({ "changes": changes.iter().map(render::change_as_json).collect::<Vec<_>>() }))
}

pub(super) fn as_json(approval: &Approval) -> Value {
    json!({
        "what": approval.what,
        "client": approval.client,
        "proposed_by": approval.proposed_by,
        "reason": approval.reason,
        "plan": approval.plan,
        "proposed_at": approval.proposed_at.map(time),
        "expires_at": approval.expires_at.map(time),
        "decided_by": approval.decided_by,
        "decision_reason": approval.decision_reason,
    })
}
