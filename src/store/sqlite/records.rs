//! Key records in SQLite.

use std::{collections::HashMap, fmt::Display, str::FromStr};

use hallmark_core::{
    key::{KeyId, KeyRecord, KeyState, KeyTimes, PublicPart},
    ports::{RecordUpdate, StoreError},
    public_key::PublicKey,
    time::Timestamp,
};
use sqlx::{Connection, Row, Sqlite, SqliteConnection, query::Query, sqlite::SqliteArguments, sqlite::SqliteRow};
use uuid::Uuid;

use super::{refused, unavailable};

/// All records, in the order of creation.
pub(super) async fn read_all(connection: &mut SqliteConnection) -> Result<Vec<KeyRecord>, StoreError> {
    // One transaction: records and certificates of the same moment.
    let mut tx = connection.begin().await.map_err(|e| unavailable(&e))?;
    let mut chains = HashMap::<String, Vec<Vec<u8>>>::new();
    let certificates = sqlx::query("SELECT key_id, der FROM certificates ORDER BY key_id, position");
    for row in certificates.fetch_all(&mut *tx).await.map_err(|e| unavailable(&e))? {
        let der = row.try_get("der").map_err(|e| unavailable(&e))?;
        chains.entry(row.try_get("key_id").map_err(|e| unavailable(&e))?).or_default().push(der);
    }
    let rows = sqlx::query("SELECT * FROM keys ORDER BY ordinal").fetch_all(&mut *tx).await;
    let rows = rows.map_err(|e| unavailable(&e))?;
    tx.commit().await.map_err(|e| unavailable(&e))?;
    rows.iter().map(|row| from_row(row, &mut chains)).collect()
}

/// Writes `insert` and `update` in one transaction.
pub(super) async fn apply(
    connection: &mut SqliteConnection,
    insert: &[KeyRecord],
    update: &[RecordUpdate],
) -> Result<(), StoreError> {
    let mut tx = connection.begin_with("BEGIN IMMEDIATE").await.map_err(|e| unavailable(&e))?;
    // SQLite checks a unique index after each row: the key that stops signing goes before the one that starts.
    let (starting, others): (Vec<_>, Vec<_>) = update.iter().partition(|u| u.record.state == KeyState::Active);
    for update in others.into_iter().chain(starting) {
        overwrite(&mut tx, update).await?;
    }
    for record in insert {
        let written = bind(sqlx::query(INSERT), record).execute(&mut *tx).await;
        written.map_err(|e| refused(&e, &format!("key `{}`", record.id)))?;
        write_chain(&mut tx, record).await?;
    }
    tx.commit().await.map_err(|e| unavailable(&e))
}

async fn overwrite(tx: &mut SqliteConnection, update: &RecordUpdate) -> Result<(), StoreError> {
    let RecordUpdate { from, record } = update;
    let written = bind(sqlx::query(UPDATE), record).bind(from.as_str()).execute(&mut *tx).await;
    if written.map_err(|e| refused(&e, &format!("key `{}`", record.id)))?.rows_affected() == 0 {
        let stored = sqlx::query_as::<_, (String, Option<String>)>("SELECT state, kid FROM keys WHERE id = ?1");
        let stored = stored.bind(record.id.to_string()).fetch_optional(&mut *tx).await.map_err(|e| unavailable(&e))?;
        return Err(StoreError::Conflict(match stored {
            None => format!("there is no key `{}`", record.id),
            Some((state, _)) if state != from.as_str() => {
                format!("key `{}` is `{state}`, and the change started from `{from}`", record.id)
            }
            Some((_, kid)) => format!("key `{}` has the kid `{}` for life", record.id, kid.unwrap_or_default()),
        }));
    }
    let emptied = sqlx::query("DELETE FROM certificates WHERE key_id = ?1").bind(record.id.to_string());
    emptied.execute(&mut *tx).await.map_err(|e| unavailable(&e))?;
    write_chain(tx, record).await
}

async fn write_chain(tx: &mut SqliteConnection, record: &KeyRecord) -> Result<(), StoreError> {
    for (position, der) in (0_i64..).zip(&record.certificate_chain) {
        let one = sqlx::query("INSERT INTO certificates (key_id, position, der) VALUES (?1, ?2, ?3)");
        let one = one.bind(record.id.to_string()).bind(position).bind(der.as_slice());
        one.execute(&mut *tx).await.map_err(|e| unavailable(&e))?;
    }
    Ok(())
}

