//! Key records.

use std::collections::HashMap;

use hallmark_core::{
    key::{KeyId, KeyRecord, KeyState},
    ports::{Pulse, RecordUpdate, Snapshot, StoreError},
    time::Timestamp,
};
use sqlx::{Connection as _, query::Query};

use super::{BEGIN_READ, BEGIN_WRITE, Connection, Database, paths, refused, registrations, unavailable};
use crate::store::rows::{StoredKey, stored_millis};

/// All records, in the order of creation, with their certificates and the generation of the same moment.
pub(super) async fn read_all(connection: &mut Connection) -> Result<Snapshot, StoreError> {
    let mut tx = connection.begin_with(BEGIN_READ).await.map_err(|e| unavailable(&e))?;
    let generation: i64 = sqlx::query_scalar("SELECT generation FROM store_state")
        .fetch_one(&mut *tx)
        .await
        .map_err(|e| unavailable(&e))?;
    let mut chains = by_key(&mut tx, "SELECT key_id, der FROM certificates ORDER BY key_id, position").await?;
    let mut attestations = by_key(&mut tx, "SELECT key_id, der FROM attestations ORDER BY key_id, position").await?;
    let keys: Vec<StoredKey> = sqlx::query_as(SELECT).fetch_all(&mut *tx).await.map_err(|e| unavailable(&e))?;
    let paths = paths::read(&mut tx).await?;
    let registrations = registrations::read(&mut tx).await?;
    tx.commit().await.map_err(|e| unavailable(&e))?;
    let record = |key: StoredKey| {
        let chain = chains.remove(&key.id).unwrap_or_default();
        let attestation = attestations.remove(&key.id).unwrap_or_default();
        key.into_record(chain, attestation)
    };
    let records = keys.into_iter().map(record).collect::<Result<_, _>>()?;
    Ok(Snapshot { records, generation: generation.unsigned_abs(), paths, registrations })
}

/// DER certificates of all keys, in their order.
async fn by_key(tx: &mut Connection, select: &'static str) -> Result<HashMap<String, Vec<Vec<u8>>>, StoreError> {
    let rows: Vec<(String, Vec<u8>)> = sqlx::query_as(select).fetch_all(tx).await.map_err(|e| unavailable(&e))?;
    let mut found = HashMap::<String, Vec<Vec<u8>>>::new();
    for (key, der) in rows {
        found.entry(key).or_default().push(der);
    }
    Ok(found)
}

/// The generation, and what time it is there.
pub(super) async fn pulse(connection: &mut Connection) -> Result<Pulse, StoreError> {
    let pulse = sqlx::query_as::<_, (i64, i64)>(concat!("SELECT generation, ", now!(), " FROM store_state"));
    let (generation, now) = pulse.fetch_one(connection).await.map_err(|e| unavailable(&e))?;
    Ok(Pulse { generation: generation.unsigned_abs(), now: Timestamp::from_millis(now) })
}

/// Writes `insert` and `update` in one transaction.
pub(super) async fn apply(
    connection: &mut Connection,
    insert: &[KeyRecord],
    update: &[RecordUpdate],
) -> Result<(), StoreError> {
    if insert.is_empty() && update.is_empty() {
        return Ok(());
    }
    let mut tx = connection.begin_with(BEGIN_WRITE).await.map_err(|e| unavailable(&e))?;
    // First, for its row is the lock that changes queue for: in any other order two could wait for each other.
    let moved = sqlx::query("UPDATE store_state SET generation = generation + 1").execute(&mut *tx).await;
    moved.map_err(|e| unavailable(&e))?;
    // A unique index is checked after each row: the key that stops signing goes before the one that starts.
    let (starting, others): (Vec<_>, Vec<_>) = update.iter().partition(|u| u.record.state == KeyState::Active);
    for update in others.into_iter().chain(starting) {
        overwrite(&mut tx, update).await?;
    }
    for record in insert {
        let written = bind(sqlx::query(INSERT), record).execute(&mut *tx).await;
        written.map_err(|e| refused(&e, &format!("key `{}`", record.id)))?;
        write_chain(&mut tx, record.id, &record.certificate_chain).await?;
        write_attestation(&mut tx, record).await?;
    }
    tx.commit().await.map_err(|e| unavailable(&e))
}

async fn overwrite(tx: &mut Connection, update: &RecordUpdate) -> Result<(), StoreError> {
    let RecordUpdate { from, record, chain } = update;
    let written = bind(sqlx::query(UPDATE), record).bind(from.as_str()).bind(chain.is_some()).execute(&mut *tx).await;
    if written.map_err(|e| refused(&e, &format!("key `{}`", record.id)))?.rows_affected() == 0 {
        return Err(why_not(tx, update).await?);
    }
    // Nobody else writes any before this transaction ends: it has the row that changes queue for.
    if read_chain(tx, record.id).await? != record.certificate_chain {
        let text = format!("key `{}` has other certificates than those that the change started from", record.id);
        return Err(StoreError::Conflict(text));
    }
    write_attestation(tx, record).await?;
    let Some(chain) = chain else { return Ok(()) };
    let emptied = sqlx::query("DELETE FROM certificates WHERE key_id = $1").bind(record.id.to_string());
    emptied.execute(&mut *tx).await.map_err(|e| unavailable(&e))?;
    write_chain(tx, record.id, chain).await
}

