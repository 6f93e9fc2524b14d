//! A second handle to the card, for commands that the crate lacks, or that it would keep a PIN for.
//!
//! - **VERIFY**: the crate's keeps the PIN in memory that is not wiped, and its `reconnect` tries it again unasked.
//! - **VERIFY without a PIN**: the crate's selects the application first, which ends the PIN session that is asked for.
//! - **GET SERIAL** before SELECT: a YubiKey that another worker uses is told from the one that is looked for without
//!   ending its PIN session.
//! - **DELETE KEY** (firmware 5.7).
//!
//! What is verified or authenticated belongs to the card, not to a handle, as long as the card is shared.

use std::ffi::CStr;

use hallmark_core::ports::{FaultClass, HsmFault};
use pcsc::{Card, Context, Disposition, Protocols, ShareMode, Transaction};
use zeroize::Zeroizing;

use super::{
    classify::{BLOCKED, SUCCESS, pcsc_fault, status_fault},
    slot::Slot,
};

/// A shared connection to the card in one reader. Leaves the card as it is when it is dropped.
pub(super) struct Wire {
    card: Option<Card>,
}

/// How the PIN stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PinStatus {
    Verified,
    /// Not verified, and so many tries are left.
    Tries(u8),
}

/// What VERIFY said of a PIN.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Verified {
    Accepted,
    Refused {
        tries: u8,
    },
    /// It was not sent, for that is how the PIN stands.
    Withheld(PinStatus),
    /// It was not sent, for how the PIN stands could not be asked.
    Unasked(HsmFault),
}

impl Wire {
    pub(super) fn connect(context: &Context, reader: &CStr) -> Result<Self, HsmFault> {
        let card = context.connect(reader, ShareMode::Shared, Protocols::T0 | Protocols::T1);
        Ok(Self { card: Some(card.map_err(|error| pcsc_fault("SCardConnect", error))?) })
    }

    /// The serial, where PIV is the selected application; `None` where it is not.
    pub(super) fn serial(&mut self) -> Result<Option<u32>, HsmFault> {
        let answer = self.send("GET SERIAL", &[0, 0xf8, 0, 0, 0])?;
        let bytes: Option<[u8; 4]> = answer.data().try_into().ok();
        Ok(bytes.filter(|_| answer.status == SUCCESS).map(u32::from_be_bytes))
    }

    /// The firmware's version.
    pub(super) fn version(&mut self) -> Result<[u8; 3], HsmFault> {
        let answer = self.send("GET VERSION", &[0, 0xfd, 0, 0, 0])?;
        let version = answer.data().try_into().ok().filter(|_| answer.status == SUCCESS);
        version.ok_or_else(|| status_fault("GET VERSION", answer.status))
    }

    /// Selects PIV. Ends the PIN session, whoever began it.
    pub(super) fn select(&mut self) -> Result<(), HsmFault> {
        let answer = self.send("SELECT", &[0, 0xa4, 4, 0, 5, 0xa0, 0, 0, 3, 8, 0])?;
        match answer.status {
            SUCCESS => Ok(()),
            _ => Err(HsmFault::new(FaultClass::Gone, "SELECT", "the card has no PIV application")),
        }
    }

    /// Asks without trying anything (NIST SP 800-73-4 part 2, §3.2.1).
    pub(super) fn pin_status(&mut self) -> Result<PinStatus, HsmFault> {
        self.send(STATUS_OF_PIN.0, &STATUS_OF_PIN.1).and_then(|answer| status_of_pin(&answer))
    }

