//! What a sweep writes beside records: observed time, and what verifiers were told. Many rows come as one JSON text, so
//! that ten thousand of them are one statement.

use std::time::Duration;

use hallmark_core::{
    ports::{ClientState, MaxAge, Observation, StoreError},
    time::Timestamp,
};
use serde_json::json;

use super::{Connection, unavailable};
use crate::store::rows::{parsed, stored_millis};

/// Adds to the observed time of each key.
pub(super) async fn observe(connection: &mut Connection, observed: &[Observation]) -> Result<(), StoreError> {
    // So that no sum leaves the range: 34 years at once are observed by nobody.
    let millis = |millis: u64| stored_millis(millis.min(1 << 40));
    let rows = observed.iter().map(|o| json!([o.key.to_string(), millis(o.served_ms), millis(o.kept_ms)]));
    let add = concat!(
        "UPDATE keys SET served_for_ms = served_for_ms + seen.served, kept_for_ms = kept_for_ms + seen.kept
         FROM (SELECT value ->> 0 AS key, sum(CAST(value ->> 1 AS BIGINT)) AS served,
                      sum(CAST(value ->> 2 AS BIGINT)) AS kept FROM ",
        rows!(),
        " GROUP BY value ->> 0) AS seen WHERE keys.id = seen.key"
    );
    many(connection, add, rows.collect()).await
}

/// The state of each client whose high water is above `above`, by name.
pub(super) async fn client_states(
    connection: &mut Connection,
    above: Duration,
) -> Result<Vec<ClientState>, StoreError> {
    let states = "SELECT client, max_age_high_water_ms, lowered_at FROM client_states
                  WHERE max_age_high_water_ms > $1 ORDER BY client";
    let above = stored_millis(u64::try_from(above.as_millis()).unwrap_or(u64::MAX));
    let states = sqlx::query_as::<_, (String, i64, Option<i64>)>(states).bind(above).fetch_all(connection).await;
    let state = |(client, high_water, lowered): (String, i64, Option<i64>)| {
        Ok(ClientState {
            client: parsed("client_states", &client)?,
            max_age_high_water_ms: high_water.unsigned_abs(),
            lowered_at: lowered.map(Timestamp::from_millis),
        })
    };
    states.map_err(|e| unavailable(&e))?.into_iter().map(state).collect()
}

/// Raises the high water where it is lower, and takes back a mark that what is served now disagrees with.
pub(super) async fn raise_max_age(connection: &mut Connection, served: &[MaxAge]) -> Result<(), StoreError> {
    let raise = concat!(
        "INSERT INTO client_states (client, max_age_high_water_ms)
         SELECT value ->> 0, max(CAST(value ->> 1 AS BIGINT)) FROM ",
        rows!(),
        " GROUP BY value ->> 0
         ON CONFLICT (client) DO UPDATE SET
            max_age_high_water_ms = CASE WHEN excluded.max_age_high_water_ms > client_states.max_age_high_water_ms
                THEN excluded.max_age_high_water_ms ELSE client_states.max_age_high_water_ms END,
            lowered_at = CASE WHEN excluded.max_age_high_water_ms < client_states.max_age_high_water_ms
                THEN client_states.lowered_at END,
            lowered_to_ms = CASE WHEN excluded.max_age_high_water_ms < client_states.max_age_high_water_ms
                THEN excluded.max_age_high_water_ms END
         WHERE excluded.max_age_high_water_ms > client_states.max_age_high_water_ms
            OR excluded.max_age_high_water_ms > client_states.lowered_to_ms"
    );
    many(connection, raise, max_ages(served)).await
}

/// Lowers the high water where the old one has run out, else marks since when less is served.
pub(super) async fn lower_max_age(connection: &mut Connection, served: &[MaxAge]) -> Result<(), StoreError> {
    // Three cases, in this order: nothing smaller was served yet; it was, the old value has not run out, and what is served
    // now is more than what was then; it has run out. In the last one the most that was served since becomes the high
    // water, and what is served now may be less still.
    let lower = concat!(
        "UPDATE client_states SET
            max_age_high_water_ms = CASE WHEN lowered_at + max_age_high_water_ms <= now.ms
                THEN CASE WHEN lowered_to_ms > now.served THEN lowered_to_ms ELSE now.served END
                ELSE max_age_high_water_ms END,
            lowered_at = CASE WHEN lowered_at IS NULL THEN now.ms
                WHEN lowered_at + max_age_high_water_ms > now.ms THEN lowered_at
                WHEN lowered_to_ms > now.served THEN now.ms END,
            lowered_to_ms = CASE WHEN lowered_at IS NULL THEN now.served
                WHEN lowered_at + max_age_high_water_ms > now.ms THEN now.served
                WHEN lowered_to_ms > now.served THEN now.served END
         FROM (SELECT value ->> 0 AS name, max(CAST(value ->> 1 AS BIGINT)) AS served, ",
        now!(),
        " AS ms FROM ",
        rows!(),
        " GROUP BY value ->> 0) AS now
         WHERE client = now.name AND now.served < max_age_high_water_ms
            AND (lowered_at IS NULL OR now.served > lowered_to_ms OR lowered_at + max_age_high_water_ms <= now.ms)"
    );
    many(connection, lower, max_ages(served)).await
}

fn max_ages(served: &[MaxAge]) -> Vec<serde_json::Value> {
    served.iter().map(|s| json!([s.client.as_str(), stored_millis(s.max_age_ms)])).collect()
}

async fn many(
    connection: &mut Connection,
    statement: &'static str,
    rows: Vec<serde_json::Value>,
) -> Result<(), StoreError> {
    if rows.is_empty() {
        return Ok(());
    }
    let done = sqlx::query(statement).bind(serde_json::Value::Array(rows).to_string()).execute(connection).await;
    done.map_err(|e| unavailable(&e)).map(drop)
}
