//! Whether options of `hallmark dev` ask for what its folder has already: the same line may be typed twice.

use hallmark_core::client::Client;

use super::{
    super::{
        Failure,
        args::{DevArgs, DevHsm, DevHsmArgs},
    },
    hsm::source,
};
use crate::config::{Config, Device};

/// Whether `config` has all that `args` name. What they leave out may be anything.
pub(super) fn has_all(config: &Config, args: &DevArgs) -> Result<bool, Failure> {
    let clients = args.clients.iter().all(|wanted| {
        let has = |client: &Client| {
            client.name.as_str() == wanted.name && client.keys.iter().any(|spec| spec.alg.as_str() == wanted.alg)
        };
        config.clients.iter().any(has)
    });
    let is_meant = |client: &&Client| {
        args.clients.is_empty() || args.clients.iter().any(|wanted| wanted.name == client.name.as_str())
    };
    let endpoint = args
        .token_endpoint
        .as_deref()
        .is_none_or(|wanted| config.clients.iter().filter(is_meant).all(|client| client.token_endpoint == wanted));
    Ok(clients && endpoint && has_hsm(config, &args.hsm)?)
}

fn has_hsm(config: &Config, args: &DevHsmArgs) -> Result<bool, Failure> {
    // It is what nobody asked for too.
    if args.hsm == DevHsm::Softhsm {
        return Ok(true);
    }
    let Some((hsm, Device::Yubikey(yubikey))) = config.hsms.first().map(|hsm| (hsm, &hsm.device)) else {
        return Ok(false);
    };
    let is = |option: &str, wanted: &Option<String>, there: &str| {
        wanted.as_deref().map_or(Ok(true), |wanted| Ok(source(option, Some(wanted))? == there))
    };
    Ok(args.serial.is_none_or(|serial| yubikey.serial == Some(serial))
        && is("--pin-source", &args.pin_source, &hsm.pin_source)?
        && is("--management-key-source", &args.management_key_source, &yubikey.management_key_source)?)
}
