//! Login attempts in SQLite.

use hallmark_core::ports::{Pending, PinVerdict};

use super::{SqliteStore, unavailable};
use crate::store::LoginAttempts;

impl LoginAttempts for SqliteStore {
    fn mark<'a>(&'a self, token: &'a str, source: &'a str) -> Pending<'a, bool> {
        // One statement: of two callers at once, one sees no row changed.
        let mark = "INSERT INTO login_attempts (token, source, marked) VALUES (?1, ?2, 1)
                    ON CONFLICT (token, source) DO UPDATE SET marked = 1 WHERE marked = 0";
        Box::pin(async move {
            let done = sqlx::query(mark).bind(token).bind(source).execute(&self.pool).await;
            Ok(done.map_err(|e| unavailable(&e))?.rows_affected() == 1)
        })
    }

    fn settle<'a>(&'a self, token: &'a str, source: &'a str, verdict: PinVerdict) -> Pending<'a, ()> {
        let settle = match verdict {
            PinVerdict::Accepted => {
                "INSERT INTO login_attempts (token, source, marked, accepted) VALUES (?1, ?2, 0, 1)
                 ON CONFLICT (token, source) DO UPDATE SET marked = 0, accepted = 1"
            }
            PinVerdict::Refused => {
                "INSERT INTO login_attempts (token, source, marked, accepted) VALUES (?1, ?2, 1, 0)
                 ON CONFLICT (token, source) DO UPDATE SET marked = 1, accepted = 0"
            }
            PinVerdict::Unknown => {
                "UPDATE login_attempts SET marked = 0, accepted = 0 WHERE token = ?1 AND source = ?2 AND accepted = 1"
            }
            PinVerdict::NotTried => "UPDATE login_attempts SET marked = 0 WHERE token = ?1 AND source = ?2",
        };
        Box::pin(async move {
            let done = sqlx::query(settle).bind(token).bind(source).execute(&self.pool).await;
            done.map_err(|e| unavailable(&e)).map(drop)
        })
    }
}
