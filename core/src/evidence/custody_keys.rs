//! Custody keys as an auditor keeps them: a JWK, a set of them, or PEM.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::Value;

use crate::{inspect::public_key_of, public_key::PublicKey};

/// Larger files hold something else.
pub const LONGEST: usize = 256 * 1024;

/// Reads the public keys of a file: a JWK, a JWK Set, what `hallmark keys custody --json` prints, or PEM (`PUBLIC KEY`).
///
/// # Errors
/// Says what is wrong with it. A file with a private key is refused, without repeating any of it.
pub fn read(file: &[u8]) -> Result<Vec<PublicKey>, String> {
    if file.len() > LONGEST {
        return Err(format!("it has more than {LONGEST} bytes"));
    }
    let text = std::str::from_utf8(file).map_err(|_| "it is neither JSON nor PEM".to_owned())?;
    let keys = if text.trim_start().starts_with('{') { of_json(text)? } else { of_pem(text)? };
    if keys.is_empty() { Err("there is no public key in it".to_owned()) } else { Ok(keys) }
}

fn of_json(text: &str) -> Result<Vec<PublicKey>, String> {
    let value: Value = serde_json::from_str(text).map_err(|error| format!("it is no JSON: {error}"))?;
    match value.get("keys") {
        Some(Value::Array(keys)) => keys.iter().map(of_jwk).collect(),
        Some(_) => Err("its `keys` is no list".to_owned()),
        None => of_jwk(&value).map(|key| vec![key]),
    }
}

/// The key of a JWK.
///
/// # Errors
/// Says what is wrong with it; a private key is.
pub(super) fn of_jwk(jwk: &Value) -> Result<PublicKey, String> {
    let members = jwk.as_object().ok_or("a JWK is a JSON object")?;
    if members.contains_key("d") || members.contains_key("k") {
        return Err("it holds a private key: find out why, for that of an HSM never leaves it".to_owned());
    }
    public_key_of(members)
}

fn of_pem(text: &str) -> Result<Vec<PublicKey>, String> {
    if text.contains("PRIVATE KEY-----") {
        return Err("it holds a private key: find out why, for that of an HSM never leaves it".to_owned());
    }
    let blocks = text.split(BEGIN).skip(1);
    blocks
        .map(|block| {
            let body = block.split(END).next().unwrap_or_default();
            let compact: String = body.split_whitespace().collect();
            let spki = STANDARD.decode(compact).map_err(|_| "its PEM is damaged: no base64".to_owned())?;
            PublicKey::from_spki(&spki).map_err(|error| error.to_string())
        })
        .collect()
}

const BEGIN: &str = "-----BEGIN PUBLIC KEY-----";
const END: &str = "-----END PUBLIC KEY-----";
