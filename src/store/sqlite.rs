//! Key records in one SQLite file, for one replica.

use std::{
    fmt, fs, io,
    ops::{Deref, DerefMut},
    path::{Path, PathBuf},
    str::FromStr,
    sync::{Arc, atomic::AtomicBool},
    time::Duration,
};

use hallmark_core::ports::{Pending, StoreError};
use sqlx::{
    Connection as _, Sqlite, SqliteConnection, SqlitePool,
    migrate::{MigrateError, Migrator},
    pool::PoolConnection,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};

use super::{Runner, newer_schema, refused, unavailable};
use crate::lock::{LockError, ProcessLock};

/// The time, in milliseconds since the Unix epoch: the machine's.
macro_rules! now {
    () => {
        "CAST(round(unixepoch('now', 'subsec') * 1000) AS INTEGER)"
    };
}

/// What takes part in a row that is read until the transaction ends: there is one writer.
macro_rules! for_update {
    () => {
        ""
    };
}

/// The elements of the JSON array `$1`, each as `value`.
macro_rules! rows {
    () => {
        "json_each($1)"
    };
}

/// A `value` that is a text.
macro_rules! text_row {
    () => {
        "value"
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

use SqliteStore as Store;

type Database = Sqlite;
type Connection = SqliteConnection;

const BEGIN_READ: &str = "BEGIN";
/// At once, or two that read first could each wait for the other to write.
const BEGIN_WRITE: &str = "BEGIN IMMEDIATE";

static MIGRATIONS: Migrator = sqlx::migrate!("migrations/sqlite");

/// Key records, changes and login attempts in one SQLite file, or in memory for tests.
///
/// One process has the file at a time. What a method wrote is on the disk when it resolves.
pub struct SqliteStore {
    /// Of one connection: it is all that SQLite's one writer needs, and memory in use matters more than parallel reads.
    pool: SqlitePool,
    runner: Runner,
    /// Whether someone holds the sweep lock.
    led: Arc<AtomicBool>,
    _lock: Option<ProcessLock>,
}

impl SqliteStore {
    /// Opens `sqlite:///path/to/file.db`, or `sqlite::memory:`; makes the file and brings its tables up to date.
    ///
    /// A second process on the same file is refused. Changes that were running when the last process ended are set
    /// to failed, so that the same request can take them up again.
    pub async fn open(url: &str) -> Result<Self, StoreError> {
        let place = Place::parse(url)?;
        let lock = place.path.as_deref().map(lock).transpose()?;
        let options = place.options.create_if_missing(true).journal_mode(SqliteJournalMode::Wal);
        let pool = connect(url, options, place.path.is_some()).await?;
        migrate(url, &pool).await?;
        // One process has the file, so that every change is its own.
        let runner = Runner { instance: String::new(), gone_after: None };
        let store = Self { pool, runner, led: Arc::default(), _lock: lock };
        changes::fail_interrupted(&mut *store.connection().await?, &store.runner.instance).await?;
        Ok(store)
    }

    /// Opens a file that another process has, and that must be there with its tables. For single statements that are
    /// no change of a key: SQLite's own locks are all that keeps the two apart.
    pub(super) async fn open_beside(url: &str) -> Result<Self, StoreError> {
        let place = Place::parse(url)?;
        let pool = connect(url, place.options.create_if_missing(false), place.path.is_some()).await?;
        let runner = Runner { instance: String::new(), gone_after: None };
        Ok(Self { pool, runner, led: Arc::default(), _lock: None })
    }

    /// Ends the connection and releases the file. Dropping the store does the same, a little later.
    pub async fn close(self) {
        self.pool.close().await;
    }
}

async fn connect(url: &str, options: SqliteConnectOptions, in_file: bool) -> Result<SqlitePool, StoreError> {
    let options = options
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .busy_timeout(BUSY_TIMEOUT)
        .statement_cache_capacity(STATEMENTS)
        .pragma("cache_size", PAGE_CACHE);
    // The connection is kept for good: with it an in-memory database would be lost.
    let pool = SqlitePoolOptions::new().max_connections(1).min_connections(1);
    let pool = pool.idle_timeout(None).max_lifetime(None).acquire_timeout(ACQUIRE_TIMEOUT);
    let pool = if in_file { pool.after_release(|c, _| Box::pin(is_whole(c))) } else { pool };
    pool.connect_with(options).await.map_err(|e| open_failed(url, &e))
}

/// How long to wait for someone with a database shell open.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a call waits for those before it.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(10);
/// Prepared statements that are kept; about as many as there are in these files.
const STATEMENTS: usize = 24;
/// Negative: KiB, not pages. Holds all the records of a large installation.
const PAGE_CACHE: &str = "-512";

impl SqliteStore {
    async fn connection(&self) -> Result<Call, StoreError> {
        Ok(Call(self.pool.acquire().await.map_err(|e| unavailable(&e))?))
    }
}

/// Whether the connection is in no transaction; one that is gets closed, and the pool opens another.
///
/// Where the disk is full SQLite ends a transaction by itself (<https://sqlite.org/lang_transaction.html> §3.1). The rollback that
/// follows is refused then, and sqlx goes on to believe that the transaction is open: no other could begin for good.
async fn is_whole(connection: &mut SqliteConnection) -> Result<bool, sqlx::Error> {
    if connection.is_in_transaction() {
        // A rollback may still be on its way.
        connection.ping().await?;
    }
    Ok(!connection.is_in_transaction())
}

/// The connection, for the time of one call.
struct Call(PoolConnection<Sqlite>);

impl Call {
    /// Gives it back.
    fn end(self) {}
}

impl Deref for Call {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.0
    }
}

impl DerefMut for Call {
    fn deref_mut(&mut self) -> &mut Connection {
        &mut self.0
    }
}

/// A file on this machine: nothing that a time limit would help against.
fn limited<'a, T>(call: impl Future<Output = Result<T, StoreError>> + Send + 'a) -> Pending<'a, T> {
    Box::pin(call)
}

