//! The file that stands for the chip's flash memory, with a littlefs in it, which survives a loss of power at any point.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::FileExt,
    path::Path,
};

use generic_array::typenum::{U8, U512};
use littlefs2::{
    driver::Storage,
    io::{Error, Result},
};
use trussed::virt::StorageConfig;

/// Room for 24 RSA-4096 keys, and more.
pub(super) const SIZE: usize = Flash::BLOCK_SIZE * Flash::BLOCK_COUNT;

/// Opens the memory at `path`, or makes one, formatted.
///
/// # Errors
/// What the file system says.
pub(super) fn open(path: &Path) -> io::Result<StorageConfig<'static>> {
    if !path.exists() {
        // Formatted under another name: a card that was killed meanwhile begins again.
        let new = path.with_extension("new");
        fs::write(&new, vec![0xff; SIZE])?;
        let formatted = config(&new, true)?.with_fs(|_| ());
        formatted.map_err(|error| io::Error::other(format!("can't format `{}`: {error:?}", new.display())))?;
        fs::rename(&new, path)?;
    }
    config(path, false)
}

fn config(path: &Path, format: bool) -> io::Result<StorageConfig<'static>> {
    let flash = Flash { memory: fs::read(path)?, file: File::options().write(true).open(path)? };
    if flash.memory.len() != SIZE {
        return Err(io::Error::other(format!("`{}` has not {SIZE} bytes", path.display())));
    }
    Ok(StorageConfig { storage: Box::new(flash), format })
}

/// Written through; read from memory.
struct Flash {
    memory: Vec<u8>,
    file: File,
}

impl Flash {
    fn put(&mut self, offset: usize, data: &[u8]) -> Result<usize> {
        let place = self.memory.get_mut(offset..offset + data.len()).ok_or(Error::NO_SPACE)?;
        place.copy_from_slice(data);
        self.file.write_all_at(data, offset as u64).map_err(|_| Error::IO)?;
        Ok(data.len())
    }
}

impl Storage for Flash {
    const READ_SIZE: usize = 16;
    const WRITE_SIZE: usize = 16;
    const BLOCK_SIZE: usize = 512;
    const BLOCK_COUNT: usize = 2048;
    const BLOCK_CYCLES: isize = -1;
    type CACHE_SIZE = U512;
    type LOOKAHEAD_SIZE = U8;

    fn read(&mut self, offset: usize, buffer: &mut [u8]) -> Result<usize> {
        let data = self.memory.get(offset..offset + buffer.len()).ok_or(Error::IO)?;
        buffer.copy_from_slice(data);
        Ok(data.len())
    }

    fn write(&mut self, offset: usize, data: &[u8]) -> Result<usize> {
        self.put(offset, data)
    }

    fn erase(&mut self, offset: usize, length: usize) -> Result<usize> {
        self.put(offset, &vec![0xff; length])
    }
}
