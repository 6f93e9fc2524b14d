//! What replicas say of their HSMs.

use std::{collections::BTreeSet, str::FromStr, time::Duration};

use hallmark_core::{
    key::{HsmName, KeyId},
    ports::{HsmReport, StoreError},
};
use serde_json::json;
use sqlx::Connection as _;
use uuid::Uuid;

use super::{BEGIN_WRITE, Connection, unavailable};
use crate::store::rows::{parsed, stored_millis};

/// Replaces what `instance` said before.
pub(super) async fn write(connection: &mut Connection, instance: &str, hsms: &[HsmReport]) -> Result<(), StoreError> {
    let mut tx = connection.begin_with(BEGIN_WRITE).await.map_err(|e| unavailable(&e))?;
    let forget = sqlx::query("DELETE FROM replica_hsms WHERE instance = $1").bind(instance);
    forget.execute(&mut *tx).await.map_err(|e| unavailable(&e))?;
    for HsmReport { hsm, up, leads, unusable, failed } in hsms {
        let unusable: Vec<_> = unusable.iter().map(ToString::to_string).collect();
        let row = sqlx::query(WRITE).bind(instance).bind(hsm.as_str()).bind(i64::from(*up)).bind(i64::from(*leads));
        let row = row.bind(json!(unusable).to_string()).bind(json!(failed).to_string());
        row.execute(&mut *tx).await.map_err(|e| unavailable(&e))?;
    }
    tx.commit().await.map_err(|e| unavailable(&e))
}

/// What everyone but `besides` said last, who was heard of within `within`.
pub(super) async fn read(
    connection: &mut Connection,
    besides: &str,
    within: Duration,
) -> Result<Vec<(String, HsmReport)>, StoreError> {
    let within = stored_millis(u64::try_from(within.as_millis()).unwrap_or(u64::MAX));
    let found = sqlx::query_as::<_, (String, String, i64, i64, String, String)>(READ).bind(within).bind(besides);
    let found = found.fetch_all(connection).await.map_err(|e| unavailable(&e))?;
    let report = |(instance, hsm, up, leads, unusable, failed): (_, String, _, _, String, String)| {
        let hsm: HsmName = parsed("replica_hsms", &hsm)?;
        let unusable = list::<Uuid>(&unusable)?.into_iter().map(KeyId).collect();
        Ok((instance, HsmReport { hsm, up: up != 0, leads: leads != 0, unusable, failed: list(&failed)? }))
    };
    found.into_iter().map(report).collect()
}

fn list<T: FromStr + Ord>(text: &str) -> Result<BTreeSet<T>, StoreError> {
    let corrupt = || StoreError::Corrupt(format!("replica_hsms: not a list: {text}"));
    let texts: Vec<String> = serde_json::from_str(text).map_err(|_| corrupt())?;
    texts.iter().map(|text| text.parse().map_err(|_| corrupt())).collect()
}

const WRITE: &str =
    "INSERT INTO replica_hsms (instance, hsm, up, leads, unusable, failed) VALUES ($1, $2, $3, $4, $5, $6)";

const READ: &str = concat!(
    "SELECT instance, hsm, up, leads, unusable, failed FROM replica_hsms WHERE instance <> $2
        AND instance IN (SELECT instance FROM replicas WHERE heard >= ",
    now!(),
    " - $1) ORDER BY instance, hsm"
);
