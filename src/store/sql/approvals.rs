//! Changes that wait for a second operator.

use hallmark_core::{
    ports::{BegunChange, ChangeState, Decided, Decision, KeyChange, Proposal, Proposed, StoreError},
    time::Timestamp,
};
use sqlx::Connection as _;

use super::{BEGIN_READ, BEGIN_WRITE, Connection, changes, unavailable};
use crate::store::{Runner, rows::stored_millis};

/// Keeps a change that waits, or finds the one with the same `request_id`.
pub(super) async fn propose(
    connection: &mut Connection,
    change: &KeyChange,
    proposal: &Proposal,
    runner: &Runner,
) -> Result<BegunChange, StoreError> {
    let mut tx = connection.begin_with(BEGIN_WRITE).await.map_err(|e| unavailable(&e))?;
    if !changes::insert(&mut tx, change, &runner.instance).await? {
        let (stored, _) = changes::find(&mut tx, &change.request_id).await?;
        tx.commit().await.map_err(|e| unavailable(&e))?;
        return Ok(BegunChange::Existing(stored));
    }
    let write = concat!(
        "INSERT INTO approvals (change_id, payload, plan, credential, expires) VALUES ($1, $2, $3, $4, ",
        now!(),
        " + $5)"
    );
    let plan = serde_json::Value::from(proposal.plan.clone()).to_string();
    let patience = stored_millis(u64::try_from(proposal.patience.as_millis()).unwrap_or(u64::MAX));
    let write = sqlx::query(write).bind(&change.id).bind(&proposal.payload).bind(plan).bind(&proposal.credential);
    write.bind(patience).execute(&mut *tx).await.map_err(|e| unavailable(&e))?;
    tx.commit().await.map_err(|e| unavailable(&e))?;
    Ok(BegunChange::New)
}

/// One proposal.
pub(super) async fn one(connection: &mut Connection, id: &str) -> Result<Option<Proposed>, StoreError> {
    let mut tx = connection.begin_with(BEGIN_READ).await.map_err(|e| unavailable(&e))?;
    let now = now(&mut tx).await?;
    let found = read(&mut tx, id).await?;
    tx.commit().await.map_err(|e| unavailable(&e))?;
    Ok(found.map(|proposed| seen_at(now, proposed)))
}

/// The last `most`, the newest first.
pub(super) async fn all(connection: &mut Connection, most: u32) -> Result<Vec<Proposed>, StoreError> {
    let mut tx = connection.begin_with(BEGIN_READ).await.map_err(|e| unavailable(&e))?;
    let ids = sqlx::query_scalar::<_, String>(
        "SELECT approvals.change_id FROM approvals JOIN key_changes ON key_changes.id = approvals.change_id
         ORDER BY key_changes.created DESC, approvals.change_id LIMIT $1",
    );
    let ids = ids.bind(i64::from(most)).fetch_all(&mut *tx).await.map_err(|e| unavailable(&e))?;
    let all = those(&mut tx, &ids).await?;
    tx.commit().await.map_err(|e| unavailable(&e))?;
    Ok(all)
}

/// Those that wait, by what is stored: of some the time may be over.
pub(super) async fn undecided(connection: &mut Connection) -> Result<Vec<Proposed>, StoreError> {
    let mut tx = connection.begin_with(BEGIN_READ).await.map_err(|e| unavailable(&e))?;
    let ids = sqlx::query_scalar::<_, String>(
        "SELECT approvals.change_id FROM approvals JOIN key_changes ON key_changes.id = approvals.change_id
         WHERE key_changes.state = $1 ORDER BY key_changes.created, approvals.change_id",
    );
    let waits = ChangeState::AwaitingApproval.as_str();
    let ids = ids.bind(waits).fetch_all(&mut *tx).await.map_err(|e| unavailable(&e))?;
    let all = those(&mut tx, &ids).await?;
    tx.commit().await.map_err(|e| unavailable(&e))?;
    Ok(all)
}

/// Says for good that the time of a change is over; `false` where it is not, or the change does not wait.
pub(super) async fn expire(connection: &mut Connection, id: &str) -> Result<bool, StoreError> {
    let mut tx = connection.begin_with(BEGIN_WRITE).await.map_err(|e| unavailable(&e))?;
    // Locks the row: whoever decides at the same time comes before or after.
    let Some((waiting, instance)) = changes::find_by_id(&mut tx, id).await? else { return Ok(false) };
    let seen = those(&mut tx, &[id.to_owned()]).await?;
    let over = waiting.state == ChangeState::AwaitingApproval
        && seen.iter().any(|proposed| proposed.change.state == ChangeState::Expired);
    if over {
        changes::set_state(&mut tx, id, ChangeState::Expired, &instance).await?;
    }
    tx.commit().await.map_err(|e| unavailable(&e))?;
    Ok(over)
}

