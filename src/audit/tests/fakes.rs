//! A disk that fails, hangs and forgets on demand, and a clock that is set.

use std::{
    fs::{self, File},
    io::{self, Write},
    path::Path,
    sync::{
        Arc, Condvar, Mutex,
        atomic::{AtomicI64, Ordering::SeqCst},
    },
    time::Duration,
};

use hallmark_core::{ports::Clock, time::Timestamp};

use crate::audit::{Disk, DiskFile};

/// What is appended reaches the real file when it is synced, and not before.
#[derive(Clone, Default)]
pub(crate) struct FakeDisk {
    switches: Arc<(Mutex<Switches>, Condvar)>,
}

#[derive(Default)]
struct Switches {
    full: bool,
    failed_creations: u32,
    sync_fails: bool,
    sync_panics: bool,
    /// How many syncs may pass; `None`: all.
    passes: Option<u32>,
    /// Syncs that have begun, since the last [`FakeDisk::sync_entered`].
    entered: u32,
    synced: u32,
}

impl FakeDisk {
    /// From now on a write puts half of its bytes down and fails.
    pub(crate) fn fill(&self) {
        self.set(|s| s.full = true);
    }

    pub(crate) fn free(&self) {
        self.set(|s| s.full = false);
    }

    /// Waits until a new file could not be written.
    pub(crate) fn creation_failed(&self) {
        self.wait(|s| s.failed_creations > 0);
    }

    pub(crate) fn fail_next_sync(&self) {
        self.set(|s| s.sync_fails = true);
    }

    pub(crate) fn panic_at_next_sync(&self) {
        self.set(|s| s.sync_panics = true);
    }

    pub(crate) fn hold_syncs(&self) {
        self.set(|s| (s.passes, s.entered) = (Some(0), 0));
    }

    pub(crate) fn release_one_sync(&self) {
        self.set(|s| s.passes = Some(1));
    }

    pub(crate) fn release_syncs(&self) {
        self.set(|s| s.passes = None);
    }

    /// Waits until the writer is in a sync.
    pub(crate) fn sync_entered(&self) {
        self.wait(|s| s.entered > 0);
        self.set(|s| s.entered = 0);
    }

    pub(crate) fn forget_syncs(&self) {
        self.set(|s| s.synced = 0);
    }

    /// Waits until a sync has ended.
    pub(crate) fn synced(&self) {
        self.wait(|s| s.synced > 0);
    }

    fn set(&self, change: impl FnOnce(&mut Switches)) {
        change(&mut self.switches.0.lock().unwrap());
        self.switches.1.notify_all();
    }

    fn wait(&self, reached: impl Fn(&Switches) -> bool) {
        let switches = self.switches.0.lock().unwrap();
        let limit = Duration::from_secs(10);
        let (_switches, timeout) = self.switches.1.wait_timeout_while(switches, limit, |s| !reached(s)).unwrap();
        assert!(!timeout.timed_out(), "the writer never came to that");
    }
}

impl Disk for FakeDisk {
    fn create(&mut self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let file = File::create_new(path)?;
        Ok(Box::new(FakeFile { disk: self.clone(), file, unsynced: vec![] }))
    }

    fn remove(&mut self, path: &Path) -> io::Result<()> {
        self.set(|s| s.failed_creations += 1);
        fs::remove_file(path)
    }
}

struct FakeFile {
    disk: FakeDisk,
    file: File,
    unsynced: Vec<u8>,
}

impl DiskFile for FakeFile {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.disk.switches.0.lock().unwrap().full {
            self.file.write_all(&bytes[..bytes.len() / 2])?;
            return Err(io::Error::from_raw_os_error(rustix::io::Errno::NOSPC.raw_os_error()));
        }
        self.unsynced.extend_from_slice(bytes);
        Ok(())
    }

    fn sync(&mut self) -> io::Result<()> {
        self.disk.set(|s| s.entered += 1);
        self.disk.wait(|s| s.passes != Some(0));
        let mut switches = self.disk.switches.0.lock().unwrap();
        switches.passes = switches.passes.map(|passes| passes - 1);
        if std::mem::take(&mut switches.sync_panics) {
            drop(switches);
            panic!("as the test asked");
        }
        if std::mem::take(&mut switches.sync_fails) {
            // The kernel drops such pages: the next sync would report success without them.
            self.unsynced.clear();
            return Err(io::Error::from_raw_os_error(rustix::io::Errno::IO.raw_os_error()));
        }
        self.file.write_all(&self.unsynced)?;
        self.unsynced.clear();
        switches.synced += 1;
        drop(switches);
        self.disk.switches.1.notify_all();
        Ok(())
    }
}

/// Stands still until it is moved.
#[derive(Debug, Default)]
pub(crate) struct SetClock(AtomicI64);

impl SetClock {
    pub(crate) fn advance(&self, millis: i64) {
        self.0.fetch_add(millis, SeqCst);
    }
}

impl Clock for SetClock {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(self.0.load(SeqCst))
    }
}
