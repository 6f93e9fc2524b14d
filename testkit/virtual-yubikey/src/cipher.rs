//! The block ciphers of management keys.

use aes::cipher::{BlockEncrypt, KeyInit};

use crate::model::{AES_192, TRIPLE_DES};

pub(crate) const AES_128: u8 = 0x08;
pub(crate) const AES_256: u8 = 0x0c;

/// How long a key of this algorithm is, and its blocks, in bytes; `None` for one that there isn't.
pub(crate) fn sizes(alg: u8) -> Option<(usize, usize)> {
    match alg {
        TRIPLE_DES => Some((24, 8)),
        AES_128 => Some((16, 16)),
        AES_192 => Some((24, 16)),
        AES_256 => Some((32, 16)),
        _ => None,
    }
}

/// One block; `None` where key or block have not the length for it.
pub(crate) fn encrypt(alg: u8, key: &[u8], block: &[u8]) -> Option<Vec<u8>> {
    fn with<C: KeyInit + BlockEncrypt>(key: &[u8], mut block: Vec<u8>) -> Option<Vec<u8>> {
        C::new_from_slice(key).ok()?.encrypt_block((&mut block[..]).into());
        Some(block)
    }
    sizes(alg).filter(|(_, length)| *length == block.len())?;
    match alg {
        TRIPLE_DES => with::<des::TdesEde3>(key, block.to_vec()),
        AES_128 => with::<aes::Aes128>(key, block.to_vec()),
        AES_192 => with::<aes::Aes192>(key, block.to_vec()),
        _ => with::<aes::Aes256>(key, block.to_vec()),
    }
}