/// As they are by the store's clock.
async fn those(tx: &mut Connection, ids: &[String]) -> Result<Vec<Proposed>, StoreError> {
    let now = now(tx).await?;
    let mut all = Vec::with_capacity(ids.len());
    for id in ids {
        all.extend(read(tx, id).await?.map(|proposed| seen_at(now, proposed)));
    }
    Ok(all)
}

/// Decides, or says how it was decided before.
pub(super) async fn decide(
    connection: &mut Connection,
    id: &str,
    decision: &Decision,
    runner: &Runner,
) -> Result<Decided, StoreError> {
    let mut tx = connection.begin_with(BEGIN_WRITE).await.map_err(|e| unavailable(&e))?;
    // Locks the row: whoever decides at the same time comes after.
    let Some((_, instance)) = changes::find_by_id(&mut tx, id).await? else { return Ok(Decided::Unknown) };
    let now = now(&mut tx).await?;
    let Some(stored) = read(&mut tx, id).await?.map(|proposed| seen_at(now, proposed)) else {
        return Ok(Decided::Unknown);
    };
    let state = match stored.change.state {
        ChangeState::AwaitingApproval if decision.approved => ChangeState::Running,
        ChangeState::AwaitingApproval => ChangeState::Denied,
        ChangeState::Failed if is_the_same(&stored, decision) => ChangeState::Running,
        ChangeState::Running
            if is_the_same(&stored, decision) && changes::is_gone(&mut tx, &instance, runner).await? =>
        {
            ChangeState::Running
        }
        // One whose time is over is ended by [`expire`], where that is audited.
        _ => return Ok(Decided::Before(stored)),
    };
    changes::set_state(&mut tx, id, state, &runner.instance).await?;
    let write = "UPDATE approvals SET approved = $2, decided_by = $3, decision_reason = $4 WHERE change_id = $1";
    let write = sqlx::query(write).bind(id).bind(i64::from(decision.approved)).bind(&decision.by);
    write.bind(&decision.reason).execute(&mut *tx).await.map_err(|e| unavailable(&e))?;
    tx.commit().await.map_err(|e| unavailable(&e))?;
    let change = KeyChange { state, ..stored.change };
    Ok(Decided::Taken(Proposed { change, decision: Some(decision.clone()), ..stored }))
}

/// Whether the same operator approves once more.
fn is_the_same(stored: &Proposed, decision: &Decision) -> bool {
    let before = stored.decision.as_ref();
    decision.approved && before.is_some_and(|before| before.approved && before.by == decision.by)
}

fn seen_at(now: Timestamp, proposed: Proposed) -> Proposed {
    let waits = proposed.change.state == ChangeState::AwaitingApproval;
    if !waits || now < proposed.expires {
        return proposed;
    }
    Proposed { change: KeyChange { state: ChangeState::Expired, ..proposed.change }, ..proposed }
}

async fn now(tx: &mut Connection) -> Result<Timestamp, StoreError> {
    let now = sqlx::query_scalar::<_, i64>(concat!("SELECT ", now!())).fetch_one(tx).await;
    now.map(Timestamp::from_millis).map_err(|e| unavailable(&e))
}

/// A row of `approvals`.
type Row = (String, String, String, i64, Option<i64>, Option<String>, Option<String>);

async fn read(tx: &mut Connection, id: &str) -> Result<Option<Proposed>, StoreError> {
    let row = "SELECT payload, plan, credential, expires, approved, decided_by, decision_reason
               FROM approvals WHERE change_id = $1";
    let row = sqlx::query_as::<_, Row>(row).bind(id).fetch_optional(&mut *tx).await.map_err(|e| unavailable(&e))?;
    let Some((payload, plan, credential, expires, approved, by, reason)) = row else { return Ok(None) };
    let Some((change, _)) = changes::read(tx, id).await? else { return Ok(None) };
    let plan = serde_json::from_str(&plan)
        .map_err(|error| StoreError::Corrupt(format!("approval of change `{id}`: {error}")))?;
    let decision = match (approved, by, reason) {
        (Some(approved), Some(by), Some(reason)) => Some(Decision { approved: approved != 0, by, reason }),
        _ => None,
    };
    let expires = Timestamp::from_millis(expires);
    Ok(Some(Proposed { change, payload, plan, credential, expires, decision }))
}
