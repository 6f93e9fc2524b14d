//! Whether a YubiKey is there, and what it says of its PIN. Tries nothing.

use hallmark_core::ports::HsmFault;

use super::{finding, wire::PinStatus};

/// A YubiKey as it shows itself to everyone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenYubikey {
    pub serial: u32,
    /// Such as `5.7.1`.
    pub firmware: String,
    pub reader: String,
    pub pin: PinTries,
}

/// How its PIN stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PinTries {
    /// Another program, or the server, has a PIN session; meanwhile the count is not told.
    InUse,
    Left(u8),
}

/// The YubiKey with `serial`, or the only one; the fault says what is there instead.
pub fn look(serial: Option<u32>) -> Result<SeenYubikey, HsmFault> {
    let mut found = finding::find(serial, &finding::Places::default())?;
    let [major, minor, patch] = found.wire.version()?;
    let pin = match found.wire.pin_status()? {
        PinStatus::Verified => PinTries::InUse,
        PinStatus::Tries(left) => PinTries::Left(left),
    };
    Ok(SeenYubikey {
        serial: found.serial,
        firmware: format!("{major}.{minor}.{patch}"),
        reader: found.reader.to_string_lossy().into_owned(),
        pin,
    })
}
