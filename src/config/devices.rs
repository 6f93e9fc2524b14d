//! What an `[[hsm]]` section says.

use std::{collections::BTreeMap, path::PathBuf};

use hallmark_core::key::HsmName;

use super::CkaId;

/// `[[hsm]]`: what holds keys.
#[derive(Clone, Debug)]
pub struct Hsm {
    pub name: HsmName,
    pub device: Device,
    /// `file:/PATH`, `credential:NAME` or `fd:NUMBER` (RFC 7512 §2.3, `pin-source`). A reference, not the PIN.
    pub pin_source: String,
    /// How many sessions sign at once.
    pub workers: usize,
}

impl Hsm {
    /// Where it is a PKCS#11 token.
    pub fn pkcs11(&self) -> Option<&Pkcs11> {
        match &self.device {
            Device::Pkcs11(pkcs11) => Some(pkcs11),
            Device::Yubikey(_) => None,
        }
    }
}

/// What kind of thing it is, and how it is found.
#[derive(Clone, Debug)]
pub enum Device {
    Pkcs11(Pkcs11),
    Yubikey(Yubikey),
}

/// A PKCS#11 token.
#[derive(Clone, Debug)]
pub struct Pkcs11 {
    /// The PKCS#11 library.
    pub module: PathBuf,
    /// What the library wants in the environment.
    pub module_env: BTreeMap<String, String>,
    pub token: TokenSelector,
    /// The pair there that signs for Hallmark itself; `None`: one that Hallmark makes.
    pub custody_key: Option<CkaId>,
}

/// How a PKCS#11 token is told from others of its module.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TokenSelector {
    Serial(String),
    Label(String),
}

/// A YubiKey, reached through PC/SC.
#[derive(Clone, Debug)]
pub struct Yubikey {
    /// As printed on it; `None`: the only one that is plugged in.
    pub serial: Option<u32>,
    /// As `pin_source`, for the PIV management key in hex.
    pub management_key_source: String,
    /// The PIV slots that may hold keys, in the order in which keys go into them.
    pub slots: Vec<u8>,
    /// Those of them whose foreign keys and certificates may be replaced.
    pub overwrite: Vec<u8>,
}
