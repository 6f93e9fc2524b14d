//! What a command may know of the store beside a server that has it open.

use crate::{
    config::{self, Config},
    store::{self, PostgresOptions},
};

pub use crate::store::CustodyKey;

/// The public custody keys in the store, of all HSMs and states. An error is a text.
pub async fn custody_keys(config: &Config) -> Result<Vec<CustodyKey>, String> {
    let config::Store { url, password_file, lease } = config.store.clone();
    let options = PostgresOptions { url, password_file, instance: "audit".to_owned(), lease };
    store::custody_keys(&options).await.map_err(|error| error.to_string())
}

/// Whether the PIN of `source` was tried on the token with that serial and not accepted, so that nobody tries it again.
/// An error is a text: the store is not there yet, or can't be read from here.
pub async fn pin_is_marked(config: &Config, serial: &str, source: &str) -> Result<bool, String> {
    let config::Store { url, password_file, lease } = config.store.clone();
    let options = PostgresOptions { url, password_file, instance: "doctor".to_owned(), lease };
    store::pin_is_marked(&options, serial, source).await.map_err(|error| error.to_string())
}
