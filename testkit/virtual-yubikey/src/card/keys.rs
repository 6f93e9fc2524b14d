//! Keys in slots: their making, use, policies, metadata and end.

use std::thread;

use super::{
    Card,
    codes::{PIN, PUK},
};
use crate::{
    attestation,
    keys::{IMPORT_PLACE, PLACES},
    model::{NO_TOUCH, RSA_2048, RSA_3072, RSA_4096, Touch},
    state::{GENERATED, IMPORTED, Slot},
    status::{Answer, Status},
    tlv::{find, tlv},
};

const PIN_NEVER: u8 = 1;
const PIN_ONCE: u8 = 2;
const PIN_ALWAYS: u8 = 3;
const TOUCH_NEVER: u8 = 1;

impl Card<'_> {
    /// GENERATE ASYMMETRIC KEY PAIR, with Yubico's policies (`aa`, `ab`). What was in the slot is gone first: nobody who
    /// is killed meanwhile leaves an old public key with a new private one.
    pub(super) fn generate(&mut self, slot: u8, data: &[u8]) -> Answer {
        self.need_management()?;
        need_slot(slot)?;
        let parts = find(data, 0xac).ok_or(Status::WRONG_DATA)?;
        let Some(&[alg]) = find(parts, 0x80) else { return Err(Status::WRONG_DATA) };
        if !self.model.firmware.makes(alg) {
            return Err(Status::WRONG_DATA);
        }
        let (pin_policy, touch_policy) = policies(slot, parts)?;
        self.empty(slot)?;
        let place = self.free_place()?;
        let public = self.keys.generate(place, alg)?;
        let answer = [&[0x7f], &tlv(0x49, &[&public])[..]].concat();
        self.fill(slot, Slot { place, alg, pin_policy, touch_policy, origin: GENERATED, public })?;
        Ok(answer)
    }

    /// Yubico's IMPORT: `p` and `q` of one RSA key; the key store has no room for a second, and none for other kinds.
    pub(super) fn import(&mut self, alg: u8, slot: u8, data: &[u8]) -> Answer {
        self.need_management()?;
        need_slot(slot)?;
        if ![RSA_2048, RSA_3072, RSA_4096].contains(&alg) || !self.model.firmware.makes(alg) {
            return Err(Status::NOT_SUPPORTED);
        }
        let (Some(p), Some(q)) = (find(data, 1), find(data, 2)) else { return Err(Status::WRONG_DATA) };
        let (pin_policy, touch_policy) = policies(slot, data)?;
        self.empty(slot)?;
        if self.state.slots.values().any(|key| key.place == IMPORT_PLACE) {
            return Err(Status::NO_SPACE);
        }
        self.keys.import_rsa(alg, p, q)?;
        let public = [tlv(0x81, &[&product(p, q)]), tlv(0x82, &[&[1, 0, 1]])].concat();
        self.fill(slot, Slot { place: IMPORT_PLACE, alg, pin_policy, touch_policy, origin: IMPORTED, public })
    }

    /// GENERAL AUTHENTICATE with a key in a slot, as its policies let it.
    pub(super) fn use_key(&mut self, alg: u8, slot: u8, data: &[u8], pin_just_now: bool) -> Answer {
        let key = self.state.slots.get(&slot).filter(|key| key.alg == alg).ok_or(Status::WRONG_DATA)?;
        let may = match key.pin_policy {
            PIN_NEVER => true,
            PIN_ALWAYS => pin_just_now,
            _ => self.session.pin,
        };
        if !may {
            return Err(Status::NOT_ALLOWED);
        }
        if key.touch_policy != TOUCH_NEVER {
            touched(self.model.touch)?;
        }
        let place = key.place;
        self.keys.authenticate(place, alg, data)
    }

    /// Yubico's MOVE KEY (firmware 5.7): P1 is where to, `ff` for nowhere, P2 where from.
    pub(super) fn move_key(&mut self, to: u8, from: u8) -> Answer {
        if !self.model.firmware.moves_keys() {
            return Err(Status::NO_INSTRUCTION);
        }
        self.need_management()?;
        need_slot(from)?;
        let key = self.state.slots.get(&from).cloned().ok_or(Status::NO_REFERENCE)?;
        if to != DELETE {
            need_slot(to)?;
            if self.state.slots.contains_key(&to) {
                return Err(Status::CONDITIONS);
            }
            self.state.slots.insert(to, key);
        }
        self.state.slots.remove(&from);
        self.saved()
    }

    /// Yubico's GET METADATA, of a key, the PIN, the PUK or the management key.
    pub(super) fn metadata(&mut self, reference: u8) -> Answer {
        match reference {
            PIN | PUK => self.code_metadata(reference),
            0x9b => Ok(self.management_metadata()),
            slot => {
                let key = self.state.slots.get(&slot).ok_or(Status::NO_REFERENCE)?;
                let policies = [key.pin_policy, key.touch_policy];
                let parts = [tlv(1, &[&[key.alg]]), tlv(2, &[&policies]), tlv(3, &[&[key.origin]])];
                Ok([parts.concat(), tlv(4, &[&key.public])].concat())
            }
        }
    }

    /// Yubico's ATTEST: only keys that were made here.
    pub(super) fn attest(&mut self, slot: u8) -> Answer {
        let key = self.state.slots.get(&slot).ok_or(Status::NO_REFERENCE)?;
        if key.origin != GENERATED {
            return Err(Status::WRONG_DATA);
        }
        attestation::of_key(&self.model, slot, key)
    }

    fn empty(&mut self, slot: u8) -> Result<(), Status> {
        match self.state.slots.remove(&slot) {
            Some(_) => self.state.save(),
            None => Ok(()),
        }
    }

    fn fill(&mut self, slot: u8, key: Slot) -> Answer {
        self.state.slots.insert(slot, key);
        self.saved()
    }

    fn free_place(&self) -> Result<u8, Status> {
        let taken = |place: &u8| self.state.slots.values().any(|key| key.place == *place);
        PLACES.into_iter().find(|place| !taken(place)).ok_or(Status::NO_SPACE)
    }
}

