//! The few calls that the writer makes, so that tests can make them fail, hang and forget.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

/// Makes and removes files.
pub trait Disk: Send + 'static {
    /// A new, empty file, whose name survives a crash from now on. Fails where there is one.
    fn create(&mut self, path: &Path) -> io::Result<Box<dyn DiskFile>>;

    /// Removes a file that holds nothing that was promised to anyone.
    fn remove(&mut self, path: &Path) -> io::Result<()>;
}

/// A file that only grows.
pub trait DiskFile: Send {
    /// Writes all of `bytes` at the end. After an error any part of them may be there.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Returns once everything appended survives a crash. After an error nobody can know what does.
    fn sync(&mut self) -> io::Result<()>;
}

/// The file system.
#[derive(Clone, Copy, Debug)]
pub struct RealDisk;

impl Disk for RealDisk {
    fn create(&mut self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        if let Some(folder) = path.parent() {
            // An empty file may stay behind if this fails: it says nothing, and its number is not used again.
            File::open(folder)?.sync_all()?;
        }
        Ok(Box::new(file))
    }

    fn remove(&mut self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }
}

impl DiskFile for File {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write_all(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.sync_data()
    }
}
