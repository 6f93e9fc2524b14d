//! What an HSM shows of a key's custody.

use serde::{Deserialize, Serialize};

use crate::client::Custody;

/// What is known of one key's birth and protection.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Evidence {
    pub attributes: KeyAttributes,
    /// DER certificates: one that the token made for this key with its attestation key, then that of the attestation key
    /// (on a YubiKey slot f9), and what else leads to the maker's root. Empty where the token attests nothing.
    pub attestation: Vec<Vec<u8>>,
}

impl Evidence {
    /// As [`KeyAttributes::custody`], whatever the attestation says.
    pub fn custody(&self) -> Result<Custody, &'static str> {
        self.attributes.custody()
    }
}

/// Attributes of the private object (PKCS#11 §4.9), or what amounts to them; `None` where the module does not know one.
///
/// Signed evidence has them under these names, with `null` for `None`: later versions only add to them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyAttributes {
    pub local: Option<bool>,
    pub sensitive: Option<bool>,
    pub always_sensitive: Option<bool>,
    pub extractable: Option<bool>,
    pub never_extractable: Option<bool>,
    /// The name of the mechanism, such as `CKM_EC_KEY_PAIR_GEN`.
    pub key_gen_mechanism: Option<String>,
}

impl KeyAttributes {
    /// The strongest custody that they show, or why even [`Custody::Imported`] is not met.
    pub fn custody(&self) -> Result<Custody, &'static str> {
        if self.extractable != Some(false) {
            return Err("it can be extracted (CKA_EXTRACTABLE is not false)");
        }
        if self.sensitive != Some(true) {
            return Err("it can be read (CKA_SENSITIVE is not true)");
        }
        let born_here = [self.local, self.always_sensitive, self.never_extractable].iter().all(|a| *a == Some(true));
        Ok(if born_here { Custody::Local } else { Custody::Imported })
    }

    /// By their names in PKCS#11.
    pub fn named(&self) -> [(&'static str, Option<bool>); 5] {
        [
            ("CKA_LOCAL", self.local),
            ("CKA_SENSITIVE", self.sensitive),
            ("CKA_ALWAYS_SENSITIVE", self.always_sensitive),
            ("CKA_EXTRACTABLE", self.extractable),
            ("CKA_NEVER_EXTRACTABLE", self.never_extractable),
        ]
    }
}
