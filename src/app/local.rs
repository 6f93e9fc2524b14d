//! An HSM as a command opens it that runs on its host, beside the server.

use std::{path::PathBuf, sync::Arc};

use hallmark_core::ports::PinLedger;
use tokio::runtime::Handle;

use super::{StartError, hsms::open_token};
use crate::{
    config::{self, Config},
    hsm::pkcs11::{Modules, Pkcs11Token},
    store::{PinMarkers, StorePinLedger, login_attempts},
};

/// The token of `[[hsm]]`, not connected. The PIN is tried by the ledger that the server goes by: once, whoever does it.
///
/// Its methods block, and must be called from a thread that the runtime can do without.
pub async fn local_token(config: &Config, hsm: &config::Hsm) -> Result<Pkcs11Token, StartError> {
    let pkcs11 = hsm.pkcs11().ok_or_else(|| {
        StartError::new(format!("HSM `{}` is a YubiKey", hsm.name), "this command works on PKCS#11 tokens alone")
    })?;
    let ledger = store_ledger(config).await?;
    let credentials = std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
    open_token(hsm, pkcs11, &Modules::default(), credentials.as_deref(), &ledger)
}

/// The ledger of whoever logs in on the HSM's host beside a server: the store of its configuration, or, where there is no
/// configuration yet, files in the user's state folder (`$XDG_STATE_HOME/hallmark`, `~/.local/state/hallmark`).
pub async fn local_ledger(config: Option<&Config>) -> Result<Arc<dyn PinLedger>, StartError> {
    if let Some(config) = config {
        return store_ledger(config).await;
    }
    let absolute = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let state = absolute("XDG_STATE_HOME").or_else(|| Some(absolute("HOME")?.join(".local/state")));
    let failed = |why: &dyn std::fmt::Display| StartError::new("can't note which PIN is tried", why);
    let folder = state.ok_or_else(|| failed(&"neither XDG_STATE_HOME nor HOME names a folder"))?;
    let markers = PinMarkers::open(&folder.join("hallmark/pin-tries")).map_err(|error| failed(&error))?;
    Ok(Arc::new(markers))
}

async fn store_ledger(config: &Config) -> Result<Arc<dyn PinLedger>, StartError> {
    let config::Store { url, password_file, lease } = config.store.clone();
    let attempts = login_attempts(&url, password_file, lease).await;
    let attempts = attempts.map_err(|error| StartError::new("can't open the key store for its PIN ledger", error))?;
    Ok(Arc::new(StorePinLedger::new(attempts, Handle::current())))
}
