//! The links on the HSM's host: what the server itself would meet when it starts.

use std::{path::Path, time::Duration};

use tokio::{task::spawn_blocking, time::timeout};

use super::link::Chain;
use crate::{
    app::pin_is_marked,
    config::{self, Config, ConfigError, Device, Hsm},
    hsm::{
        pin::PinSource,
        pkcs11::{Modules, PinState, SeenToken, TokenSelector},
        yubikey::{PinTries, SeenYubikey, look},
    },
};

pub(super) async fn walk(chain: &mut Chain, path: &Path, loaded: Result<Config, ConfigError>) {
    chain.begin("this machine");
    let config = match loaded {
        Ok(config) => config,
        Err(error) => {
            let next = format!("hallmark check-config --config {}", path.display());
            return chain.failed("configuration", &error.to_string(), &next);
        }
    };
    chain.good("configuration", format!("`{}` can be read, with {} clients", path.display(), config.clients.len()));
    for warning in &config.warnings {
        chain.doubtful("configuration", warning.to_string().replace('\n', "; "), None);
    }
    for hsm in &config.hsms {
        let serial = token(chain, hsm).await;
        pin(chain, &config, hsm, serial.as_deref()).await;
    }
}

/// What holds the keys; gives its serial.
async fn token(chain: &mut Chain, hsm: &Hsm) -> Option<String> {
    match &hsm.device {
        Device::Pkcs11(pkcs11) => module(chain, hsm, pkcs11).await,
        Device::Yubikey(yubikey) => self::yubikey(chain, hsm, yubikey.serial).await,
    }
}

async fn yubikey(chain: &mut Chain, hsm: &Hsm, serial: Option<u32>) -> Option<String> {
    let name = format!("HSM {}", hsm.name);
    // The service for smart cards may hang.
    match timeout(PATIENCE, spawn_blocking(move || look(serial))).await {
        Ok(Ok(Ok(SeenYubikey { serial, firmware, reader, pin }))) => {
            chain.good(&name, format!("`{reader}` has the YubiKey with serial `{serial}`, firmware {firmware}"));
            let state = match pin {
                PinTries::Left(0) => PinState::Locked,
                PinTries::Left(1) => PinState::FinalTry,
                PinTries::Left(_) | PinTries::InUse => PinState::Ready,
            };
            pin_state(chain, &format!("{name} PIN"), state);
            Some(serial.to_string())
        }
        Ok(Ok(Err(fault))) => {
            chain.failed(&name, &fault.to_string(), "ykman list");
            None
        }
        Ok(Err(_)) | Err(_) => {
            let what = format!("PC/SC did not answer within {} s", PATIENCE.as_secs());
            chain.broken(&name, what, "systemctl restart pcscd");
            None
        }
    }
}

/// Module and token.
async fn module(chain: &mut Chain, hsm: &Hsm, pkcs11: &config::Pkcs11) -> Option<String> {
    let (name, module) = (format!("HSM {}", hsm.name), pkcs11.module.clone());
    let selector = match &pkcs11.token {
        config::TokenSelector::Serial(serial) => TokenSelector::Serial(serial.clone()),
        config::TokenSelector::Label(label) => TokenSelector::Label(label.clone()),
    };
    // A library may hang.
    let looked = spawn_blocking(move || {
        let module = Modules::default().load(&module).map_err(|error| error.to_string())?;
        module.look(&selector).map_err(|fault| fault.to_string())
    });
    let path = pkcs11.module.display();
    match timeout(PATIENCE, looked).await {
        Ok(Ok(Ok(SeenToken { serial, label, pin }))) => {
            chain.good(&name, format!("`{path}` loads, and has the token `{label}` (serial `{serial}`)"));
            pin_state(chain, &format!("{name} PIN"), pin);
            Some(serial)
        }
        Ok(Ok(Err(why))) => {
            chain.failed(&name, &why, "look at `module`, `token_serial` and `token_label` of the [[hsm]]");
            None
        }
        Ok(Err(_)) | Err(_) => {
            let what = format!("`{path}` did not answer within {} s", PATIENCE.as_secs());
            chain.broken(&name, what, "ask the HSM's own tools: pkcs11-tool --module MODULE --list-slots");
            None
        }
    }
}

fn pin_state(chain: &mut Chain, name: &str, pin: PinState) {
    match pin {
        PinState::Ready => {}
        PinState::Unknown => chain.doubtful(name, "the token does not say how its PIN stands", None),
        PinState::NotSet => chain.broken(name, "the token has no user PIN yet", "set one with the HSM's tools"),
        PinState::FinalTry => {
            chain.broken(
                name,
                "one try is left before the token locks its PIN",
                "log in once with the HSM's own tools, which resets the count",
            );
        }
        PinState::Locked => {
            chain.broken(
                name,
                "the token has locked its PIN",
                "reset it with the HSM's tools, as its security officer",
            );
        }
    }
}

/// The source, and whether its PIN was refused before. The PIN itself is not tried: a doctor must not lock a token.
async fn pin(chain: &mut Chain, config: &Config, hsm: &Hsm, serial: Option<&str>) {
    let name = format!("HSM {} PIN", hsm.name);
    let credentials = std::env::var_os("CREDENTIALS_DIRECTORY");
    let source = PinSource::parse(&hsm.pin_source, credentials.as_deref().map(Path::new));
    let read = source.and_then(|source| Ok((source.renew_hint(), source.read()?.source_id)));
    let (renew, source_id) = match read {
        Ok(read) => read,
        Err(error) => return chain.failed(name, &error.to_string(), "look at `pin_source` of the [[hsm]]"),
    };
    let Some(serial) = serial else {
        return chain.good(name, "its source can be read");
    };
    match pin_is_marked(config, serial, &source_id).await {
        Ok(false) => chain.good(name, "its source can be read, and it was not refused before"),
        Ok(true) => chain.broken(name, "this PIN was tried before and not accepted, so it is not tried again", renew),
        Err(why) => {
            chain.good(&name, "its source can be read");
            chain.skipped(name, format!("whether it was refused before is not known: {why}"));
        }
    }
}

const PATIENCE: Duration = Duration::from_secs(20);