const INSERT: &str = "INSERT INTO keys (id, client, alg, hsm, purpose, cka_id, label, kid, spki, state, served_for_ms,
    created, published, activated, deactivated, retired, compromised, destroyed, origin, kept_for_ms)
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13, ?14, ?15, ?16, ?17, ?18, ?19, ?20)";

/// A `kid` is fixed at birth and never pointed at another key, whatever the new version of the record says.
const UPDATE: &str = "UPDATE keys SET client = ?2, alg = ?3, hsm = ?4, purpose = ?5, cka_id = ?6, label = ?7, kid = ?8,
    spki = ?9, state = ?10, served_for_ms = ?11, created = ?12, published = ?13, activated = ?14, deactivated = ?15,
    retired = ?16, compromised = ?17, destroyed = ?18, origin = ?19, kept_for_ms = ?20
    WHERE id = ?1 AND state = ?21 AND (kid IS NULL OR (kid = ?8 AND spki = ?9))";

type Sql<'q> = Query<'q, Sqlite, SqliteArguments>;

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
}

/// More than 292 million years: no gate asks for that.
fn stored_millis(millis: u64) -> i64 {
    i64::try_from(millis).unwrap_or(i64::MAX)
}

fn from_row(row: &SqliteRow, chains: &mut HashMap<String, Vec<Vec<u8>>>) -> Result<KeyRecord, StoreError> {
    let id: String = row.try_get("id").map_err(|e| unavailable(&e))?;
    let certificate_chain = chains.remove(&id).unwrap_or_default();
    parse(row, &id, certificate_chain).map_err(|cause| StoreError::Corrupt(format!("key `{id}`: {cause}")))
}

/// The error is what is wrong with the row.
fn parse(row: &SqliteRow, id: &str, certificate_chain: Vec<Vec<u8>>) -> Result<KeyRecord, String> {
    let created = Timestamp::from_millis(row.try_get("created").map_err(text)?);
    let record = KeyRecord {
        id: KeyId(Uuid::parse_str(id).map_err(text)?),
        client: row
            .try_get::<Option<String>, _>("client")
            .map_err(text)?
            .map(|s| s.parse())
            .transpose()
            .map_err(text)?,
        alg: name(row, "alg")?,
        hsm: name(row, "hsm")?,
        purpose: name(row, "purpose")?,
        cka_id: row.try_get("cka_id").map_err(text)?,
        label: row.try_get("label").map_err(text)?,
        public: public_part(row)?,
        state: name(row, "state")?,
        served_for_ms: millis(row, "served_for_ms")?,
        kept_for_ms: millis(row, "kept_for_ms")?,
        times: KeyTimes {
            created,
            published: time(row, "published")?,
            activated: time(row, "activated")?,
            deactivated: time(row, "deactivated")?,
            retired: time(row, "retired")?,
            compromised: time(row, "compromised")?,
            destroyed: time(row, "destroyed")?,
        },
        origin: name(row, "origin")?,
        certificate_chain,
    };
    match &record.public {
        Some(public) if !public.key.suits(record.alg) => Err(format!("its public key can't do {}", record.alg)),
        _ => Ok(record),
    }
}

fn public_part(row: &SqliteRow) -> Result<Option<PublicPart>, String> {
    let kid: Option<String> = row.try_get("kid").map_err(text)?;
    let spki: Option<Vec<u8>> = row.try_get("spki").map_err(text)?;
    match (kid, spki) {
        (None, None) => Ok(None),
        (Some(kid), Some(spki)) => {
            let key = PublicKey::from_spki(&spki).map_err(text)?;
            Ok(Some(PublicPart { kid: kid.parse().map_err(text)?, key }))
        }
        _ => Err("it has a kid or a public key, but not both".into()),
    }
}

fn name<T: FromStr<Err: Display>>(row: &SqliteRow, column: &str) -> Result<T, String> {
    row.try_get::<String, _>(column).map_err(text)?.parse().map_err(text)
}

fn time(row: &SqliteRow, column: &str) -> Result<Option<Timestamp>, String> {
    Ok(row.try_get::<Option<i64>, _>(column).map_err(text)?.map(Timestamp::from_millis))
}

fn millis(row: &SqliteRow, column: &str) -> Result<u64, String> {
    u64::try_from(row.try_get::<i64, _>(column).map_err(text)?).map_err(text)
}

fn text(error: impl Display) -> String {
    error.to_string()
}
