//! What the keys of `hallmark dev` are on, as its configuration says it.

use std::path::{Path, PathBuf};

use super::super::{
    Failure,
    args::{DevHsm, DevHsmArgs},
    failure,
};
use crate::config;

/// Where Linux distributions put SoftHSM.
const MODULES: [&str; 4] = [
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib64/pkcs11/libsofthsm2.so",
    "/usr/lib/pkcs11/libsofthsm2.so",
    "/usr/local/lib/softhsm/libsofthsm2.so",
];

/// What goes into the `[[hsm]]` section.
pub(super) enum Hsm {
    /// A token that is made in the folder, by this module.
    Softhsm(PathBuf),
    /// Nothing is made: PIN and management key are the owner's.
    Yubikey { serial: Option<u32>, pin_source: String, management_key_source: String },
}

impl Hsm {
    pub(super) fn choose(args: &DevHsmArgs) -> Result<Self, Failure> {
        match args.hsm {
            DevHsm::Softhsm if args.serial.is_some() || args.pin_source.is_some() => {
                Err(usage("a serial and a PIN source are for a YubiKey", "add `--hsm yubikey`, or leave them out"))
            }
            DevHsm::Softhsm => find_module().map(Self::Softhsm),
            DevHsm::Yubikey => Ok(Self::Yubikey {
                serial: args.serial,
                pin_source: source("--pin-source", args.pin_source.as_deref())?,
                management_key_source: source("--management-key-source", args.management_key_source.as_deref())?,
            }),
        }
    }

    /// Its name in the configuration.
    pub(super) fn name(&self) -> &'static str {
        match self {
            Self::Softhsm(_) => "softhsm",
            Self::Yubikey { .. } => "yubikey",
        }
    }
}

/// A reference that means the same from the configuration's folder.
pub(super) fn source(option: &str, text: Option<&str>) -> Result<String, Failure> {
    let text = text.ok_or_else(|| {
        let hint = "write it to a file of mode 0600, and name that: \
                    hallmark dev --hsm yubikey --pin-source file:PATH --management-key-source file:PATH";
        usage(&format!("a YubiKey needs `{option}`"), hint)
    })?;
    // What is refused is not shown: it may be the secret itself.
    config::typed_pin_source(text).ok_or_else(|| {
        let hint = "write `file:PATH`, `credential:NAME` (systemd) or `fd:NUMBER`; the secret itself never stands here";
        usage(&format!("{option} is not a reference"), hint)
    })
}

fn find_module() -> Result<PathBuf, Failure> {
    let found = MODULES.iter().map(Path::new).find(|path| path.exists());
    found.map(Path::to_owned).ok_or_else(|| {
        Failure::new("SoftHSM is not installed").hint("apt-get install softhsm2, or your system's package of it")
    })
}

fn usage(what: &str, hint: &str) -> Failure {
    Failure::new(what).hint(hint).with_exit_code(failure::USAGE)
}
