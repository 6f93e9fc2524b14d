//! Evidence of keys' custody, for operators.

use hallmark_proto::v1::{self, key_service_client::KeyServiceClient};

use crate::{Client, Error, client::timed};

/// Where a key was born and what keeps it there, signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyEvidence {
    /// JWS compact serialisation; `hallmark evidence verify` checks it.
    pub jws: String,
    /// Of the custody key that signed it.
    pub custody_kid: String,
}

impl Client {
    /// Evidence of one key's custody, with `nonce` in it, 16 to 64 bytes of your own choosing. Nothing changes by it.
    pub async fn key_evidence(&self, kid: &str, nonce: &[u8]) -> Result<KeyEvidence, Error> {
        let message = v1::GetKeyEvidenceRequest { kid: kid.to_owned(), nonce: nonce.to_vec() };
        let v1::GetKeyEvidenceResponse { evidence, custody_kid } = operate!(self, get_key_evidence(message));
        Ok(KeyEvidence { jws: evidence, custody_kid })
    }
}
