//! Which PINs were tried, as files in a folder: for a command that has no server's store to ask.

use std::{
    fs, io,
    io::Write,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use hallmark_core::ports::{PinLedger, PinLedgerRefusal, PinVerdict, StoreError};

/// A [`PinLedger`] whose markers are files. Durable when its methods return.
#[derive(Debug)]
pub struct PinMarkers {
    folder: PathBuf,
}

impl PinMarkers {
    /// Makes `folder`, for its owner alone, unless it is there.
    pub fn open(folder: &Path) -> Result<Self, StoreError> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(|error| unavailable(&error))?;
        Ok(Self { folder: folder.to_owned() })
    }

    fn path(&self, token: &str, source: &str) -> PathBuf {
        // A name of any token's serial and any source: neither is fit for a file name.
        let name = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, format!("{token}\0{source}").as_bytes());
        let name: String = name.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        self.folder.join(name)
    }

    fn sync_folder(&self) -> io::Result<()> {
        fs::File::open(&self.folder)?.sync_all()
    }
}

impl PinLedger for PinMarkers {
    fn begin(&self, token: &str, source: &str) -> Result<(), PinLedgerRefusal> {
        let store = |error: io::Error| PinLedgerRefusal::Store(unavailable(&error));
        let path = self.path(token, source);
        match fs::File::options().write(true).create_new(true).mode(0o600).open(path) {
            Ok(mut file) => {
                let text = format!("a PIN is being tried, or was not accepted\ntoken {token}\nsource {source}\n");
                file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(store)?;
                self.sync_folder().map_err(store)
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Err(PinLedgerRefusal::AlreadyTried),
            Err(error) => Err(store(error)),
        }
    }

    fn end(&self, token: &str, source: &str, verdict: PinVerdict) -> Result<(), StoreError> {
        match verdict {
            PinVerdict::Accepted | PinVerdict::NotTried => {
                fs::remove_file(self.path(token, source)).map_err(|error| unavailable(&error))
            }
            // Nothing is known of earlier tries here, so nothing is forgiven.
            PinVerdict::Refused | PinVerdict::Unknown => Ok(()),
        }
    }
}

fn unavailable(error: &io::Error) -> StoreError {
    StoreError::Unavailable(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pin_is_tried_once_until_it_was_accepted() {
        let folder = tempfile::tempdir().unwrap();
        let open = || PinMarkers::open(&folder.path().join("state")).unwrap();
        open().begin("serial", "file:1").unwrap();
        assert_eq!(open().begin("serial", "file:1"), Err(PinLedgerRefusal::AlreadyTried), "forgotten by a restart");
        open().end("serial", "file:1", PinVerdict::Refused).unwrap();
        assert_eq!(open().begin("serial", "file:1"), Err(PinLedgerRefusal::AlreadyTried));
        open().begin("serial", "file:2").unwrap();
        open().end("serial", "file:2", PinVerdict::Unknown).unwrap();
        assert_eq!(open().begin("serial", "file:2"), Err(PinLedgerRefusal::AlreadyTried));
        open().begin("other", "file:1").unwrap();
        open().end("other", "file:1", PinVerdict::Accepted).unwrap();
        open().begin("other", "file:1").unwrap();
    }
}
