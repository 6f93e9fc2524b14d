//! The HSMs of the configuration, and the pools before them.

use std::{
    collections::HashMap,
    fmt,
    path::{Path, PathBuf},
    sync::Arc,
};

use hallmark_core::{
    key::HsmName,
    ports::{Clock, Hsm, PinLedger},
};

use super::{StartError, observe::PoolObserver, settings::testing};
use crate::{
    config::{self, Config, Device},
    hsm::{
        pin::{PinError, PinSource},
        pkcs11::{self, Modules, Pkcs11Token},
        yubikey::{Access, Slot, YubikeyHsm, told_of_management_key},
    },
    pool::{Pool, Settings},
};

/// A pool for each `[[hsm]]`, connecting in the background.
pub(super) fn open_pools(
    config: &Config,
    ledger: &Arc<dyn PinLedger>,
    clock: &Arc<dyn Clock>,
    observer: &Arc<PoolObserver>,
) -> Result<HashMap<HsmName, Pool>, StartError> {
    let modules = Modules::default();
    let credentials = std::env::var_os("CREDENTIALS_DIRECTORY").map(PathBuf::from);
    let mut pools = HashMap::new();
    for hsm in &config.hsms {
        let token: Arc<dyn Hsm> = match &hsm.device {
            Device::Pkcs11(pkcs11) => Arc::new(open_token(hsm, pkcs11, &modules, credentials.as_deref(), ledger)?),
            Device::Yubikey(yubikey) => Arc::new(open_yubikey(hsm, yubikey, credentials.as_deref(), ledger)?),
        };
        let mut settings = Settings::new(hsm.name.clone(), hsm.workers);
        if let Some(stuck_after) = testing(config, |testing| testing.hsm_stuck_after) {
            settings = settings.scaled_to(stuck_after);
        }
        let pool = Pool::start(token, settings, clock.clone(), observer.clone());
        let pool = pool.map_err(|error| StartError::new(format!("HSM `{}`", hsm.name), error))?;
        pools.insert(hsm.name.clone(), pool);
    }
    Ok(pools)
}

/// The token of a `[[hsm]]` section, not connected.
pub(super) fn open_token(
    hsm: &config::Hsm,
    pkcs11: &config::Pkcs11,
    modules: &Modules,
    credentials: Option<&Path>,
    ledger: &Arc<dyn PinLedger>,
) -> Result<Pkcs11Token, StartError> {
    let failed = |why: &dyn fmt::Display| StartError::new(format!("HSM `{}`", hsm.name), why);
    let module = modules.load(&pkcs11.module).map_err(|error| failed(&error))?;
    let pin = readable(&hsm.pin_source, credentials).map_err(|error| failed(&error))?;
    let selector = match &pkcs11.token {
        config::TokenSelector::Serial(serial) => pkcs11::TokenSelector::Serial(serial.clone()),
        config::TokenSelector::Label(label) => pkcs11::TokenSelector::Label(label.clone()),
    };
    Ok(Pkcs11Token::new(module, selector, pin, ledger.clone()))
}

/// The YubiKey of a `[[hsm]]` section, not connected.
fn open_yubikey(
    hsm: &config::Hsm,
    yubikey: &config::Yubikey,
    credentials: Option<&Path>,
    ledger: &Arc<dyn PinLedger>,
) -> Result<YubikeyHsm, StartError> {
    let failed = |why: &dyn fmt::Display| StartError::new(format!("HSM `{}`", hsm.name), why);
    let pin = readable(&hsm.pin_source, credentials).map_err(|error| failed(&error))?;
    let management_key = readable(&yubikey.management_key_source, credentials);
    let management_key = management_key.map_err(|error| failed(&told_of_management_key(&error)))?;
    let slots = |numbers: &[u8]| numbers.iter().filter_map(|number| Slot::new(*number)).collect();
    let (slots, overwrite) = (slots(&yubikey.slots), slots(&yubikey.overwrite));
    let access = Access { serial: yubikey.serial, slots, overwrite };
    Ok(YubikeyHsm::new(access, pin, management_key, ledger.clone()))
}

/// A file that anyone can read is refused now, not at the first login.
fn readable(source: &str, credentials: Option<&Path>) -> Result<PinSource, PinError> {
    let source = PinSource::parse(source, credentials)?;
    drop(source.read()?);
    Ok(source)
}
