//! The login attempts alone, for a process that runs beside the server: it must not try a PIN that the server tried, nor
//! touch anything else of the server's.

use std::{path::PathBuf, sync::Arc, time::Duration};

use hallmark_core::ports::{Pending, PinVerdict, StoreError};

use super::{Attempt, LoginAttempts, PostgresOptions, PostgresStore, SqliteStore};

/// Opens what the server has as its store. The tables must be there: nothing is made or brought up to date.
pub async fn login_attempts(
    url: &str,
    password_file: Option<PathBuf>,
    lease: Duration,
) -> Result<Arc<dyn LoginAttempts>, StoreError> {
    if url == "sqlite::memory:" {
        let why = "the server's store is in its memory, where the tries of a PIN can't be told to each other\n\
                   hint: give `[store]` a file: `url = \"sqlite:///var/lib/hallmark/hallmark.db\"`";
        return Err(StoreError::Unavailable(why.into()));
    }
    if url.starts_with("sqlite:") {
        return Ok(Arc::new(Beside(SqliteStore::open_beside(url).await?)));
    }
    // It announces itself under no name, for it is no replica.
    let options = PostgresOptions { url: url.to_owned(), password_file, instance: String::new(), lease };
    Ok(Arc::new(Beside(PostgresStore::open_beside(options).await?)))
}

/// A store of which nothing else can be reached.
struct Beside<S>(S);

impl<S: LoginAttempts> LoginAttempts for Beside<S> {
    fn mark<'a>(&'a self, token: &'a str, source: &'a str, attempt: Attempt) -> Pending<'a, bool> {
        self.0.mark(token, source, attempt)
    }

    fn settle<'a>(&'a self, token: &'a str, source: &'a str, attempt: Attempt, verdict: PinVerdict) -> Pending<'a, ()> {
        self.0.settle(token, source, attempt, verdict)
    }
}
