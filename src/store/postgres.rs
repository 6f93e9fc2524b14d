//! Key records in a PostgreSQL database, for several replicas.

use std::{
    fmt,
    ops::{Deref, DerefMut},
    path::PathBuf,
    time::Duration,
};

use hallmark_core::ports::{Pending, StoreError};
use sqlx::{
    ConnectOptions as _, Connection as _, PgConnection, PgPool, Postgres,
    migrate::{MigrateError, Migrator},
    pool::PoolConnection,
    postgres::{PgConnectOptions, PgPoolOptions},
};
use tokio::time::timeout;

use super::{Runner, newer_schema, refused, unavailable};

/// The time, in milliseconds since the Unix epoch: the database's.
macro_rules! now {
    () => {
        "CAST(extract(epoch FROM clock_timestamp()) * 1000 AS BIGINT)"
    };
}

/// What keeps others from a row that is read until the transaction ends.
macro_rules! for_update {
    () => {
        " FOR UPDATE"
    };
}

/// The elements of the JSON array `$1`, each as `value`.
macro_rules! rows {
    () => {
        "json_array_elements(CAST($1 AS json)) AS elements(value)"
    };
}

/// A `value` that is a text.
macro_rules! text_row {
    () => {
        "value #>> '{}'"
    };
}

// One set of statements, compiled for each database.
#[path = "sql/approvals.rs"]
mod approvals;
#[path = "sql/changes.rs"]
mod changes;
#[path = "sql/followers.rs"]
mod followers;
mod lead;
#[path = "sql/logins.rs"]
mod logins;
#[path = "sql/paths.rs"]
mod paths;
mod place;
#[path = "sql/ports.rs"]
mod ports;
#[path = "sql/records.rs"]
mod records;
#[path = "sql/registrations.rs"]
mod registrations;
#[path = "sql/replicas.rs"]
mod replicas;
#[path = "sql/reports.rs"]
mod reports;
#[path = "sql/sweep.rs"]
mod sweep;
#[cfg(test)]
mod tests;

use PostgresStore as Store;

type Database = Postgres;
type Connection = PgConnection;

/// One moment for all that is read.
const BEGIN_READ: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
const BEGIN_WRITE: &str = "BEGIN";

static MIGRATIONS: Migrator = sqlx::migrate!("migrations/postgres");

/// Where the database is, and who asks.
#[derive(Clone, Debug)]
pub struct PostgresOptions {
    /// `postgres://user@host/database?sslmode=verify-full&sslrootcert=…`, or `postgres:///database?host=/run/postgresql`.
    /// Without a password.
    pub url: String,
    /// Holds the password; only its owner may read it. Read at start, and again when the database refuses what was read.
    pub password_file: Option<PathBuf>,
    /// This replica, by the name that it announces.
    pub instance: String,
    /// How long a replica goes on without the store. One that was not heard of for twice as long runs no change any more.
    pub lease: Duration,
}

/// Key records, changes and login attempts in a PostgreSQL database that several replicas share.
///
/// Every call ends within seconds, whatever the database does; connections are made again when they are needed.
pub struct PostgresStore {
    pool: PgPool,
    options: PostgresOptions,
    runner: Runner,
}

impl PostgresStore {
    /// Connects, and brings the tables up to date. Changes that this instance was running when it last ended are set to
    /// failed, so that the same request can take them up again.
    pub async fn open(options: PostgresOptions) -> Result<Self, StoreError> {
        let connect = place::parse(&options)?;
        // By itself, not through the pool, which would say that it took too long and not why.
        let first = limit(MIGRATION_LIMIT, migrate(&options.url, &connect)).await.flatten();
        let failed = |e| StoreError::Unavailable(format!("`{}`: {e}{}", options.url, place::hint(&options, &e)));
        first.map_err(failed)??;
        let store = Self::lazily(options, connect);
        let mut call = store.connection().await?;
        changes::fail_interrupted(&mut call, &store.runner.instance).await?;
        call.end();
        Ok(store)
    }

    /// For a process that is no replica: changes nothing when it opens, and announces nothing.
    pub(super) async fn open_beside(options: PostgresOptions) -> Result<Self, StoreError> {
        let connect = place::parse(&options)?;
        let store = Self::lazily(options, connect);
        store.connection().await?.end();
        Ok(store)
    }

    fn lazily(options: PostgresOptions, connect: PgConnectOptions) -> Self {
        let pool = PgPoolOptions::new()
            .max_connections(CONNECTIONS)
            .acquire_timeout(ACQUIRE_LIMIT)
            .after_connect(|connection, _| Box::pin(check(connection)))
            .connect_lazy_with(connect);
        let runner = Runner { instance: options.instance.clone(), gone_after: Some(options.lease * 2) };
        Self { pool, options, runner }
    }

