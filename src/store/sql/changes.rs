//! Operators' changes.

use hallmark_core::{
    key::KeyId,
    ports::{BegunChange, ChangeState, KeyChange, StoreError},
};
use sqlx::Connection as _;

use super::{BEGIN_WRITE, Connection, refused, unavailable};
use crate::store::{
    Runner,
    rows::{StoredChange, stored_millis},
};

/// All of a change but its keys.
macro_rules! columns {
    () => {
        "SELECT id, request_id, request, client, operator, reason, state, created, instance FROM key_changes"
    };
}

/// Starts `change`, or finds the one with the same `request_id`. A failed one comes back as it was, `failed`, to the
/// one caller that set it running again; whoever asks meanwhile sees it `running`.
pub(super) async fn begin(
    connection: &mut Connection,
    change: &KeyChange,
    runner: &Runner,
) -> Result<BegunChange, StoreError> {
    let mut tx = connection.begin_with(BEGIN_WRITE).await.map_err(|e| unavailable(&e))?;
    let begun = if insert(&mut tx, change, &runner.instance).await? {
        BegunChange::New
    } else {
        let (mut stored, of) = find(&mut tx, &change.request_id).await?;
        if stored.state == ChangeState::Running && is_gone(&mut tx, &of, runner).await? {
            stored.state = ChangeState::Failed;
        }
        // Another request under the same id is the caller's mistake, and must not start anything.
        if stored.state == ChangeState::Failed && stored.request == change.request {
            take_up(&mut tx, &stored.id, &runner.instance).await?;
        }
        BegunChange::Existing(stored)
    };
    tx.commit().await.map_err(|e| unavailable(&e))?;
    Ok(begun)
}

/// Records how a change ended, and which keys it touched.
pub(super) async fn end(
    connection: &mut Connection,
    id: &str,
    state: ChangeState,
    keys: &[KeyId],
) -> Result<(), StoreError> {
    let mut tx = connection.begin_with(BEGIN_WRITE).await.map_err(|e| unavailable(&e))?;
    let update = sqlx::query("UPDATE key_changes SET state = $2 WHERE id = $1").bind(id).bind(state.as_str());
    if update.execute(&mut *tx).await.map_err(|e| unavailable(&e))?.rows_affected() == 0 {
        return Err(StoreError::Conflict(format!("there is no change `{id}`")));
    }
    write_keys(&mut tx, id, keys).await?;
    tx.commit().await.map_err(|e| unavailable(&e))
}

/// What was running on `instance` when its process ended runs no more.
pub(super) async fn fail_interrupted(connection: &mut Connection, instance: &str) -> Result<(), StoreError> {
    let failed = sqlx::query("UPDATE key_changes SET state = $1 WHERE state = $2 AND instance = $3")
        .bind(ChangeState::Failed.as_str())
        .bind(ChangeState::Running.as_str())
        .bind(instance);
    failed.execute(connection).await.map_err(|e| unavailable(&e)).map(drop)
}

/// `false`: there is one with that `request_id`.
pub(super) async fn insert(tx: &mut Connection, change: &KeyChange, instance: &str) -> Result<bool, StoreError> {
    // Not looked for first: of two at once both would find none.
    let inserted = sqlx::query(
        "INSERT INTO key_changes (id, request_id, request, client, operator, reason, state, created, instance)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) ON CONFLICT (request_id) DO NOTHING",
    )
    .bind(&change.id)
    .bind(&change.request_id)
    .bind(&change.request)
    .bind(change.client.as_str())
    .bind(&change.operator)
    .bind(&change.reason)
    .bind(change.state.as_str())
    .bind(change.created.millis())
    .bind(instance);
    let inserted = inserted.execute(&mut *tx).await.map_err(|e| refused(&e, &format!("change `{}`", change.id)))?;
    if inserted.rows_affected() == 0 {
        return Ok(false);
    }
    write_keys(tx, &change.id, &change.keys).await?;
    Ok(true)
}

