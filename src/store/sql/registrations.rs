//! What registering clients gave.

use hallmark_core::{
    ports::{RegistrationResult, StoreError},
    time::Timestamp,
};
use sqlx::Connection as _;

use super::{BEGIN_WRITE, Connection, unavailable};
use crate::store::rows::parsed;

/// All of them, by client.
pub(super) async fn read(connection: &mut Connection) -> Result<Vec<RegistrationResult>, StoreError> {
    let all = "SELECT client, client_id, registration_uri, recorded FROM registrations ORDER BY client";
    let all = sqlx::query_as::<_, (String, String, Option<String>, i64)>(all).fetch_all(connection).await;
    let result = |(client, client_id, registration_uri, recorded): (String, String, Option<String>, i64)| {
        let (client, recorded) = (parsed("registrations", &client)?, Timestamp::from_millis(recorded));
        Ok(RegistrationResult { client, client_id, registration_uri, recorded })
    };
    all.map_err(|e| unavailable(&e))?.into_iter().map(result).collect()
}

/// Puts `result` in the place of what was there for its client, if that is still the client_id `before`.
pub(super) async fn write(
    connection: &mut Connection,
    result: &RegistrationResult,
    before: Option<&str>,
) -> Result<(), StoreError> {
    let mut tx = connection.begin_with(BEGIN_WRITE).await.map_err(|e| unavailable(&e))?;
    // First, as with every change of records.
    let moved = sqlx::query("UPDATE store_state SET generation = generation + 1").execute(&mut *tx).await;
    moved.map_err(|e| unavailable(&e))?;
    // Nobody else writes one before this transaction ends: it has the row that changes queue for.
    let there = sqlx::query_scalar::<_, String>("SELECT client_id FROM registrations WHERE client = $1");
    let there = there.bind(result.client.as_str()).fetch_optional(&mut *tx).await.map_err(|e| unavailable(&e))?;
    if there.as_deref() != before {
        let text = format!("another client_id was recorded for `{}` meanwhile", result.client);
        return Err(StoreError::Conflict(text));
    }
    let write = sqlx::query(
        "INSERT INTO registrations (client, client_id, registration_uri, recorded) VALUES ($1, $2, $3, $4)
         ON CONFLICT (client) DO UPDATE SET client_id = excluded.client_id,
            registration_uri = excluded.registration_uri, recorded = excluded.recorded",
    );
    let write = write.bind(result.client.as_str()).bind(&result.client_id).bind(result.registration_uri.as_deref());
    write.bind(result.recorded.millis()).execute(&mut *tx).await.map_err(|e| unavailable(&e))?;
    tx.commit().await.map_err(|e| unavailable(&e))
}
