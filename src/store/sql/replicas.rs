//! Which replicas live, and with which policy.

use std::{collections::BTreeMap, fmt::Write as _, time::Duration};

use aws_lc_rs::digest::{Context, SHA256};
use hallmark_core::{
    ports::{ClientPolicy, PolicyDifference, Replica, Replicas, StoreError},
    time::Timestamp,
};
use serde_json::json;
use sqlx::Connection as _;

use super::{BEGIN_READ, BEGIN_WRITE, Connection, unavailable};
use crate::store::rows::{parsed, stored_millis};

/// Says that `instance` lives, and writes those of its policies that changed.
pub(super) async fn announce(
    connection: &mut Connection,
    instance: &str,
    policies: &[ClientPolicy],
) -> Result<(), StoreError> {
    let digest = of_all(policies);
    let mut tx = connection.begin_with(BEGIN_WRITE).await.map_err(|e| unavailable(&e))?;
    sqlx::query(FORGET).bind(stored_millis(FORGOTTEN_AFTER_MS)).execute(&mut *tx).await.map_err(|e| unavailable(&e))?;
    let known = sqlx::query_scalar::<_, Option<String>>("SELECT digest FROM replicas WHERE instance = $1");
    let known = known.bind(instance).fetch_optional(&mut *tx).await.map_err(|e| unavailable(&e))?;
    let lives = sqlx::query(ANNOUNCE).bind(instance).bind(&digest);
    lives.execute(&mut *tx).await.map_err(|e| unavailable(&e))?;
    if known.flatten().as_ref() != Some(&digest) {
        let rows = policies.iter().map(|policy| json!([policy.client.as_str(), policy.digest]));
        let rows = serde_json::Value::Array(rows.collect()).to_string();
        for statement in [DROP_POLICIES, WRITE_POLICIES] {
            let done = sqlx::query(statement).bind(&rows).bind(instance).execute(&mut *tx).await;
            done.map_err(|e| unavailable(&e))?;
        }
    }
    tx.commit().await.map_err(|e| unavailable(&e))
}

/// Says that `instance` lives; `false` where it did not announce itself.
pub(super) async fn heartbeat(connection: &mut Connection, instance: &str, serving: u64) -> Result<bool, StoreError> {
    let beat =
        concat!("UPDATE replicas SET heard = ", now!(), ", serving = $2 WHERE instance = $1 AND digest IS NOT NULL");
    let beat = sqlx::query(beat).bind(instance).bind(stored_millis(serving)).execute(connection).await;
    Ok(beat.map_err(|e| unavailable(&e))?.rows_affected() == 1)
}

/// Who was heard of within `within`, and where they differ.
pub(super) async fn replicas(connection: &mut Connection, within: Duration) -> Result<Replicas, StoreError> {
    let within = stored_millis(u64::try_from(within.as_millis()).unwrap_or(u64::MAX));
    let mut tx = connection.begin_with(BEGIN_READ).await.map_err(|e| unavailable(&e))?;
    let stored: Vec<(String, i64, i64, Option<String>)> =
        sqlx::query_as(LIVE).bind(within).fetch_all(&mut *tx).await.map_err(|e| unavailable(&e))?;
    let announced: Vec<_> = stored.iter().filter_map(|(name, _, _, digest)| Some((name, digest.as_ref()?))).collect();
    // The usual case costs a row a replica: all their policies together have one digest.
    let differing = if announced.windows(2).all(|pair| pair[0].1 == pair[1].1) {
        Vec::new()
    } else {
        differences(&mut tx, &announced.iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>()).await?
    };
    tx.commit().await.map_err(|e| unavailable(&e))?;
    let replica = |(instance, heard, serving, _): (String, i64, i64, _)| Replica {
        instance,
        heard: Timestamp::from_millis(heard),
        serving: serving.unsigned_abs(),
    };
    Ok(Replicas { live: stored.into_iter().map(replica).collect(), differing })
}

async fn differences(tx: &mut Connection, instances: &[&str]) -> Result<Vec<PolicyDifference>, StoreError> {
    let (names, count) = (json!(instances).to_string(), i64::try_from(instances.len()).unwrap_or(i64::MAX));
    let found = sqlx::query_as::<_, (String, String, String)>(DIFFERING).bind(names).bind(count);
    let mut by_client = BTreeMap::<String, BTreeMap<String, String>>::new();
    for (client, instance, digest) in found.fetch_all(tx).await.map_err(|e| unavailable(&e))? {
        by_client.entry(client).or_default().insert(instance, digest);
    }
    let difference = |(client, mut digests): (String, BTreeMap<String, String>)| {
        let of_each = instances.iter().map(|name| ((*name).to_owned(), digests.remove(*name)));
        Ok(PolicyDifference { client: parsed("replica_policies", &client)?, replicas: of_each.collect() })
    };
    by_client.into_iter().map(difference).collect()
}

/// One digest for all policies, whatever their order.
fn of_all(policies: &[ClientPolicy]) -> String {
    let mut sorted: Vec<_> = policies.iter().map(|policy| (policy.client.as_str(), policy.digest.as_str())).collect();
    sorted.sort_unstable();
    let mut context = Context::new(&SHA256);
    for (client, digest) in sorted {
        // A JSON text ends by itself: no two lists run together to the same bytes.
        context.update(json!([client, digest]).to_string().as_bytes());
    }
    context.finish().as_ref().iter().fold(String::new(), |mut hex, byte| {
        // Writing to a `String` can't fail.
        let _ = write!(hex, "{byte:02x}");
        hex
    })
}

/// A replica that was taken out of service leaves nothing behind.
const FORGOTTEN_AFTER_MS: u64 = 7 * 24 * 3600 * 1000;
const FORGET: &str = concat!("DELETE FROM replicas WHERE heard < ", now!(), " - $1");

const ANNOUNCE: &str = concat!(
    "INSERT INTO replicas (instance, heard, serving, digest) VALUES ($1, ",
    now!(),
    ", 0, $2) ON CONFLICT (instance) DO UPDATE SET heard = excluded.heard, serving = 0, digest = excluded.digest"
);

const DROP_POLICIES: &str = concat!(
    "DELETE FROM replica_policies WHERE instance = $2 AND client NOT IN (SELECT value ->> 0 FROM ",
    rows!(),
    ")"
);

const WRITE_POLICIES: &str = concat!(
    "INSERT INTO replica_policies (instance, client, digest) SELECT $2, value ->> 0, value ->> 1 FROM ",
    rows!(),
    " WHERE true ON CONFLICT (instance, client) DO UPDATE SET digest = excluded.digest
      WHERE replica_policies.digest <> excluded.digest"
);

const LIVE: &str =
    concat!("SELECT instance, heard, serving, digest FROM replicas WHERE heard >= ", now!(), " - $1 ORDER BY instance");

/// `$1`: the instances to compare, `$2`: how many.
const DIFFERING: &str = concat!(
    "WITH compared AS (SELECT client, instance, digest FROM replica_policies
        WHERE instance IN (SELECT ",
    text_row!(),
    " FROM ",
    rows!(),
    "))
     SELECT client, instance, digest FROM compared WHERE client IN
        (SELECT client FROM compared GROUP BY client HAVING count(*) < $2 OR min(digest) <> max(digest))"
);