    /// Tries a PIN of 6 to 8 bytes where none is verified and more than `spared` tries are left. Nobody else comes between
    /// that question and the try. `Err` where the card did not look at it, or did not answer.
    pub(super) fn verify(&mut self, pin: &[u8], spared: u8) -> Result<Verified, HsmFault> {
        let mut apdu = Zeroizing::new([0xff_u8; 13]);
        apdu[..5].copy_from_slice(&[0, 0x20, 0, 0x80, 8]);
        match apdu.get_mut(5..5 + pin.len()) {
            Some(place) => place.copy_from_slice(pin),
            None => return Err(HsmFault::new(FaultClass::Pin, "VERIFY", "a YubiKey's PIN has at most 8 bytes")),
        }
        let alone = match self.alone(STATUS_OF_PIN.0) {
            Ok(alone) => alone,
            Err(fault) => return Ok(Verified::Unasked(fault)),
        };
        let status = transmit(&alone, STATUS_OF_PIN.0, &STATUS_OF_PIN.1).and_then(|answer| status_of_pin(&answer));
        match status {
            Ok(PinStatus::Tries(tries)) if tries > spared => {}
            Ok(other) => return Ok(Verified::Withheld(other)),
            Err(fault) => return Ok(Verified::Unasked(fault)),
        }
        let answer = transmit(&alone, "VERIFY", &*apdu)?;
        match answer.status {
            SUCCESS => Ok(Verified::Accepted),
            status => {
                let refused = tries(status).map(|tries| Verified::Refused { tries });
                refused.ok_or_else(|| status_fault("VERIFY", status))
            }
        }
    }

    /// Deletes the key in `slot`, but not its certificate; firmware 5.7 and later, with the management key authenticated.
    pub(super) fn delete(&mut self, slot: Slot) -> Result<(), HsmFault> {
        let answer = self.send("DELETE KEY", &[0, 0xf6, 0xff, slot.number(), 0])?;
        match answer.status {
            SUCCESS => Ok(()),
            status => Err(status_fault("DELETE KEY", status)),
        }
    }

    /// Ends the PIN session, so that nobody else on this machine signs with what we began.
    pub(super) fn end_pin_session(&mut self) {
        // Where the card is gone, so is the session.
        let _ = self.select();
    }

    fn send(&mut self, function: &'static str, apdu: &[u8]) -> Result<Answer, HsmFault> {
        transmit(&self.alone(function)?, function, apdu)
    }

    /// Keeps other programs from the card until the answer is dropped.
    fn alone(&mut self, function: &'static str) -> Result<Transaction<'_>, HsmFault> {
        let card = self.card.as_mut().ok_or_else(|| HsmFault::new(FaultClass::Session, function, "closed"))?;
        card.transaction().map_err(|error| pcsc_fault(function, error))
    }
}

fn transmit(card: &Transaction<'_>, function: &'static str, apdu: &[u8]) -> Result<Answer, HsmFault> {
    let mut answer = Answer { bytes: [0; 258], len: 0, status: 0 };
    let received = card.transmit(apdu, &mut answer.bytes).map_err(|error| pcsc_fault(function, error))?;
    let (len, status) = match received {
        [.., a, b] => (received.len() - 2, u16::from_be_bytes([*a, *b])),
        _ => return Err(HsmFault::new(FaultClass::Unspecific, function, "an answer without a status")),
    };
    (answer.len, answer.status) = (len, status);
    Ok(answer)
}

impl Drop for Wire {
    fn drop(&mut self) {
        if let Some(card) = self.card.take() {
            // It fails where the card is gone, and then there is nothing to leave.
            let _ = card.disconnect(Disposition::LeaveCard);
        }
    }
}

struct Answer {
    bytes: [u8; 258],
    len: usize,
    status: u16,
}

impl Answer {
    fn data(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// VERIFY without a PIN.
const STATUS_OF_PIN: (&str, [u8; 4]) = ("VERIFY", [0, 0x20, 0, 0x80]);

fn status_of_pin(answer: &Answer) -> Result<PinStatus, HsmFault> {
    match answer.status {
        SUCCESS => Ok(PinStatus::Verified),
        status => tries(status).map(PinStatus::Tries).ok_or_else(|| status_fault(STATUS_OF_PIN.0, status)),
    }
}

fn tries(status: u16) -> Option<u8> {
    match status {
        BLOCKED => Some(0),
        0x63c0..=0x63cf => Some((status & 0xf) as u8),
        _ => None,
    }
}
