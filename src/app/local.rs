//! An HSM as a command opens it that runs on its host, beside the server.

use std::{path::PathBuf, sync::Arc};

use hallmark_core::ports::PinLedger;
use tokio::runtime::Handle;

use super::{StartError, build};
use crate::{
    config::{self, Config},
    hsm::pkcs11::{Modules, Pkcs11Token},
    store::{StorePinLedger, login_attempts},
};

/// The token of `[[hsm]]`, not connected. The PIN is tried by the ledger that the server goes by: once, whoever does it.
///
/// Its methods block, and must be called from a thread that the runtime can do without.
pub async fn local_token(config: &Config, hsm: &config::Hsm) -> Result<Pkcs11Token, StartError> {
    let pkcs11 = hsm.pkcs11().ok_or_else(|| {
        StartError::new(format!("HSM `{}` is a YubiKey", hsm.name), "this command works on PKCS#11 tokens alone")
    })?;
    let config::Store { url, password_file, lease } = config.store.clone();
    let attempts = login_attempts(&url, password_file, lease).await;
    let attempts = attempts.map_err(|error| StartError::new("can't open the key store for its PIN ledger", error))?;
    let ledger: Arc<dyn PinLedger> = Arc::new(StorePinLedger::new(attempts, Handle::current()));
    let credentials = std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
    build::open_token(hsm, pkcs11, &Modules::default(), credentials.as_deref(), &ledger)
}
