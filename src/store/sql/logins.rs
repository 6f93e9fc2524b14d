//! Login attempts.

use hallmark_core::ports::{PinVerdict, StoreError};

use super::{Connection, unavailable};

/// Marks `source` as tried on `token`; `false` where it was marked already.
pub(super) async fn mark(connection: &mut Connection, token: &str, source: &str) -> Result<bool, StoreError> {
    // One statement: of two callers at once, one sees no row changed.
    let mark = "INSERT INTO login_attempts (token, source, marked) VALUES ($1, $2, 1)
                ON CONFLICT (token, source) DO UPDATE SET marked = 1 WHERE login_attempts.marked = 0";
    let done = sqlx::query(mark).bind(token).bind(source).execute(connection).await;
    Ok(done.map_err(|e| unavailable(&e))?.rows_affected() == 1)
}

/// Records how the try ended.
pub(super) async fn settle(
    connection: &mut Connection,
    token: &str,
    source: &str,
    verdict: PinVerdict,
) -> Result<(), StoreError> {
    let settle = match verdict {
        PinVerdict::Accepted => {
            "INSERT INTO login_attempts (token, source, marked, accepted) VALUES ($1, $2, 0, 1)
             ON CONFLICT (token, source) DO UPDATE SET marked = 0, accepted = 1"
        }
        PinVerdict::Refused => {
            "INSERT INTO login_attempts (token, source, marked, accepted) VALUES ($1, $2, 1, 0)
             ON CONFLICT (token, source) DO UPDATE SET marked = 1, accepted = 0"
        }
        PinVerdict::Unknown => {
            "UPDATE login_attempts SET marked = 0, accepted = 0 WHERE token = $1 AND source = $2 AND accepted = 1"
        }
        PinVerdict::NotTried => "UPDATE login_attempts SET marked = 0 WHERE token = $1 AND source = $2",
    };
    let done = sqlx::query(settle).bind(token).bind(source).execute(connection).await;
    done.map_err(|e| unavailable(&e)).map(drop)
}
