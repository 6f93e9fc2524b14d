//! Hashes of lines, as records name them: SHA-256, base64url without padding.

use aws_lc_rs::digest;
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

use crate::audit::line::Line;

pub(super) type Hash = [u8; 32];

/// Of a line without its newline.
pub(super) fn hash(bytes: &[u8]) -> Hash {
    let mut hash = Hash::default();
    hash.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    hash
}

/// Whether the record says that `hash` is that of the one before it.
pub(super) fn names(line: &Line<'_>, hash: &Hash) -> bool {
    let mut text = [0; 43];
    URL_SAFE_NO_PAD.encode_slice(hash, &mut text).is_ok() && line.prev.as_bytes() == text
}

pub(super) fn encode(hash: &Hash) -> String {
    URL_SAFE_NO_PAD.encode(hash)
}

/// `None` where it is no hash.
pub(super) fn decode(text: &str) -> Option<Hash> {
    URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok()
}
