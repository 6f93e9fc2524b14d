//! Data objects: certificates and the like.

use super::Card;
use crate::{
    attestation,
    status::{Answer, Status},
    tlv::{find, split, tlv},
};

impl Card<'_> {
    /// GET DATA. A new card has none but its attestation certificate.
    pub(super) fn get_object(&mut self, data: &[u8]) -> Answer {
        let (tag, _) = object_tag(data)?;
        if NEED_PIN.contains(&tag) && !self.session.pin {
            return Err(Status::NOT_ALLOWED);
        }
        match self.state.objects.get(&tag) {
            Some(value) => Ok(tlv(0x53, &[value])),
            None if tag == ATTESTATION => {
                let certificate = attestation::of_card(self.model.serial)?;
                Ok(tlv(0x53, &[&tlv(0x70, &[&certificate]), &[0x71, 1, 0, 0xfe, 0]]))
            }
            None => Err(Status::NOT_FOUND),
        }
    }

    /// PUT DATA. An empty object is one that isn't there.
    pub(super) fn put_object(&mut self, data: &[u8]) -> Answer {
        self.need_management()?;
        let (tag, rest) = object_tag(data)?;
        let value = find(rest, 0x53).ok_or(Status::WRONG_DATA)?;
        if value.len() > LARGEST {
            return Err(Status::NO_SPACE);
        }
        if value.is_empty() {
            self.state.objects.remove(&tag);
        } else {
            self.state.objects.insert(tag, value.to_vec());
        }
        self.saved()
    }
}

/// The tag in the tag list (`5c`), and what follows.
fn object_tag(data: &[u8]) -> Result<(u32, &[u8]), Status> {
    match split(data) {
        Some((0x5c, tag, rest)) if (1..=3).contains(&tag.len()) => {
            Ok((tag.iter().fold(0, |number, byte| number << 8 | u32::from(*byte)), rest))
        }
        _ => Err(Status::WRONG_DATA),
    }
}

const ATTESTATION: u32 = 0x5fff01;
/// Fingerprints, face, printed information, iris (SP 800-73-4 part 1, table 2).
const NEED_PIN: [u32; 4] = [0x5fc103, 0x5fc108, 0x5fc109, 0x5fc121];
/// What a real key takes at most, in bytes.
const LARGEST: usize = 3052;
