//! Operators' changes in SQLite.

use std::fmt::Display;

use hallmark_core::{
    key::KeyId,
    ports::{BegunChange, ChangeState, KeyChange, StoreError},
    time::Timestamp,
};
use sqlx::{Connection, Row, SqliteConnection, sqlite::SqliteRow};
use uuid::Uuid;

use super::{refused, unavailable};

/// Starts `change`, or finds the one with the same `request_id`. A failed one comes back as it was, `failed`, to the
/// one caller that set it running again; whoever asks meanwhile sees it `running`.
pub(super) async fn begin(connection: &mut SqliteConnection, change: &KeyChange) -> Result<BegunChange, StoreError> {
    let mut tx = connection.begin_with("BEGIN IMMEDIATE").await.map_err(|e| unavailable(&e))?;
    let existing = sqlx::query("SELECT * FROM key_changes WHERE request_id = ?1").bind(&change.request_id);
    let begun = match existing.fetch_optional(&mut *tx).await.map_err(|e| unavailable(&e))? {
        None => {
            insert(&mut tx, change).await?;
            BegunChange::New
        }
        Some(row) => {
            let stored = from_row(&mut tx, &row).await?;
            // Another request under the same id is the caller's mistake, and must not start anything.
            if stored.state == ChangeState::Failed && stored.request == change.request {
                set_state(&mut tx, &stored.id, ChangeState::Running).await?;
            }
            BegunChange::Existing(stored)
        }
    };
    tx.commit().await.map_err(|e| unavailable(&e))?;
    Ok(begun)
}

/// Records how a change ended, and which keys it touched.
pub(super) async fn end(
    connection: &mut SqliteConnection,
    id: &str,
    state: ChangeState,
    keys: &[KeyId],
) -> Result<(), StoreError> {
    let mut tx = connection.begin_with("BEGIN IMMEDIATE").await.map_err(|e| unavailable(&e))?;
    set_state(&mut tx, id, state).await?;
    write_keys(&mut tx, id, keys).await?;
    tx.commit().await.map_err(|e| unavailable(&e))
}

/// What was running when the process ended runs no more. Only where no other process uses the store.
pub(super) async fn fail_interrupted(connection: &mut SqliteConnection) -> Result<(), StoreError> {
    let failed = sqlx::query("UPDATE key_changes SET state = ?1 WHERE state = ?2")
        .bind(ChangeState::Failed.as_str())
        .bind(ChangeState::Running.as_str());
    failed.execute(connection).await.map_err(|e| unavailable(&e)).map(drop)
}

async fn insert(tx: &mut SqliteConnection, change: &KeyChange) -> Result<(), StoreError> {
    let inserted = sqlx::query(
        "INSERT INTO key_changes (id, request_id, request, client, operator, reason, state, created)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
    )
    .bind(&change.id)
    .bind(&change.request_id)
    .bind(&change.request)
    .bind(change.client.as_str())
    .bind(&change.operator)
    .bind(&change.reason)
    .bind(change.state.as_str())
    .bind(change.created.millis());
    inserted.execute(&mut *tx).await.map_err(|e| refused(&e, &format!("change `{}`", change.id)))?;
    write_keys(tx, &change.id, &change.keys).await
}

async fn set_state(tx: &mut SqliteConnection, id: &str, state: ChangeState) -> Result<(), StoreError> {
    let update = sqlx::query("UPDATE key_changes SET state = ?2 WHERE id = ?1").bind(id).bind(state.as_str());
    match update.execute(tx).await.map_err(|e| unavailable(&e))?.rows_affected() {
        0 => Err(StoreError::Conflict(format!("there is no change `{id}`"))),
        _ => Ok(()),
    }
}

async fn write_keys(tx: &mut SqliteConnection, id: &str, keys: &[KeyId]) -> Result<(), StoreError> {
    let emptied = sqlx::query("DELETE FROM key_change_keys WHERE change_id = ?1").bind(id);
    emptied.execute(&mut *tx).await.map_err(|e| unavailable(&e))?;
    for (position, key) in (0_i64..).zip(keys) {
        let one = sqlx::query("INSERT INTO key_change_keys (change_id, position, key_id) VALUES (?1, ?2, ?3)");
        let one = one.bind(id).bind(position).bind(key.to_string()).execute(&mut *tx).await;
        one.map_err(|e| refused(&e, &format!("change `{id}`: key `{key}`")))?;
    }
    Ok(())
}

async fn from_row(tx: &mut SqliteConnection, row: &SqliteRow) -> Result<KeyChange, StoreError> {
    let id: String = row.try_get("id").map_err(|e| unavailable(&e))?;
    let keys =
        sqlx::query_scalar::<_, String>("SELECT key_id FROM key_change_keys WHERE change_id = ?1 ORDER BY position");
    let keys = keys.bind(&id).fetch_all(tx).await.map_err(|e| unavailable(&e))?;
    parse(row, &id, &keys).map_err(|cause| StoreError::Corrupt(format!("change `{id}`: {cause}")))
}

/// The error is what is wrong with the row.
fn parse(row: &SqliteRow, id: &str, keys: &[String]) -> Result<KeyChange, String> {
    let column = |name: &str| row.try_get::<String, _>(name).map_err(text);
    Ok(KeyChange {
        id: id.to_owned(),
        request_id: column("request_id")?,
        request: column("request")?,
        client: column("client")?.parse().map_err(text)?,
        operator: column("operator")?,
        reason: column("reason")?,
        state: column("state")?.parse().map_err(text)?,
        created: Timestamp::from_millis(row.try_get("created").map_err(text)?),
        keys: keys.iter().map(|key| Uuid::parse_str(key).map(KeyId).map_err(text)).collect::<Result<_, _>>()?,
    })
}

fn text(error: impl Display) -> String {
    error.to_string()
}
