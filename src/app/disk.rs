//! A disk whose syncs take longer, for `[unsafe_testing]`: shows what auditing costs on slow storage.

use std::{io, path::Path, thread, time::Duration};

use crate::audit::{Disk, DiskFile};

pub(super) struct SlowDisk {
    disk: Box<dyn Disk>,
    delay: Duration,
}

struct SlowFile {
    file: Box<dyn DiskFile>,
    delay: Duration,
}

impl SlowDisk {
    pub(super) fn new(disk: Box<dyn Disk>, delay: Duration) -> Self {
        Self { disk, delay }
    }
}

impl Disk for SlowDisk {
    fn create(&mut self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        Ok(Box::new(SlowFile { file: self.disk.create(path)?, delay: self.delay }))
    }

    fn remove(&mut self, path: &Path) -> io::Result<()> {
        self.disk.remove(path)
    }
}

impl DiskFile for SlowFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.append(bytes)
    }

    #[expect(clippy::disallowed_methods, reason = "it stands for a slow disk")]
    fn sync(&mut self) -> io::Result<()> {
        thread::sleep(self.delay);
        self.file.sync()
    }
}
