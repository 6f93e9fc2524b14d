//! Where key records, key changes and login attempts are kept: SQLite for one replica.
//!
//! ```text
//! sqlite.rs          open, migrate, `KeyStore` over one connection
//!   sqlite/records.rs   key records, read and written
//!   sqlite/changes.rs   operators' changes
//!   sqlite/logins.rs    login attempts
//! pin_ledger.rs      the synchronous `PinLedger` over any store's login attempts
//! ```

mod pin_ledger;
pub mod sqlite;

pub use pin_ledger::{LoginAttempts, StorePinLedger};
pub use sqlite::SqliteStore;
