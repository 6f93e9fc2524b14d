//! What it costs to check one signature, measured alone.

use std::{error::Error, time::Duration};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use hallmark_core::{key::Alg, public_key::PublicKey};

use crate::{cpu, load::ActiveKey};

/// CPU time that one verification takes, in microseconds.
pub(crate) fn cpu_micros(alg: Alg, key: &ActiveKey) -> Result<f64, Box<dyn Error>> {
    let verifier = PublicKey::from_spki(&key.key.spki)?.verifier(alg)?;
    let (message, signature) = key.assertion.rsplit_once('.').ok_or("not a JWS")?;
    let signature = URL_SAFE_NO_PAD.decode(signature)?;
    let (start, mut count) = (cpu::of_this_thread()?, 0_u32);
    loop {
        for _ in 0..100 {
            if !verifier.verifies(message.as_bytes(), &signature) {
                return Err("the assertion does not verify".into());
            }
        }
        count += 100;
        let used = cpu::of_this_thread()?.saturating_sub(start);
        if used > Duration::from_millis(300) {
            return Ok(used.as_secs_f64() * 1e6 / f64::from(count));
        }
    }
}
