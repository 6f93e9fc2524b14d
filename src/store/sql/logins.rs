//! Login attempts. `marked` is 0, or the number of the try whose marker it is; versions before numbers wrote 1.

use hallmark_core::ports::{PinVerdict, StoreError};

use super::{Connection, unavailable};
use crate::store::pin_ledger::Attempt;

/// Marks `source` as tried on `token`; `false` where another try has marked it already.
pub(super) async fn mark(
    connection: &mut Connection,
    token: &str,
    source: &str,
    attempt: Attempt,
) -> Result<bool, StoreError> {
    // One statement: of two callers at once, one sees no row changed.
    let mark = "INSERT INTO login_attempts (token, source, marked) VALUES ($1, $2, $3)
                ON CONFLICT (token, source) DO UPDATE SET marked = $3 WHERE login_attempts.marked IN (0, $3)";
    let done = sqlx::query(mark).bind(token).bind(source).bind(attempt.number()).execute(connection).await;
    Ok(done.map_err(|e| unavailable(&e))?.rows_affected() == 1)
}

/// Records how the try ended.
pub(super) async fn settle(
    connection: &mut Connection,
    token: &str,
    source: &str,
    attempt: Attempt,
    verdict: PinVerdict,
) -> Result<(), StoreError> {
    let settle = match verdict {
        PinVerdict::Accepted => {
            "INSERT INTO login_attempts (token, source, marked, accepted) VALUES ($1, $2, 0, 1)
             ON CONFLICT (token, source) DO UPDATE SET marked = 0, accepted = 1 WHERE login_attempts.marked IN (0, $3)"
        }
        // Whoever has marked it since: the PIN is wrong.
        PinVerdict::Refused => {
            "INSERT INTO login_attempts (token, source, marked, accepted) VALUES ($1, $2, $3, 0)
             ON CONFLICT (token, source) DO UPDATE SET marked = $3, accepted = 0"
        }
        PinVerdict::Unknown => {
            "UPDATE login_attempts SET marked = 0, accepted = 0
             WHERE token = $1 AND source = $2 AND marked = $3 AND accepted = 1"
        }
        PinVerdict::NotTried => "UPDATE login_attempts SET marked = 0 WHERE token = $1 AND source = $2 AND marked = $3",
    };
    let done = sqlx::query(settle).bind(token).bind(source).bind(attempt.number()).execute(connection).await;
    done.map_err(|e| unavailable(&e)).map(drop)
}