    /// Ends all connections.
    pub async fn close(self) {
        self.pool.close().await;
    }

    async fn connection(&self) -> Result<Call, StoreError> {
        match self.pool.acquire().await {
            Ok(connection) => Ok(Call(Some(connection))),
            Err(sqlx::Error::PoolTimedOut) => {
                // Where the network dropped connections without a word, the others in the pool are as dead.
                while let Some(idle) = self.pool.try_acquire() {
                    drop(idle.detach());
                }
                Err(StoreError::Unavailable(format!("no connection to the database within {ACQUIRE_LIMIT:?}")))
            }
            Err(error) => {
                if place::is_password_refused(&error) {
                    // For the next call: someone may have put a new one there.
                    self.pool.set_connect_options(place::parse(&self.options)?);
                }
                Err(unavailable(&error))
            }
        }
    }
}

/// How to connect, for whoever makes a connection of its own.
pub(super) fn connect_options(options: &PostgresOptions) -> Result<sqlx::postgres::PgConnectOptions, StoreError> {
    place::parse(options)
}

/// How many connections a replica has at most. Few: key changes are rare, and signing asks nothing.
const CONNECTIONS: u32 = 4;
/// How long to wait for a connection. Shorter than a lease, so that a replica finds out in time.
const ACQUIRE_LIMIT: Duration = Duration::from_secs(2);
/// How long a call may take, a connection included.
const CALL_LIMIT: Duration = Duration::from_secs(5);
/// How long the start may take. Replicas that start together bring the tables up to date one after the other.
const MIGRATION_LIMIT: Duration = Duration::from_secs(60);

/// A connection, for the time of one call. One that was dropped in the middle of it is closed: what it would answer next
/// is not known.
struct Call(Option<PoolConnection<Postgres>>);

impl Call {
    /// Gives it back.
    fn end(mut self) {
        drop(self.0.take());
    }
}

impl Drop for Call {
    fn drop(&mut self) {
        if let Some(connection) = self.0.take() {
            drop(connection.detach());
        }
    }
}

#[expect(clippy::expect_used, reason = "`Unwrap safety` below")]
impl Deref for Call {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        // Unwrap safety: it is taken by those who consume the call.
        self.0.as_ref().expect("a connection")
    }
}

#[expect(clippy::expect_used, reason = "`Unwrap safety` below")]
impl DerefMut for Call {
    fn deref_mut(&mut self) -> &mut Connection {
        // Unwrap safety: as above.
        self.0.as_mut().expect("a connection")
    }
}

fn limited<'a, T>(call: impl Future<Output = Result<T, StoreError>> + Send + 'a) -> Pending<'a, T>
where
    T: Send + 'a,
{
    Box::pin(async { limit(CALL_LIMIT, call).await.map_err(|e| unavailable(&e))? })
}

/// The error is that of a database which does not answer.
async fn limit<T>(limit: Duration, work: impl Future<Output = T>) -> Result<T, sqlx::Error> {
    let late = || sqlx::Error::Io(std::io::Error::new(std::io::ErrorKind::TimedOut, format!("no answer in {limit:?}")));
    timeout(limit, work).await.map_err(|_| late())
}

/// Refuses a database that is not the one to ask, and has it keep what it acknowledges.
async fn check(connection: &mut PgConnection) -> Result<(), sqlx::Error> {
    let standby = "SELECT pg_is_in_recovery() FROM
        (SELECT CASE WHEN current_setting('synchronous_commit') = 'off'
            THEN set_config('synchronous_commit', 'on', false) END) AS kept";
    match sqlx::query_scalar(standby).fetch_one(connection).await? {
        // Its records may be old: a key that was revoked would go on signing.
        true => Err(sqlx::Error::Configuration("this database is a standby; name the primary".into())),
        false => Ok(()),
    }
}

/// The outer error is that of the connection.
async fn migrate(url: &str, options: &PgConnectOptions) -> Result<Result<(), StoreError>, sqlx::Error> {
    // The wait for another replica's migration counts as a statement.
    let mut connection = options.clone().options([("statement_timeout", "0"), ("lock_timeout", "0")]).connect().await?;
    check(&mut connection).await?;
    let Err(error) = MIGRATIONS.run_direct(None, &mut connection, false).await else {
        return connection.close().await.map(Ok);
    };
    Ok(Err(match error {
        MigrateError::VersionMissing(_) => {
            let found = sqlx::query_scalar("SELECT max(version) FROM _sqlx_migrations");
            newer_schema(url, found.fetch_one(&mut connection).await?, &MIGRATIONS)
        }
        other => StoreError::Unavailable(format!("can't bring the tables of `{url}` up to date: {other}")),
    }))
}

impl fmt::Debug for PostgresStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresStore").field("url", &self.options.url).finish_non_exhaustive()
    }
}
