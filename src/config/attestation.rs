//! Reads `attestation_roots`.

use std::{fmt::Display, fs::File, io::Read, path::PathBuf};

use hallmark_core::{certificate::chain, evidence::roots::Roots};

use super::{problem::At, section::Section};

/// `attestation_roots` of [instance]: certification authorities beside Yubico's. Read here: they are no secret, and
/// `check-config` should say what is wrong with them.
pub(super) fn roots(s: &Section<'_>) -> Roots {
    let roots = Roots::yubico();
    let Some(At { value: path, place }) = s.get::<PathBuf>("attestation_roots") else { return roots };
    let read = File::open(&path).and_then(|file| {
        let mut bytes = Vec::new();
        file.take(chain::LONGEST as u64 + 1).read_to_end(&mut bytes).map(|_| bytes)
    });
    let bad = |why: &dyn Display| {
        let what = format!("`attestation_roots` in [instance]: can't use `{}`: {why}", path.display());
        s.error(&place, what, "name a PEM file with the root certificates, each issued by itself");
    };
    match read.map(|bytes| roots.clone().with_pem(&bytes)) {
        Ok(Ok(all)) => return all,
        Ok(Err(error)) => bad(&error.message),
        Err(error) => bad(&error),
    }
    roots
}
