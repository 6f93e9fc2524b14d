//! The management key (9b).

use rand_core::{OsRng, RngCore};

use super::Card;
use crate::{
    cipher::{encrypt, sizes},
    state::{FACTORY_MANAGEMENT_KEY, ManagementKey},
    status::{Answer, Status},
    tlv::{find, tlv},
};

impl Card<'_> {
    /// GENERAL AUTHENTICATE with 9b: mutual (witness, then challenge) or single (challenge, then response).
    pub(super) fn authenticate_management(&mut self, alg: u8, data: &[u8]) -> Answer {
        let (_, block) = sizes(alg).filter(|_| alg == self.state.management.alg).ok_or(Status::WRONG_PARAMETER)?;
        let template = find(data, 0x7c).ok_or(Status::WRONG_DATA)?;
        let expected = self.session.expected.take();
        let proved = |given: &[u8]| expected.as_deref() == Some(given);
        match (find(template, 0x80), find(template, 0x81), find(template, 0x82)) {
            (Some([]), None, None) => {
                let witness = random(block);
                let sealed = self.seal(&witness)?;
                self.session.expected = Some(witness);
                Ok(tlv(0x7c, &[&tlv(0x80, &[&sealed])]))
            }
            (None, Some([]), None) => {
                let challenge = random(block);
                self.session.expected = Some(self.seal(&challenge)?);
                Ok(tlv(0x7c, &[&tlv(0x81, &[&challenge])]))
            }
            (Some(witness), Some(challenge), _) if proved(witness) => {
                let response = self.seal(challenge)?;
                self.session.management = true;
                Ok(tlv(0x7c, &[&tlv(0x82, &[&response])]))
            }
            (None, None, Some(response)) if proved(response) => {
                self.session.management = true;
                Ok(Vec::new())
            }
            _ => Err(Status::NOT_ALLOWED),
        }
    }

    /// Yubico's SET MANAGEMENT KEY: algorithm, `9b`, length, key.
    pub(super) fn set_management_key(&mut self, data: &[u8]) -> Answer {
        self.need_management()?;
        let (head, key) = data.split_at_checked(3).ok_or(Status::WRONG_DATA)?;
        let (length, _) = sizes(head[0]).ok_or(Status::WRONG_DATA)?;
        if head[1] != 0x9b || usize::from(head[2]) != key.len() || key.len() != length {
            return Err(Status::WRONG_DATA);
        }
        self.state.management = ManagementKey { alg: head[0], key: key.to_vec() };
        self.saved()
    }

    /// Algorithm, policies (no PIN, no touch), and whether it is the factory's.
    pub(super) fn management_metadata(&self) -> Vec<u8> {
        let key = &self.state.management;
        let is_default = key.key == FACTORY_MANAGEMENT_KEY && key.alg == self.model.firmware.management_alg();
        [tlv(1, &[&[key.alg]]), tlv(2, &[&[0, 1]]), tlv(5, &[&[u8::from(is_default)]])].concat()
    }

    fn seal(&self, block: &[u8]) -> Answer {
        let key = &self.state.management;
        encrypt(key.alg, &key.key, block).ok_or(Status::WRONG_DATA)
    }
}

fn random(length: usize) -> Vec<u8> {
    let mut block = vec![0; length];
    OsRng.fill_bytes(&mut block);
    block
}
