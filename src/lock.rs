//! One process at a time: for what two processes would damage.

use std::{
    fs::{self, File, TryLockError},
    io::{self, Read, Write},
    path::{Path, PathBuf},
};

/// An advisory lock on a file, held until it is dropped or the process ends, however it ends.
///
/// The file stays where it is: removing it would let a third process lock a file that a second one no longer sees.
#[derive(Debug)]
pub(crate) struct ProcessLock {
    _file: File,
}

impl ProcessLock {
    /// Takes the lock, or says at once who has it.
    pub(crate) fn acquire(path: &Path) -> Result<Self, LockError> {
        let failed = |cause| LockError::Io { path: path.to_owned(), cause };
        let mut file =
            fs::OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                let mut holder = String::new();
                // Who holds it is only a help to the reader of the message.
                let _ = file.read_to_string(&mut holder);
                return Err(LockError::Held { path: path.to_owned(), holder: holder.trim().to_owned() });
            }
            Err(TryLockError::Error(cause)) => return Err(failed(cause)),
        }
        file.set_len(0).and_then(|()| writeln!(file, "{}", std::process::id())).map_err(failed)?;
        Ok(Self { _file: file })
    }
}

/// The lock is another's, or the file can't be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LockError {
    #[error("locked by process `{holder}`: `{}`", path.display())]
    Held { path: PathBuf, holder: String },
    #[error("can't use the lock file `{}`: {cause}", path.display())]
    Io { path: PathBuf, cause: io::Error },
}
