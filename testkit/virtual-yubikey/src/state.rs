//! What a card remembers without power, beside the private keys: one JSON file, replaced as a whole.

use std::{
    collections::BTreeMap,
    fs, io,
    ops::{Deref, DerefMut},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::{model::Firmware, status::Status};

/// The contents.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct State {
    pub(crate) pin: Code,
    pub(crate) puk: Code,
    pub(crate) management: ManagementKey,
    /// By PIV key reference.
    pub(crate) slots: BTreeMap<u8, Slot>,
    /// By tag (`5fc105` and so on), without the `53` around them.
    pub(crate) objects: BTreeMap<u32, Vec<u8>>,
}

/// A PIN or PUK, padded with `ff` to eight bytes.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct Code {
    pub(crate) value: Vec<u8>,
    /// As many as after a right one.
    pub(crate) tries: u8,
    pub(crate) left: u8,
}

#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct ManagementKey {
    pub(crate) alg: u8,
    pub(crate) key: Vec<u8>,
}

/// A key in a slot. What is not here is empty, whatever the key store holds.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(crate) struct Slot {
    /// Where the key store has it.
    pub(crate) place: u8,
    pub(crate) alg: u8,
    pub(crate) pin_policy: u8,
    pub(crate) touch_policy: u8,
    /// [`GENERATED`] or [`IMPORTED`].
    pub(crate) origin: u8,
    /// `86 point`, or `81 modulus 82 exponent`.
    pub(crate) public: Vec<u8>,
}

pub(crate) const GENERATED: u8 = 1;
pub(crate) const IMPORTED: u8 = 2;

pub(crate) const FACTORY_PIN: &[u8; 8] = b"123456\xff\xff";
pub(crate) const FACTORY_PUK: &[u8; 8] = b"12345678";
pub(crate) const FACTORY_MANAGEMENT_KEY: [u8; 24] =
    [1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3, 4, 5, 6, 7, 8];
const TRIES: u8 = 3;

impl State {
    /// As it leaves the factory.
    pub(crate) fn factory(firmware: Firmware) -> Self {
        let management = ManagementKey { alg: firmware.management_alg(), key: FACTORY_MANAGEMENT_KEY.to_vec() };
        Self {
            pin: Code::new(FACTORY_PIN, TRIES),
            puk: Code::new(FACTORY_PUK, TRIES),
            management,
            slots: BTreeMap::new(),
            objects: BTreeMap::new(),
        }
    }
}

impl Code {
    pub(crate) fn new(value: &[u8], tries: u8) -> Self {
        Self { value: value.to_vec(), tries, left: tries }
    }

    /// One try. Fails with the tries that are left.
    pub(crate) fn try_with(&mut self, value: &[u8]) -> Result<(), Status> {
        if self.left == 0 {
            return Err(Status::BLOCKED);
        }
        if self.value != value {
            self.left -= 1;
            return Err(Status::wrong(self.left));
        }
        self.left = self.tries;
        Ok(())
    }
}

/// The state and its file.
pub(crate) struct StateFile {
    path: PathBuf,
    state: State,
}

impl StateFile {
    /// Reads it, or begins one. A file that is not whole is an error: a card that forgot would look like another one.
    pub(crate) fn open(folder: &Path, firmware: Firmware) -> io::Result<Self> {
        let path = folder.join("state.json");
        let state = match fs::read(&path) {
            Ok(text) => serde_json::from_slice(&text)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => State::factory(firmware),
            Err(error) => return Err(error),
        };
        Ok(Self { path, state })
    }

    /// Whoever is killed in here leaves the old state or the new one.
    pub(crate) fn save(&self) -> Result<(), Status> {
        let new = self.path.with_extension("new");
        let text = serde_json::to_vec(&self.state).map_err(|_| Status::BROKEN)?;
        fs::write(&new, text).and_then(|()| fs::rename(&new, &self.path)).map_err(|_| Status::BROKEN)
    }
}

impl Deref for StateFile {
    type Target = State;

    fn deref(&self) -> &State {
        &self.state
    }
}

impl DerefMut for StateFile {
    fn deref_mut(&mut self) -> &mut State {
        &mut self.state
    }
}
