//! One signature by a key that no record has yet.

use hallmark_core::{assertion::SigningInput, error::Error, time::Timestamp};

use super::{Pool, PoolKey, worker::random_bytes};

impl Pool {
    /// Has the key sign `input`, and says whether the signature verifies with its public half. It is in no line with the
    /// signatures of callers, and whatever comes of it counts neither against the key nor against the HSM.
    pub async fn try_out(&self, key: PoolKey, input: SigningInput, now: Timestamp) -> Result<bool, Error> {
        key.check_purpose(&input)?;
        let bytes = input.encode(now, random_bytes()?)?.bytes;
        self.task(move |session| {
            let signature = session.sign(&key.key_ref(), key.alg, &bytes)?;
            Ok(key.verifier.verifies(&bytes, &signature))
        })
        .await
    }
}
