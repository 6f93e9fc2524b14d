//! Where a key file's passphrase comes from: a file, or someone at the terminal. Never an argument, which others can see,
//! nor the environment, which is inherited.

use std::{fs, os::unix::fs::MetadataExt, path::Path};

use zeroize::Zeroizing;

use super::{super::super::Failure, file, refused, usage};

const MAX_PASSPHRASE: usize = 4096;

/// The first line of the file, or what is typed.
pub(super) fn get(of: &Path, password_file: Option<&Path>) -> Result<Zeroizing<String>, Failure> {
    match password_file {
        Some(path) => from_file(path),
        None => typed(of),
    }
}

fn typed(of: &Path) -> Result<Zeroizing<String>, Failure> {
    let answer = rpassword::prompt_password(format!("Passphrase of `{}`: ", of.display()));
    answer.map(Zeroizing::new).map_err(|error| {
        usage("there is no terminal to ask for the passphrase on".to_owned())
            .caused_by(&error)
            .hint("write it into a file that only you can read, and name that: --password-file FILE")
    })
}

fn from_file(path: &Path) -> Result<Zeroizing<String>, Failure> {
    let failed = |error: std::io::Error| refused(format!("can't read `{}`", path.display())).caused_by(&error);
    let mode = fs::metadata(path).map_err(failed)?.mode();
    if mode & 0o077 != 0 {
        let text = format!("`{}` can be read by others (mode {:04o})", path.display(), mode & 0o7777);
        return Err(refused(text).hint(format!("chmod 600 {}", path.display())));
    }
    let bytes = file::read(path, MAX_PASSPHRASE)?;
    let line = bytes.split(|byte| *byte == b'\n').next().unwrap_or_default();
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let text = str::from_utf8(line).map_err(|_| refused(format!("`{}` is not UTF-8", path.display())))?;
    Ok(Zeroizing::new(text.to_owned()))
}
