//! Where key sets are published.

use hallmark_core::ports::{PublishedPath, StoreError};
use serde_json::json;
use sqlx::Connection as _;

use super::{BEGIN_WRITE, Connection, unavailable};
use crate::store::rows::parsed;

/// Those that are not at their default path.
pub(super) async fn read(connection: &mut Connection) -> Result<Vec<PublishedPath>, StoreError> {
    let paths = "SELECT client, published_path FROM client_states WHERE published_path IS NOT NULL ORDER BY client";
    let paths = sqlx::query_as::<_, (String, String)>(paths).fetch_all(connection).await;
    let path = |(client, path): (String, String)| {
        Ok(PublishedPath { client: parsed("client_states", &client)?, path: Some(path) })
    };
    paths.map_err(|e| unavailable(&e))?.into_iter().map(path).collect()
}

/// Writes what is new.
pub(super) async fn write(connection: &mut Connection, paths: &[PublishedPath]) -> Result<(), StoreError> {
    let rows: Vec<_> = paths.iter().map(|at| json!([at.client.as_str(), at.path])).collect();
    let rows = serde_json::Value::Array(rows).to_string();
    let new = sqlx::query_scalar::<_, i64>(concat!("SELECT count(*) FROM ", new!())).bind(&rows);
    if new.fetch_one(&mut *connection).await.map_err(|e| unavailable(&e))? == 0 {
        return Ok(());
    }
    let mut tx = connection.begin_with(BEGIN_WRITE).await.map_err(|e| unavailable(&e))?;
    // First, as with every change of records.
    let moved = sqlx::query("UPDATE store_state SET generation = generation + 1").execute(&mut *tx).await;
    moved.map_err(|e| unavailable(&e))?;
    let write = concat!(
        "INSERT INTO client_states (client, max_age_high_water_ms, published_path)
         SELECT value ->> 0, 0, max(value ->> 1) FROM ",
        new!(),
        " GROUP BY value ->> 0
         ON CONFLICT (client) DO UPDATE SET published_path = excluded.published_path"
    );
    sqlx::query(write).bind(&rows).execute(&mut *tx).await.map_err(|e| unavailable(&e))?;
    tx.commit().await.map_err(|e| unavailable(&e))
}

/// The given paths that are not those of before.
macro_rules! new {
    () => {
        concat!(
            rows!(),
            " LEFT JOIN client_states ON client = value ->> 0 WHERE published_path IS DISTINCT FROM value ->> 1"
        )
    };
}
use new;
