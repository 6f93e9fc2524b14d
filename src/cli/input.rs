//! Files that a command is given.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

use super::Failure;

/// The bytes of a file; `-` is standard input. One byte more than `most` at most, so that what is too long is seen to be.
pub(super) fn read(path: &Path, most: usize) -> Result<Vec<u8>, Failure> {
    let limit = u64::try_from(most).unwrap_or(u64::MAX).saturating_add(1);
    let mut bytes = Vec::new();
    let done = match path.as_os_str() == "-" {
        true => io::stdin().lock().take(limit).read_to_end(&mut bytes),
        false => File::open(path).and_then(|file| file.take(limit).read_to_end(&mut bytes)),
    };
    let cant = |error: io::Error| Failure::new(format!("can't read `{}`", path.display())).caused_by(&error);
    done.map(|_| bytes).map_err(cant)
}
