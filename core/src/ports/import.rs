//! Taking a key in that was made elsewhere.

use std::fmt;

use super::{HsmFault, HsmSession};
use crate::{key::Alg, public_key::PublicKey};

/// An optional power of a session: to put a key on the token that was made elsewhere.
pub trait ImportSession: HsmSession {
    /// Makes a pair of `key` that signs and does nothing else, that can't be read and can't leave the token, and sees it
    /// sign. Answers with how the private half came in.
    ///
    /// Never overwrites: a private object with that `CKA_ID` is an error, and so is a public one, unless it is this very
    /// key's: then it is what is left of a try that broke off, and is completed. What this call made is removed where it
    /// fails.
    fn import(&mut self, key: &ForeignKey<'_>) -> Result<Entry, HsmFault>;
}

/// A key pair from outside, and the names that its objects are to carry. It does not show itself.
#[derive(Clone, Copy)]
pub struct ForeignKey<'a> {
    pub cka_id: &'a [u8],
    pub label: &'a str,
    /// One that it suits; the pair must sign with it.
    pub alg: Alg,
    /// PKCS#8 (RFC 5958), not encrypted.
    pub pkcs8: &'a [u8],
    pub public: &'a PublicKey,
}

impl fmt::Debug for ForeignKey<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ForeignKey").field("label", &self.label).field("public", &self.public).finish_non_exhaustive()
    }
}

/// How a private key came into a token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Entry {
    /// Encrypted for a key that only the token has, and decrypted there.
    Unwrapped,
    /// Handed over as it is: nobody between us and the token must be able to listen.
    Created,
}