impl fmt::Debug for SqliteStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SqliteStore").finish_non_exhaustive()
    }
}

/// What a URL names.
struct Place {
    options: SqliteConnectOptions,
    /// `None` in memory.
    path: Option<PathBuf>,
}

impl Place {
    fn parse(url: &str) -> Result<Self, StoreError> {
        let in_memory = url == "sqlite::memory:";
        let path = url.strip_prefix("sqlite://").filter(|path| !path.is_empty() && !path.contains(['?', '#']));
        if !in_memory && path.is_none() {
            return Err(StoreError::Unavailable(format!(
                "not a store that I know: `{url}`\nhint: write `sqlite:///var/lib/hallmark/hallmark.db`"
            )));
        }
        let options = SqliteConnectOptions::from_str(url).map_err(|e| open_failed(url, &e))?;
        let path = (!in_memory).then(|| options.get_filename().to_owned());
        Ok(Self { options, path })
    }
}

/// Locks a file beside the database. Not the database itself: SQLite has its own locks there, and closing another
/// descriptor of the same file would end them (<https://sqlite.org/howtocorrupt.html> §2.2).
fn lock(database: &Path) -> Result<ProcessLock, StoreError> {
    let mut path = real_path(database).map_err(|cause| {
        let folder = database.parent().unwrap_or(database).display();
        let text =
            format!("can't use `{}`: {cause}\nhint: make the folder first: `mkdir -p {folder}`", database.display());
        StoreError::Unavailable(text)
    })?;
    path.as_mut_os_string().push(".lock");
    ProcessLock::acquire(&path).map_err(|e| {
        let hint = match &e {
            LockError::Held { .. } => {
                "SQLite is for one replica; stop that process, or give this one its own `store.url`"
            }
            LockError::Io { .. } => "let Hallmark's user write to that folder",
        };
        StoreError::Unavailable(format!("{e}\nhint: {hint}"))
    })
}

/// The same for every path to the same file, so that a link does not lead past the lock.
fn real_path(path: &Path) -> io::Result<PathBuf> {
    if let Ok(real) = fs::canonicalize(path) {
        return Ok(real);
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = path.file_name().ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
    Ok(fs::canonicalize(folder)?.join(name))
}

fn open_failed(url: &str, error: &sqlx::Error) -> StoreError {
    StoreError::Unavailable(format!("can't open `{url}`: {error}"))
}

async fn migrate(url: &str, pool: &SqlitePool) -> Result<(), StoreError> {
    let Err(error) = MIGRATIONS.run(pool).await else { return Ok(()) };
    if let MigrateError::VersionMissing(_) = error {
        let found = sqlx::query_scalar("SELECT max(version) FROM _sqlx_migrations").fetch_one(pool).await;
        return Err(newer_schema(url, found.map_err(|e| unavailable(&e))?, &MIGRATIONS));
    }
    Err(StoreError::Unavailable(format!("can't bring the tables of `{url}` up to date: {error}")))
}
