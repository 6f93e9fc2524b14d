//! A look at the store from beside the server that has it: takes no lock, changes nothing.

use std::{str::FromStr, time::Duration};

use hallmark_core::ports::StoreError;
use sqlx::{ConnectOptions, Connection, PgConnection, SqliteConnection, sqlite::SqliteConnectOptions};
use tokio::time::timeout;

use super::{PostgresOptions, postgres, unavailable};

/// Whether the PIN of `source` was tried on `token` and not accepted, or its try is under way: see
/// [`PinLedger`](hallmark_core::ports::PinLedger).
pub async fn pin_is_marked(store: &PostgresOptions, token: &str, source: &str) -> Result<bool, StoreError> {
    within(LONGEST_LOOK, look(store, token, source)).await
}

async fn within<T>(limit: Duration, look: impl Future<Output = Result<T, StoreError>>) -> Result<T, StoreError> {
    let late = |_| StoreError::Unavailable(format!("no answer within {limit:?}"));
    timeout(limit, look).await.map_err(late)?
}

async fn look(store: &PostgresOptions, token: &str, source: &str) -> Result<bool, StoreError> {
    let marked = if store.url.starts_with("sqlite:") {
        let mut file = open_file(store).await?;
        sqlx::query_scalar::<_, i64>(MARKED).bind(token).bind(source).fetch_one(&mut file).await
    } else {
        let mut database = open_database(store).await?;
        sqlx::query_scalar::<_, i64>(MARKED).bind(token).bind(source).fetch_one(&mut database).await
    };
    Ok(marked.map_err(|e| unavailable(&e))? > 0)
}

/// A public key that HSMs sign Hallmark's own statements with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CustodyKey {
    pub hsm: String,
    pub kid: String,
    pub state: String,
    /// DER SubjectPublicKeyInfo.
    pub spki: Vec<u8>,
}

/// The custody keys that were made so far.
pub async fn custody_keys(store: &PostgresOptions) -> Result<Vec<CustodyKey>, StoreError> {
    let rows: Result<Vec<Row>, _> = if store.url.starts_with("sqlite:") {
        let mut file = open_file(store).await?;
        sqlx::query_as(CUSTODY).fetch_all(&mut file).await
    } else {
        let mut database = open_database(store).await?;
        sqlx::query_as(CUSTODY).fetch_all(&mut database).await
    };
    let rows = rows.map_err(|e| unavailable(&e))?;
    Ok(rows.into_iter().map(|(hsm, kid, state, spki)| CustodyKey { hsm, kid, state, spki }).collect())
}

async fn open_file(store: &PostgresOptions) -> Result<SqliteConnection, StoreError> {
    let options = SqliteConnectOptions::from_str(&store.url).map_err(|e| unavailable(&e))?;
    let options = options.read_only(true).create_if_missing(false).disable_statement_logging();
    SqliteConnection::connect_with(&options).await.map_err(|e| unavailable(&e))
}

async fn open_database(store: &PostgresOptions) -> Result<PgConnection, StoreError> {
    let options = postgres::connect_options(store)?.disable_statement_logging();
    PgConnection::connect_with(&options).await.map_err(|e| unavailable(&e))
}

type Row = (String, String, String, Vec<u8>);

const CUSTODY: &str = "SELECT hsm, kid, state, spki FROM keys
    WHERE purpose = 'custody' AND kid IS NOT NULL AND spki IS NOT NULL ORDER BY ordinal";

const MARKED: &str = "SELECT count(*) FROM login_attempts WHERE token = $1 AND source = $2 AND marked <> 0";
/// A database that takes the connection and then says nothing would be waited for without end.
const LONGEST_LOOK: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    /// As behind a proxy whose database is gone.
    #[tokio::test]
    async fn a_silent_database_is_not_waited_for() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("postgres://hallmark@{}/hallmark?sslmode=disable", listener.local_addr().unwrap());
        let options = PostgresOptions { url, password_file: None, instance: String::new(), lease: LONGEST_LOOK };
        let limit = Duration::from_millis(50);
        let why = within(limit, look(&options, "serial", "source")).await.unwrap_err().to_string();
        assert!(why.contains("no answer within 50ms"), "{why}");
    }
}
