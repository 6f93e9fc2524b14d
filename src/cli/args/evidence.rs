//! `hallmark evidence`, `hallmark keys evidence` and `hallmark keys custody`.

use std::{path::PathBuf, str::FromStr};

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use clap::{Args, Subcommand, ValueEnum};
use hallmark_core::{client::Custody, evidence::Nonce};

#[derive(Debug, Subcommand)]
pub(in crate::cli) enum EvidenceCommand {
    /// Checks a file of `hallmark keys evidence`, line by line, and says what of it is proven
    Verify(VerifyArgs),
}

#[derive(Clone, Debug, Args)]
pub(in crate::cli) struct VerifyArgs {
    /// The file; `-` for standard input
    #[arg(value_name = "FILE")]
    pub(in crate::cli) file: PathBuf,
    /// Hallmark's custody keys, as `hallmark keys custody --json` prints them: a JWK, a set, or PEM
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) custody_key: Option<PathBuf>,
    /// Certification authorities of attestations beside Yubico's, PEM
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) roots: Option<PathBuf>,
    /// The nonce that was asked for
    #[arg(long, value_name = "NONCE", value_parser = NonceArg::from_str)]
    pub(in crate::cli) nonce: Option<NonceArg>,
    /// Fails unless the key's custody is as good as this; `attested` must be proven
    #[arg(long, value_name = "CUSTODY", value_enum)]
    pub(in crate::cli) require: Option<Wanted>,
}

#[derive(Clone, Debug, Args)]
pub(in crate::cli) struct KeyEvidenceArgs {
    /// The `kid` of the key
    #[arg(allow_hyphen_values = true)]
    pub(in crate::cli) kid: String,
    /// 16 to 64 bytes of the auditor's choosing, in hexadecimal or base64url (default: a random one)
    #[arg(long, value_name = "NONCE", value_parser = NonceArg::from_str)]
    pub(in crate::cli) nonce: Option<NonceArg>,
    /// Writes the evidence there, for `hallmark evidence verify`
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) out: Option<PathBuf>,
    /// Certification authorities of attestations beside Yubico's, PEM
    #[arg(long, value_name = "FILE")]
    pub(in crate::cli) roots: Option<PathBuf>,
}

#[derive(Clone, Debug, Args)]
pub(in crate::cli) struct CustodyArgs {
    /// Only those of this HSM
    #[arg(long, value_name = "NAME")]
    pub(in crate::cli) hsm: Option<String>,
    /// Prints PEM
    #[arg(long)]
    pub(in crate::cli) pem: bool,
}

/// A custody that is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum Wanted {
    Attested,
    Local,
    Imported,
}

impl From<Wanted> for Custody {
    fn from(wanted: Wanted) -> Self {
        match wanted {
            Wanted::Attested => Self::Attested,
            Wanted::Local => Self::Local,
            Wanted::Imported => Self::Imported,
        }
    }
}

/// A nonce as it is typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cli) struct NonceArg(pub(in crate::cli) Nonce);

impl FromStr for NonceArg {
    type Err = String;

    /// What is hexadecimal all over is taken as that: as base64url it would be a strange coincidence.
    fn from_str(text: &str) -> Result<Self, String> {
        let is_hex = text.len().is_multiple_of(2) && text.bytes().all(|byte| byte.is_ascii_hexdigit());
        let bytes = if is_hex { hex(text) } else { BASE64_URL_SAFE_NO_PAD.decode(text.trim_end_matches('=')).ok() };
        let bytes = bytes.ok_or("it is neither hexadecimal nor base64url; `openssl rand -hex 32` makes one")?;
        Nonce::new(bytes).map(Self).map_err(|error| error.message)
    }
}

fn hex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    text.as_bytes().chunks(2).map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nonce_is_typed_in_hexadecimal_or_base64url() {
        let read = |text: &str| text.parse::<NonceArg>().map(|nonce| nonce.0.as_bytes().to_vec());
        assert_eq!(read(&"0a".repeat(16)), Ok(vec![10; 16]));
        assert_eq!(read("CgoKCgoKCgoKCgoKCgoKCg"), Ok(vec![10; 16]));
        assert_eq!(read("CgoKCgoKCgoKCgoKCgoKCg=="), Ok(vec![10; 16]));
        assert!(read("0a0a").unwrap_err().contains("16 to 64 bytes"));
        assert!(read("not a nonce").unwrap_err().contains("openssl rand"));
    }
}
