//! The card as a caller sees it: a YubiKey's PIV application (SP 800-73-4 part 2, and Yubico's extensions to it).

mod codes;
mod keys;
mod management;
mod objects;
#[cfg(test)]
mod tests;

use std::{io, path::Path};

use crate::{
    keys::{Keys, PIV_AID},
    model::Model,
    state::{State, StateFile},
    status::{Answer, Status},
};

/// A card with power. What it must remember is in its folder before a command is answered.
pub(crate) struct Card<'a> {
    model: Model,
    keys: Keys<'a>,
    state: StateFile,
    session: Session,
}

/// What a reset or a SELECT makes it forget.
#[derive(Default)]
struct Session {
    selected: bool,
    pin: bool,
    /// The command before was a right VERIFY.
    pin_just_now: bool,
    management: bool,
    /// What the other side has to answer, to prove that it has the management key.
    expected: Option<Vec<u8>>,
}

impl<'a> Card<'a> {
    /// The card whose state is in `folder`; from the factory, where there is none.
    ///
    /// # Errors
    /// Where the state can't be read.
    pub(crate) fn new(model: Model, keys: Keys<'a>, folder: &Path) -> io::Result<Self> {
        let state = StateFile::open(folder, model.firmware)?;
        Ok(Self { model, keys, state, session: Session::default() })
    }

    /// Power off and on, or a reset.
    pub(crate) fn reset_session(&mut self) {
        self.session = Session::default();
    }

    /// As if another program had selected the application and gone.
    pub(crate) fn drop_pin_session(&mut self) {
        (self.session.pin, self.session.pin_just_now) = (false, false);
    }

    /// One command, whole: class, instruction, P1 and P2, and its data.
    pub(crate) fn command(&mut self, [class, instruction, p1, p2]: [u8; 4], data: &[u8]) -> Answer {
        let pin_just_now = std::mem::take(&mut self.session.pin_just_now);
        match (class, instruction) {
            (0, 0xa4) => self.select(data),
            (0, _) if !self.session.selected => Err(Status::NO_INSTRUCTION),
            (0, 0x20) => self.verify(p1, p2, data),
            (0, 0x24) => self.change_code(p2, data),
            (0, 0x2c) => self.unblock_pin(p2, data),
            (0, 0x47) => self.generate(p2, data),
            (0, 0x87) if p2 == 0x9b => self.authenticate_management(p1, data),
            (0, 0x87) => self.use_key(p1, p2, data, pin_just_now),
            (0, 0xcb) => self.get_object(data),
            (0, 0xdb) => self.put_object(data),
            (0, 0xf6) => self.move_key(p1, p2),
            (0, 0xf7) => self.metadata(p2),
            (0, 0xf8) => Ok(self.model.serial.to_be_bytes().to_vec()),
            (0, 0xf9) => self.attest(p1),
            (0, 0xfa) => self.set_tries(p1, p2),
            (0, 0xfb) => self.reset_application(),
            (0, 0xfd) => Ok(self.model.firmware.0.to_vec()),
            (0, 0xfe) => self.import(p1, p2, data),
            (0, 0xff) => self.set_management_key(data),
            (0, _) => Err(Status::NO_INSTRUCTION),
            _ => Err(Status::NO_CLASS),
        }
    }

    /// PIV alone, by its whole identifier or a beginning of it. Another application on a real key would end PIV's session
    /// too; here there is none.
    fn select(&mut self, aid: &[u8]) -> Answer {
        if aid.len() < RID_LENGTH || !(PIV_AID.starts_with(aid) || aid.starts_with(&PIV_AID[..PIV_LENGTH])) {
            return Err(Status::NOT_FOUND);
        }
        self.session = Session { selected: true, ..Session::default() };
        self.keys.select()
    }

    /// Back to the factory, once PIN and PUK are blocked.
    fn reset_application(&mut self) -> Answer {
        if self.state.pin.left > 0 || self.state.puk.left > 0 {
            return Err(Status::CONDITIONS);
        }
        *self.state = State::factory(self.model.firmware);
        self.session = Session { selected: true, ..Session::default() };
        self.saved()
    }

    fn need_management(&self) -> Result<(), Status> {
        if self.session.management { Ok(()) } else { Err(Status::NOT_ALLOWED) }
    }

    /// An empty answer, once the state is in its file.
    fn saved(&self) -> Answer {
        self.state.save()?;
        Ok(Vec::new())
    }
}

/// Of the registered provider's identifier, by which some clients select.
const RID_LENGTH: usize = 5;
/// Of the identifier without its version.
const PIV_LENGTH: usize = 9;