/// 9a, 9c, 9d, 9e and the retired ones.
fn need_slot(slot: u8) -> Result<(), Status> {
    if PLACES.contains(&slot) { Ok(()) } else { Err(Status::WRONG_PARAMETER) }
}

/// Those asked for, else those of the slot.
fn policies(slot: u8, parts: &[u8]) -> Result<(u8, u8), Status> {
    let pin_of_slot = match slot {
        0x9c => PIN_ALWAYS,
        0x9e => PIN_NEVER,
        _ => PIN_ONCE,
    };
    let asked = |tag, otherwise| match find(parts, tag) {
        None | Some(&[0]) => Ok(otherwise),
        Some(&[policy @ 1..=3]) => Ok(policy),
        Some(_) => Err(Status::WRONG_DATA),
    };
    Ok((asked(0xaa, pin_of_slot)?, asked(0xab, TOUCH_NEVER)?))
}

/// Waits for the finger. A touch is not remembered for 15 s, as `cached` would have it.
#[expect(clippy::disallowed_methods, reason = "a finger that doesn't come takes its time")]
fn touched(touch: Touch) -> Result<(), Status> {
    match touch {
        Touch::After(delay) => {
            thread::sleep(delay);
            Ok(())
        }
        Touch::Never => {
            thread::sleep(NO_TOUCH);
            Err(Status::NOT_ALLOWED)
        }
    }
}

/// p · q, big-endian.
fn product(p: &[u8], q: &[u8]) -> Vec<u8> {
    let mut out = vec![0_u8; p.len() + q.len()];
    for (i, a) in p.iter().rev().enumerate() {
        let mut carry = 0_u32;
        for (j, b) in q.iter().rev().chain([&0]).enumerate() {
            let Some(place) = out.iter_mut().rev().nth(i + j) else { break };
            let sum = u32::from(*a) * u32::from(*b) + u32::from(*place) + carry;
            *place = sum as u8;
            carry = sum >> 8;
        }
    }
    out
}

const DELETE: u8 = 0xff;
