//! Which YubiKey is imitated: what differs between firmwares.

use std::{str::FromStr, time::Duration};

/// One device.
#[derive(Clone, Debug)]
pub(crate) struct Model {
    pub(crate) firmware: Firmware,
    pub(crate) serial: u32,
    pub(crate) touch: Touch,
}

/// Major, minor, patch.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub(crate) struct Firmware(pub(crate) [u8; 3]);

/// The finger on the key.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Touch {
    /// Nobody is there: what needs a touch fails after [`NO_TOUCH`].
    Never,
    /// Comes so long after it was asked for.
    After(Duration),
}

/// A real key waits 15 s. Nobody learns more from a test that does.
pub(crate) const NO_TOUCH: Duration = Duration::from_millis(500);

pub(crate) const TRIPLE_DES: u8 = 0x03;
pub(crate) const AES_192: u8 = 0x0a;

pub(crate) const RSA_2048: u8 = 0x07;
pub(crate) const RSA_3072: u8 = 0x05;
pub(crate) const RSA_4096: u8 = 0x16;
pub(crate) const P_256: u8 = 0x11;
pub(crate) const P_384: u8 = 0x14;

impl Firmware {
    /// The algorithm of the factory's management key: AES-192 since 5.7.
    pub(crate) fn management_alg(self) -> u8 {
        if self.is_5_7() { AES_192 } else { TRIPLE_DES }
    }

    /// Whether keys of this algorithm can be made. Ed25519 and X25519 (5.7) and RSA-1024 are missing: piv-authenticator
    /// has none of them.
    pub(crate) fn makes(self, alg: u8) -> bool {
        match alg {
            RSA_2048 | P_256 | P_384 => true,
            RSA_3072 | RSA_4096 => self.is_5_7(),
            _ => false,
        }
    }

    /// Whether MOVE KEY, and with it DELETE KEY, is known.
    pub(crate) fn moves_keys(self) -> bool {
        self.is_5_7()
    }

    fn is_5_7(self) -> bool {
        self >= Self([5, 7, 0])
    }
}

impl FromStr for Firmware {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parts: Option<Vec<u8>> = text.split('.').map(|part| part.parse().ok()).collect();
        let parts = parts.and_then(|parts| parts.try_into().ok());
        parts.map(Self).ok_or_else(|| format!("not a firmware version: `{text}`\nhint: for instance 5.4.3 or 5.7.2"))
    }
}

impl FromStr for Touch {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "never" => Ok(Self::Never),
            _ => text
                .parse()
                .map(|ms| Self::After(Duration::from_millis(ms)))
                .map_err(|_| format!("neither `never` nor milliseconds: `{text}`")),
        }
    }
}
