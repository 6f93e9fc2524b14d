//! Where key records, key changes and login attempts are kept: SQLite for one replica, PostgreSQL for several.
//!
//! ```text
//! sqlite.rs          open, migrate; one connection
//!   sqlite/lead.rs      the sweep lock: a flag
//! postgres.rs        open, migrate; a pool of connections, and a time limit for each call
//!   postgres/lead.rs    the sweep lock: an advisory lock
//!   postgres/place.rs   URL and password
//! sql/               the ports, in statements that both databases know: each compiles them for itself
//!   sql/records.rs      key records
//!   sql/paths.rs        where key sets are published
//!   sql/changes.rs      operators' changes
//!   sql/approvals.rs    those that wait for a second operator
//!   sql/sweep.rs        observed time, and what verifiers were told
//!   sql/replicas.rs     who lives, and with which policy
//!   sql/reports.rs      what they say of their HSMs
//!   sql/followers.rs    what followers serve
//!   sql/logins.rs       login attempts
//! rows.rs            what a row says, and the record that it stands for
//! beside.rs          the login attempts alone, for commands that run beside the server
//! peek.rs            a look at login attempts and custody keys, from beside the server
//! pin_markers.rs     the same as files, where there is no store to ask
//! pin_ledger.rs      the synchronous `PinLedger` over any store's login attempts
//! ```

#![allow(clippy::duplicate_mod, reason = "sql/: one set of statements, compiled for each database")]

use std::{pin::Pin, time::Duration};

use hallmark_core::ports::{ApprovalStore, FollowerStore, KeyStore, ReplicaStore, StoreError, SweepStore};
use sqlx::migrate::Migrator;

mod beside;
mod peek;
mod pin_ledger;
mod pin_markers;
pub mod postgres;
mod rows;
pub mod sqlite;

pub use beside::login_attempts;
pub use peek::{CustodyKey, custody_keys, pin_is_marked};
pub use pin_ledger::{Attempt, LoginAttempts, StorePinLedger};
pub use pin_markers::PinMarkers;
pub use postgres::{PostgresOptions, PostgresStore};
pub use sqlite::SqliteStore;

/// Everything that a store keeps, whichever it is.
pub trait Store: KeyStore + ApprovalStore + SweepStore + ReplicaStore + FollowerStore + LoginAttempts {
    /// Ends its connections; what is asked afterwards is refused.
    fn close(&self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>>;
}

/// Who runs the changes that are begun here.
#[derive(Debug)]
struct Runner {
    instance: String,
    /// After what silence another instance's running changes count as failed; `None` where there is no other.
    gone_after: Option<Duration>,
}

/// The refusal of tables that a newer Hallmark has changed.
fn newer_schema(url: &str, found: i64, known: &Migrator) -> StoreError {
    let known = known.iter().map(|migration| migration.version).max().unwrap_or_default();
    StoreError::Unavailable(format!(
        "the tables of `{url}` are of version {found}, and this Hallmark knows them up to version {known}\n\
         hint: a newer Hallmark made them; run that version, or restore a backup"
    ))
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
