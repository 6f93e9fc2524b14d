//! The PIV slots that may hold signing keys.

use std::fmt;

use hallmark_core::ports::HsmFault;
use yubikey::{ObjectId, piv::SlotId};

/// A slot, by its number (NIST SP 800-73-4 part 1, table 4b).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(u8);

impl Slot {
    /// 9a, 9c, 9d, 9e, and 82 to 95 (retired key management); `None` for what holds no key of this kind.
    pub fn new(number: u8) -> Option<Self> {
        matches!(number, 0x9a | 0x9c..=0x9e | 0x82..=0x95).then_some(Self(number))
    }

    /// Every one, in the order of their numbers.
    pub fn all() -> impl Iterator<Item = Self> {
        (0x82..=0x9e).filter_map(Self::new)
    }

    /// Its number: `P2` of most commands.
    pub fn number(self) -> u8 {
        self.0
    }

    pub(super) fn id(self) -> Result<SlotId, HsmFault> {
        SlotId::try_from(self.0).map_err(|error| super::classify::fault("slot", error))
    }

    /// The data object that holds its certificate (NIST SP 800-73-4 part 1, table 3).
    pub(super) fn certificate_object(self) -> ObjectId {
        match self.0 {
            0x9a => 0x005f_c105,
            0x9c => 0x005f_c10a,
            0x9d => 0x005f_c10b,
            0x9e => 0x005f_c101,
            retired => 0x005f_c10d + ObjectId::from(retired - 0x82),
        }
    }
}

impl fmt::Display for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:02x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_slot_has_a_number_and_an_object_of_its_own() {
        let all: Vec<_> = Slot::all().collect();
        assert_eq!(all.len(), 24);
        let mut objects: Vec<_> = all.iter().map(|slot| slot.certificate_object()).collect();
        objects.sort_unstable();
        objects.dedup();
        assert_eq!(objects.len(), 24);
        // Of the standard's table.
        for (number, object) in [(0x82, 0x5f_c10d), (0x95, 0x5f_c120), (0x9c, 0x5f_c10a), (0x9e, 0x5f_c101)] {
            assert_eq!(Slot::new(number).unwrap().certificate_object(), object);
        }
        assert_eq!([0x80, 0x81, 0x96, 0x9b, 0xf9].map(Slot::new), [None; 5]);
        assert!(all.iter().all(|slot| slot.id().is_ok()));
    }
}
