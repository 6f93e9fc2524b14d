//! What followers acknowledged, at whichever replica.

use std::time::Duration;

use hallmark_core::ports::{FollowerAck, StoreError};
use serde_json::json;

use super::{Connection, unavailable};
use crate::store::rows::{parsed, stored_millis};

/// Writes what followers said last to `instance`. What the store has from later stays.
pub(super) async fn write(connection: &mut Connection, instance: &str, said: &[FollowerAck]) -> Result<(), StoreError> {
    let rows = said.iter().map(|ack| {
        let silent = u64::try_from(ack.silent.as_millis()).unwrap_or(u64::MAX);
        json!([ack.identity.to_string(), ack.process, stored_millis(ack.generation), stored_millis(silent)])
    });
    let rows = serde_json::Value::Array(rows.collect()).to_string();
    let write = sqlx::query(WRITE).bind(rows).bind(instance).execute(&mut *connection).await;
    write.map_err(|e| unavailable(&e))?;
    let forget = sqlx::query(FORGET).bind(stored_millis(FORGOTTEN_AFTER_MS)).execute(connection).await;
    forget.map(drop).map_err(|e| unavailable(&e))
}

/// Every follower, by identity and process.
pub(super) async fn read(connection: &mut Connection) -> Result<Vec<FollowerAck>, StoreError> {
    let found = sqlx::query_as::<_, (String, String, String, i64, i64)>(READ).fetch_all(connection).await;
    let ack = |(identity, process, instance, generation, silent): (String, String, String, i64, i64)| {
        Ok(FollowerAck {
            identity: parsed("followers", &identity)?,
            process,
            instance,
            generation: generation.unsigned_abs(),
            silent: Duration::from_millis(u64::try_from(silent).unwrap_or(0)),
        })
    };
    found.map_err(|e| unavailable(&e))?.into_iter().map(ack).collect()
}

/// Long after it stopped to count, so that it was an alarm for days.
const FORGOTTEN_AFTER_MS: u64 = 7 * 24 * 3600 * 1000;
const FORGET: &str = concat!("DELETE FROM followers WHERE heard < ", now!(), " - $1");

const WRITE: &str = concat!(
    "INSERT INTO followers (identity, process, instance, generation, heard)
     SELECT value ->> 0, value ->> 1, $2, CAST(value ->> 2 AS BIGINT), ",
    now!(),
    " - CAST(value ->> 3 AS BIGINT) FROM ",
    rows!(),
    " WHERE true ON CONFLICT (identity, process) DO UPDATE SET
        instance = excluded.instance, generation = excluded.generation, heard = excluded.heard
      WHERE excluded.heard >= followers.heard"
);

const READ: &str = concat!(
    "SELECT identity, process, instance, generation, ",
    now!(),
    " - heard FROM followers ORDER BY identity, process"
);
