//! The private keys: a piv-authenticator that never sees a caller.
//!
//! It makes keys, holds them and signs with them, by its own reading of PIV. It knows no Yubico metadata, policies or
//! MOVE KEY, and its PIN and management key stay as they were made: who may do what is decided in front of it, in
//! [`crate::card`]. It has a place for each slot; which key is in which slot, the card remembers.

mod backends;
mod platform;
mod storage;

use std::{fs, io, path::Path};

use iso7816::command::CommandView;
use piv_authenticator::{Authenticator, Options};
use trussed::virt::StoreConfig;

use self::platform::Client;
use crate::{
    cipher::encrypt,
    model::TRIPLE_DES,
    state::{FACTORY_MANAGEMENT_KEY, FACTORY_PIN},
    status::{Answer, Status},
    tlv::{find, split, tlv},
};

/// An open key store.
pub(crate) struct Keys<'a> {
    piv: Authenticator<Client<'a>>,
}

/// All places, in the order in which they are given out. The last takes imported keys too, and is kept for them.
pub(crate) const PLACES: [u8; 24] = [
    0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8a, 0x8b, 0x8c, 0x8d, 0x8e, 0x8f, 0x90, 0x91, 0x92, 0x93, 0x94,
    0x95, 0x9c, 0x9d, 0x9e, 0x9a,
];

/// The only place that piv-authenticator imports into, and RSA keys only.
pub(crate) const IMPORT_PLACE: u8 = 0x9a;

/// The application identifier of PIV.
pub(crate) const PIV_AID: &[u8] = &[0xa0, 0, 0, 3, 8, 0, 0, 0x10, 0, 1, 0];

/// Opens what is in `folder`, or makes it, for as long as `work` takes.
///
/// # Errors
/// What the file system says.
pub(crate) fn with_keys<T>(folder: &Path, work: impl FnOnce(Keys<'_>) -> T) -> io::Result<T> {
    fs::create_dir_all(folder)?;
    let mut store = StoreConfig::ram();
    store.internal = storage::open(&folder.join("internal.lfs"))?;
    store.external = storage::open(&folder.join("external.lfs"))?;
    store.with_store(|store| {
        let client = platform::client(store).ok_or_else(|| io::Error::other("Trussed gives no client"))?;
        let mut keys = Keys { piv: Authenticator::new(client, Options::default()) };
        keys.unlock().map_err(|status| io::Error::other(format!("the key store does not open: {status:x?}")))?;
        Ok(work(keys))
    })
}

impl Keys<'_> {
    /// The application property template (SP 800-73-4 part 2, 3.1.1).
    pub(crate) fn select(&mut self) -> Answer {
        self.send([0, 0xa4, 4, 0], PIV_AID)
    }

    /// Makes a key, over whatever is there, and answers its public half: `86 point`, or `81 modulus 82 exponent`.
    pub(crate) fn generate(&mut self, place: u8, alg: u8) -> Answer {
        let answer = self.send([0, 0x47, 0, place], &tlv(0xac, &[&tlv(0x80, &[&[alg]])]))?;
        let body = answer.strip_prefix(&[0x7f]).and_then(split);
        body.map(|(_, public, _)| public.to_vec()).ok_or(Status::BROKEN)
    }

    /// Takes an RSA key with exponent 65537 in at [`IMPORT_PLACE`].
    pub(crate) fn import_rsa(&mut self, alg: u8, p: &[u8], q: &[u8]) -> Result<(), Status> {
        let parts = [tlv(1, &[p]), tlv(2, &[q]), tlv(3, &[&[1, 0, 1]])].concat();
        self.send([0, 0xfe, alg, IMPORT_PLACE], &parts).map(drop)
    }

    /// Signs, or agrees on a secret: GENERAL AUTHENTICATE with a dynamic authentication template (`7c`).
    pub(crate) fn authenticate(&mut self, place: u8, alg: u8, template: &[u8]) -> Answer {
        self.send([0, 0x20, 0, 0x80], FACTORY_PIN)?;
        self.send([0, 0x87, alg, place], template)
    }

    /// With its management key, for as long as it runs.
    fn unlock(&mut self) -> Result<(), Status> {
        self.select()?;
        let answer = self.send([0, 0x87, TRIPLE_DES, 0x9b], &[0x7c, 2, 0x81, 0])?;
        let challenge = find(&answer, 0x7c).and_then(|inner| find(inner, 0x81)).ok_or(Status::BROKEN)?;
        let response = encrypt(TRIPLE_DES, &FACTORY_MANAGEMENT_KEY, challenge).ok_or(Status::BROKEN)?;
        self.send([0, 0x87, TRIPLE_DES, 0x9b], &tlv(0x7c, &[&tlv(0x82, &[&response])])).map(drop)
    }

    /// As one extended APDU.
    fn send(&mut self, head: [u8; 4], data: &[u8]) -> Answer {
        let length = u16::try_from(data.len()).map_err(|_| Status::WRONG_LENGTH)?.to_be_bytes();
        let apdu = [&head[..], &[0], if data.is_empty() { &[] } else { &length }, data, &[0, 0]].concat();
        let command = CommandView::try_from(&apdu[..]).map_err(|_| Status::WRONG_LENGTH)?;
        let mut answer = Box::new(heapless::Vec::<u8, 8192>::new());
        self.piv.respond(command, answer.as_mut_view()).map_err(|status| Status(status.into()))?;
        Ok(answer.to_vec())
    }
}
