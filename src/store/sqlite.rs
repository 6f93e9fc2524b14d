//! Key records in one SQLite file, for one replica.

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use hallmark_core::{
    key::{KeyId, KeyRecord},
    ports::{BegunChange, ChangeState, KeyChange, KeyStore, Pending, RecordUpdate, StoreError},
};
use sqlx::{
    SqlitePool,
    migrate::MigrateError,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};

use crate::lock::{LockError, ProcessLock};

mod changes;
mod logins;
mod records;
#[cfg(test)]
mod tests;

/// Key records, changes and login attempts in one SQLite file, or in memory for tests.
///
/// One process has the file at a time. What a method wrote is on the disk when it resolves.
pub struct SqliteStore {
    /// Of one connection: it is all that SQLite's one writer needs, and memory in use matters more than parallel reads.
    pool: SqlitePool,
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
        let options = place
            .options
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(BUSY_TIMEOUT)
            .statement_cache_capacity(STATEMENTS)
            .pragma("cache_size", PAGE_CACHE);
        // The connection is kept for good: with it an in-memory database would be lost.
        let pool = SqlitePoolOptions::new().max_connections(1).min_connections(1);
        let pool = pool.idle_timeout(None).max_lifetime(None).acquire_timeout(ACQUIRE_TIMEOUT);
        let pool = pool.connect_with(options).await.map_err(|e| open_failed(url, &e))?;
        sqlx::migrate!("migrations/sqlite").run(&pool).await.map_err(|e| migration_failed(url, &e))?;
        let store = Self { pool, _lock: lock };
        let mut connection = store.pool.acquire().await.map_err(|e| unavailable(&e))?;
        changes::fail_interrupted(&mut connection).await?;
        drop(connection);
        Ok(store)
    }

    /// Ends the connection and releases the file. Dropping the store does the same, a little later.
    pub async fn close(self) {
        self.pool.close().await;
    }
}

/// How long to wait for someone with a database shell open.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a call waits for those before it.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(10);
/// Prepared statements that are kept; about as many as there are in these files.
const STATEMENTS: usize = 24;
/// Negative: KiB, not pages. Holds all the records of a large installation.
const PAGE_CACHE: &str = "-512";

impl KeyStore for SqliteStore {
    fn records(&self) -> Pending<'_, Vec<KeyRecord>> {
        Box::pin(async {
            let mut connection = self.pool.acquire().await.map_err(|e| unavailable(&e))?;
            records::read_all(&mut connection).await
        })
    }

    fn apply<'a>(&'a self, insert: &'a [KeyRecord], update: &'a [RecordUpdate]) -> Pending<'a, ()> {
        Box::pin(async {
            let mut connection = self.pool.acquire().await.map_err(|e| unavailable(&e))?;
            records::apply(&mut connection, insert, update).await
        })
    }

    fn begin_change<'a>(&'a self, change: &'a KeyChange) -> Pending<'a, BegunChange> {
        Box::pin(async {
            let mut connection = self.pool.acquire().await.map_err(|e| unavailable(&e))?;
            changes::begin(&mut connection, change).await
        })
    }

    fn end_change<'a>(&'a self, id: &'a str, state: ChangeState, keys: &'a [KeyId]) -> Pending<'a, ()> {
        Box::pin(async move {
            let mut connection = self.pool.acquire().await.map_err(|e| unavailable(&e))?;
            changes::end(&mut connection, id, state, keys).await
        })
    }

    fn ping(&self) -> Pending<'_, ()> {
        Box::pin(async {
            // Reads the file: a constant would be answered without it.
            let read = sqlx::query("SELECT 1 FROM keys LIMIT 1").fetch_optional(&self.pool).await;
            read.map_err(|e| unavailable(&e)).map(drop)
        })
    }
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

fn migration_failed(url: &str, error: &MigrateError) -> StoreError {
    let hint = match error {
        MigrateError::VersionMissing(_) => "\nhint: a newer Hallmark made it; run that version, or restore a backup",
        _ => "",
    };
    StoreError::Unavailable(format!("can't bring the tables of `{url}` up to date: {error}{hint}"))
}

fn unavailable(error: &sqlx::Error) -> StoreError {
    StoreError::Unavailable(error.to_string())
}

/// A constraint that `what` would break is a conflict; anything else, the database's failure.
fn refused(error: &sqlx::Error, what: &str) -> StoreError {
    match error.as_database_error() {
        Some(e) if e.is_unique_violation() || e.is_foreign_key_violation() || e.is_check_violation() => {
            StoreError::Conflict(format!("{what}: {}", e.message()))
        }
        _ => unavailable(error),
    }
}
