//! The connection to a YubiKey. A card does one thing at a time, so all sessions share it.

use std::ffi::CString;

use hallmark_core::ports::{FaultClass, HsmFault};
use pcsc::Disposition;
use yubikey::{Version, YubiKey, reader::Context};

use super::{
    classify::fault,
    device::Shared,
    finding::{self, Found},
    inventory::Inventory,
    login::log_in,
    wire::Wire,
};

pub(super) struct Card {
    /// Given away when the connection ends.
    yubikey: Option<YubiKey>,
    pub(super) wire: Wire,
    pub(super) reader: CString,
    pub(super) serial: u32,
    pub(super) version: Version,
    /// As it was read last over this connection.
    inventory: Option<Inventory>,
}

impl Card {
    /// Connects to the YubiKey with `serial`, or to the only one, and begins a PIN session.
    pub(super) fn open(serial: Option<u32>, shared: &Shared) -> Result<Self, HsmFault> {
        let Found { reader, serial, wire } = finding::find(serial, &shared.places)?;
        let mut context = Context::open().map_err(|error| fault("SCardEstablishContext", error))?;
        let readers = context.iter().map_err(|error| fault("SCardListReaders", error))?;
        let mut same_name = readers.filter(|other| other.name() == reader.to_string_lossy());
        let yubikey = same_name.next().ok_or_else(|| gone("the reader went away"))?.open();
        let yubikey = yubikey.map_err(|error| fault("SELECT", error))?;
        let version = yubikey.version();
        let mut card = Self { yubikey: Some(yubikey), wire, reader, serial, version, inventory: None };
        card.check()?;
        shared.places.found_in(card.reader.clone());
        log_in(&shared.credentials, &mut card.wire, serial)?;
        Ok(card)
    }

    /// A new session: shows whether the connection and the PIN session still hold.
    pub(super) fn refresh(&mut self, shared: &Shared) -> Result<(), HsmFault> {
        log_in(&shared.credentials, &mut self.wire, self.serial)
    }

    pub(super) fn yubikey(&mut self) -> Result<&mut YubiKey, HsmFault> {
        self.yubikey.as_mut().ok_or_else(|| gone("the connection was closed"))
    }

    /// What is in the slots; read at first use, for that takes a second on a real one.
    pub(super) fn inventory(&mut self, shared: &Shared) -> Result<&mut Inventory, HsmFault> {
        let (yubikey, inventory) = (self.yubikey.as_mut(), &mut self.inventory);
        match inventory {
            Some(read) => Ok(read),
            None => {
                let yubikey = yubikey.ok_or_else(|| gone("the connection was closed"))?;
                Ok(inventory.insert(Inventory::read(yubikey, &shared.access.slots)?))
            }
        }
    }

    /// Both at once, where the one is to change by the other.
    pub(super) fn parts(&mut self) -> Result<(&mut YubiKey, Option<&mut Inventory>), HsmFault> {
        let yubikey = self.yubikey.as_mut().ok_or_else(|| gone("the connection was closed"))?;
        Ok((yubikey, self.inventory.as_mut()))
    }

    /// Forgets what was read of the slots.
    pub(super) fn outdate(&mut self) {
        self.inventory = None;
    }

    /// A failure of which the crate does not say what it was: another program may have selected another application.
    pub(super) fn explain(&mut self, failed: HsmFault) -> HsmFault {
        if failed.class != FaultClass::Unspecific {
            return failed;
        }
        match self.wire.serial() {
            Ok(Some(serial)) if serial == self.serial => failed,
            Ok(_) => {
                HsmFault { class: FaultClass::Session, code: format!("{}; PIV is not selected", failed.code), ..failed }
            }
            Err(why) => why,
        }
    }

    fn check(&self) -> Result<(), HsmFault> {
        let (version, serial) = (self.version, self.serial);
        if self.yubikey.as_ref().is_some_and(|yubikey| yubikey.serial().0 != serial) {
            return Err(gone("another YubiKey took its place just now"));
        }
        if version < OLDEST {
            return Err(gone(&format!(
                "YubiKey {serial} has firmware {version}, which does not tell what is in its slots\n\
                 hint: firmware {OLDEST} or later is needed; it can't be updated, so use another YubiKey"
            )));
        }
        Ok(())
    }
}

impl Drop for Card {
    fn drop(&mut self) {
        self.wire.end_pin_session();
        if let Some(yubikey) = self.yubikey.take() {
            // Dropped as it is it would reset the card, under other programs too.
            let _ = yubikey.disconnect(Disposition::LeaveCard);
        }
    }
}

fn gone(why: &str) -> HsmFault {
    HsmFault::new(FaultClass::Gone, "SELECT", why)
}

/// The first with GET METADATA.
pub(super) const OLDEST: Version = Version { major: 5, minor: 3, patch: 0 };
/// The first with DELETE KEY, and with RSA of 3072 and 4096 bits.
pub(super) const WITH_DELETE: Version = Version { major: 5, minor: 7, patch: 0 };