/// Why no row was there to overwrite.
async fn why_not(tx: &mut Connection, update: &RecordUpdate) -> Result<StoreError, StoreError> {
    let RecordUpdate { from, record, .. } = update;
    let stored = sqlx::query_as::<_, (String, Option<String>)>("SELECT state, kid FROM keys WHERE id = $1");
    let stored = stored.bind(record.id.to_string()).fetch_optional(&mut *tx).await.map_err(|e| unavailable(&e))?;
    Ok(StoreError::Conflict(match stored {
        None => format!("there is no key `{}`", record.id),
        Some((state, _)) if state != from.as_str() => {
            format!("key `{}` is `{state}`, and the change started from `{from}`", record.id)
        }
        Some((_, kid)) => format!("key `{}` has the kid `{}` for life", record.id, kid.unwrap_or_default()),
    }))
}

async fn read_chain(tx: &mut Connection, key: KeyId) -> Result<Vec<Vec<u8>>, StoreError> {
    let chain = sqlx::query_scalar("SELECT der FROM certificates WHERE key_id = $1 ORDER BY position");
    chain.bind(key.to_string()).fetch_all(tx).await.map_err(|e| unavailable(&e))
}

async fn write_chain(tx: &mut Connection, key: KeyId, chain: &[Vec<u8>]) -> Result<(), StoreError> {
    for (position, der) in (0_i64..).zip(chain) {
        let one = sqlx::query("INSERT INTO certificates (key_id, position, der) VALUES ($1, $2, $3)");
        let one = one.bind(key.to_string()).bind(position).bind(der.as_slice());
        one.execute(&mut *tx).await.map_err(|e| unavailable(&e))?;
    }
    Ok(())
}

/// Written once, with the key's public half: what was attested of a key does not change.
async fn write_attestation(tx: &mut Connection, record: &KeyRecord) -> Result<(), StoreError> {
    for (position, der) in (0_i64..).zip(&record.attestation) {
        let one = sqlx::query(
            "INSERT INTO attestations (key_id, position, der) VALUES ($1, $2, $3) ON CONFLICT (key_id, position) DO NOTHING",
        );
        let one = one.bind(record.id.to_string()).bind(position).bind(der.as_slice());
        one.execute(&mut *tx).await.map_err(|e| unavailable(&e))?;
    }
    Ok(())
}

/// Names its columns: with `*`, a column that a newer Hallmark adds would break the statements of running replicas.
const SELECT: &str = "SELECT id, client, alg, hsm, purpose, cka_id, label, kid, spki, state, served_for_ms,
    created, published, activated, deactivated, retired, compromised, destroyed, origin, kept_for_ms,
    registered, rehearsed FROM keys ORDER BY ordinal";

const INSERT: &str = "INSERT INTO keys (id, client, alg, hsm, purpose, cka_id, label, kid, spki, state, served_for_ms,
    created, published, activated, deactivated, retired, compromised, destroyed, origin, kept_for_ms,
    registered, rehearsed)
    VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22)";

/// A `kid` is fixed at birth and never pointed at another key, whatever the new version of the record says. Nor does
/// observed time go back, unless it starts anew with another state. What operators confirmed is no move's to say, and one
/// confirmation takes back no other that came in meanwhile; new certificates ($24) are registered nowhere.
const UPDATE: &str = "UPDATE keys SET client = $2, alg = $3, hsm = $4, purpose = $5, cka_id = $6, label = $7,
    kid = $8, spki = $9, state = $10,
    served_for_ms = CASE WHEN served_for_ms > $11 THEN served_for_ms ELSE $11 END,
    created = $12, published = $13, activated = $14, deactivated = $15, retired = $16, compromised = $17,
    destroyed = $18, origin = $19,
    kept_for_ms = CASE WHEN state = $10 AND kept_for_ms > $20 THEN kept_for_ms ELSE $20 END,
    registered = CASE WHEN state <> $10 THEN registered WHEN $24 THEN $21 ELSE COALESCE($21, registered) END,
    rehearsed = CASE WHEN state = $10 THEN COALESCE($22, rehearsed) ELSE rehearsed END
    WHERE id = $1 AND state = $23 AND (kid IS NULL OR (kid = $8 AND spki = $9))";

type Sql<'q> = Query<'q, Database, <Database as sqlx::Database>::Arguments>;

fn bind<'q>(query: Sql<'q>, record: &'q KeyRecord) -> Sql<'q> {
    let millis = |time: Option<Timestamp>| time.map(Timestamp::millis);
    let (public, times) = (record.public.as_ref(), &record.times);
    query
        .bind(record.id.to_string())
        .bind(record.client.as_ref().map(|client| client.as_str()))
        .bind(record.alg.as_str())
        .bind(record.hsm.as_str())
        .bind(record.purpose.as_str())
        .bind(record.cka_id.as_slice())
        .bind(record.label.as_str())
        .bind(public.map(|public| public.kid.as_str()))
        .bind(public.map(|public| public.key.spki()))
        .bind(record.state.as_str())
        .bind(stored_millis(record.served_for_ms))
        .bind(times.created.millis())
        .bind(millis(times.published))
        .bind(millis(times.activated))
        .bind(millis(times.deactivated))
        .bind(millis(times.retired))
        .bind(millis(times.compromised))
        .bind(millis(times.destroyed))
        .bind(record.origin.as_str())
        .bind(stored_millis(record.kept_for_ms))
        .bind(millis(times.registered))
        .bind(millis(times.rehearsed))
}