/// The change, and the instance that began it or took it up. Nobody else can until this transaction ends.
pub(super) async fn find(tx: &mut Connection, request_id: &str) -> Result<(KeyChange, String), StoreError> {
    let stored: StoredChange = sqlx::query_as(concat!(columns!(), " WHERE request_id = $1", for_update!()))
        .bind(request_id)
        .fetch_one(&mut *tx)
        .await
        .map_err(|e| unavailable(&e))?;
    complete(tx, stored).await
}

/// As [`find`], by the change's own id; `None` where there is none.
pub(super) async fn find_by_id(tx: &mut Connection, id: &str) -> Result<Option<(KeyChange, String)>, StoreError> {
    let stored = sqlx::query_as::<_, StoredChange>(concat!(columns!(), " WHERE id = $1", for_update!())).bind(id);
    match stored.fetch_optional(&mut *tx).await.map_err(|e| unavailable(&e))? {
        Some(stored) => complete(tx, stored).await.map(Some),
        None => Ok(None),
    }
}

/// As [`find_by_id`], without keeping others from it.
pub(super) async fn read(tx: &mut Connection, id: &str) -> Result<Option<(KeyChange, String)>, StoreError> {
    let stored = sqlx::query_as::<_, StoredChange>(concat!(columns!(), " WHERE id = $1")).bind(id);
    match stored.fetch_optional(&mut *tx).await.map_err(|e| unavailable(&e))? {
        Some(stored) => complete(tx, stored).await.map(Some),
        None => Ok(None),
    }
}

async fn complete(tx: &mut Connection, stored: StoredChange) -> Result<(KeyChange, String), StoreError> {
    let keys =
        sqlx::query_scalar::<_, String>("SELECT key_id FROM key_change_keys WHERE change_id = $1 ORDER BY position");
    let keys = keys.bind(&stored.id).fetch_all(tx).await.map_err(|e| unavailable(&e))?;
    let instance = stored.instance.clone();
    Ok((stored.into_change(&keys)?, instance))
}

/// Whether `instance` was not heard of for so long that it must have ended. Who asks has not.
pub(super) async fn is_gone(tx: &mut Connection, instance: &str, runner: &Runner) -> Result<bool, StoreError> {
    let Some(after) = runner.gone_after.filter(|_| instance != runner.instance) else { return Ok(false) };
    let heard = concat!("SELECT count(*) FROM replicas WHERE instance = $1 AND heard >= ", now!(), " - $2");
    let heard = sqlx::query_scalar::<_, i64>(heard).bind(instance);
    let heard = heard.bind(stored_millis(u64::try_from(after.as_millis()).unwrap_or(u64::MAX)));
    Ok(heard.fetch_one(tx).await.map_err(|e| unavailable(&e))? == 0)
}

async fn take_up(tx: &mut Connection, id: &str, instance: &str) -> Result<(), StoreError> {
    set_state(tx, id, ChangeState::Running, instance).await
}

/// Says how a change stands, and who has it.
pub(super) async fn set_state(
    tx: &mut Connection,
    id: &str,
    state: ChangeState,
    instance: &str,
) -> Result<(), StoreError> {
    let taken = sqlx::query("UPDATE key_changes SET state = $2, instance = $3 WHERE id = $1")
        .bind(id)
        .bind(state.as_str())
        .bind(instance);
    taken.execute(tx).await.map_err(|e| unavailable(&e)).map(drop)
}

async fn write_keys(tx: &mut Connection, id: &str, keys: &[KeyId]) -> Result<(), StoreError> {
    let emptied = sqlx::query("DELETE FROM key_change_keys WHERE change_id = $1").bind(id);
    emptied.execute(&mut *tx).await.map_err(|e| unavailable(&e))?;
    for (position, key) in (0_i64..).zip(keys) {
        let one = sqlx::query("INSERT INTO key_change_keys (change_id, position, key_id) VALUES ($1, $2, $3)");
        let one = one.bind(id).bind(position).bind(key.to_string()).execute(&mut *tx).await;
        one.map_err(|e| refused(&e, &format!("change `{id}`: key `{key}`")))?;
    }
    Ok(())
}
