//! PIN and PUK.

use super::Card;
use crate::{
    state::{Code, FACTORY_PIN, FACTORY_PUK},
    status::{Answer, Status},
    tlv::tlv,
};

pub(super) const PIN: u8 = 0x80;
pub(super) const PUK: u8 = 0x81;

impl Card<'_> {
    /// VERIFY: with data a try, without the question whether one is needed and how many are left; P1 `ff` logs out.
    pub(super) fn verify(&mut self, p1: u8, p2: u8, data: &[u8]) -> Answer {
        match (p1, p2, data.len()) {
            (0xff, PIN, 0) => self.session.pin = false,
            (0, PIN, 0) if self.session.pin => {}
            (0, PIN, 0) => return Err(Status::wrong(self.state.pin.left)),
            (0, PIN, CODE_LENGTH) => {
                self.session.pin = false;
                self.try_code(PIN, data)?;
                (self.session.pin, self.session.pin_just_now) = (true, true);
            }
            (0, PIN, _) => return Err(Status::WRONG_DATA),
            _ => return Err(Status::WRONG_PARAMETER),
        }
        Ok(Vec::new())
    }

    /// CHANGE REFERENCE DATA: the old one, then the new one.
    pub(super) fn change_code(&mut self, which: u8, data: &[u8]) -> Answer {
        let (old, new) = two_codes(data)?;
        self.try_code(which, old)?;
        self.code(which)?.value = new.to_vec();
        self.saved()
    }

    /// RESET RETRY COUNTER: the PUK, then the new PIN.
    pub(super) fn unblock_pin(&mut self, which: u8, data: &[u8]) -> Answer {
        let (puk, pin) = two_codes(data)?;
        if which != PIN {
            return Err(Status::WRONG_PARAMETER);
        }
        self.try_code(PUK, puk)?;
        self.state.pin = Code::new(pin, self.state.pin.tries);
        self.saved()
    }

    /// Yubico's SET PIN RETRIES: both go back to those of the factory.
    pub(super) fn set_tries(&mut self, pin: u8, puk: u8) -> Answer {
        self.need_management()?;
        if !self.session.pin {
            return Err(Status::NOT_ALLOWED);
        }
        if pin == 0 || puk == 0 {
            return Err(Status::WRONG_PARAMETER);
        }
        self.state.pin = Code::new(FACTORY_PIN, pin);
        self.state.puk = Code::new(FACTORY_PUK, puk);
        self.session.pin = false;
        self.saved()
    }

    /// Whether it is the factory's, how many tries there are, and how many are left.
    pub(super) fn code_metadata(&mut self, which: u8) -> Answer {
        let code = self.code(which)?;
        let factory: &[u8] = if which == PIN { FACTORY_PIN } else { FACTORY_PUK };
        let is_default = u8::from(code.value == factory);
        let tries = [code.tries, code.left];
        Ok([tlv(1, &[&[0xff]]), tlv(5, &[&[is_default]]), tlv(6, &[&tries])].concat())
    }

    /// The try is counted before anybody learns how it went.
    fn try_code(&mut self, which: u8, value: &[u8]) -> Result<(), Status> {
        let outcome = self.code(which)?.try_with(value);
        self.state.save()?;
        outcome
    }

    fn code(&mut self, which: u8) -> Result<&mut Code, Status> {
        match which {
            PIN => Ok(&mut self.state.pin),
            PUK => Ok(&mut self.state.puk),
            _ => Err(Status::NO_REFERENCE),
        }
    }
}

fn two_codes(data: &[u8]) -> Result<(&[u8], &[u8]), Status> {
    data.split_at_checked(CODE_LENGTH).filter(|(_, new)| new.len() == CODE_LENGTH).ok_or(Status::WRONG_DATA)
}

const CODE_LENGTH: usize = 8;
