//! A look at the store from beside the server that has it: takes no lock, changes nothing.

use std::str::FromStr;

use hallmark_core::ports::StoreError;
use sqlx::{ConnectOptions, Connection, PgConnection, SqliteConnection, sqlite::SqliteConnectOptions};

use super::{PostgresOptions, postgres, unavailable};

/// Whether the PIN of `source` was tried on `token` and not accepted, or its try is under way: see
/// [`PinLedger`](hallmark_core::ports::PinLedger).
pub async fn pin_is_marked(store: &PostgresOptions, token: &str, source: &str) -> Result<bool, StoreError> {
    let marked = if store.url.starts_with("sqlite:") {
        let options = SqliteConnectOptions::from_str(&store.url).map_err(|e| unavailable(&e))?;
        let options = options.read_only(true).create_if_missing(false).disable_statement_logging();
        let mut file = SqliteConnection::connect_with(&options).await.map_err(|e| unavailable(&e))?;
        sqlx::query_scalar::<_, i64>(MARKED).bind(token).bind(source).fetch_one(&mut file).await
    } else {
        let options = postgres::connect_options(store)?.disable_statement_logging();
        let mut database = PgConnection::connect_with(&options).await.map_err(|e| unavailable(&e))?;
        sqlx::query_scalar::<_, i64>(MARKED).bind(token).bind(source).fetch_one(&mut database).await
    };
    Ok(marked.map_err(|e| unavailable(&e))? > 0)
}

const MARKED: &str = "SELECT count(*) FROM login_attempts WHERE token = $1 AND source = $2 AND marked = 1";
