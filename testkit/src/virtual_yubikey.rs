//! A YubiKey without hardware: pcscd, and one or two cards of `testkit/virtual-yubikey`, in a namespace of their own.

mod desk;
mod parts;

use std::{
    ffi::OsString,
    fs,
    path::{Path, PathBuf},
    sync::{Mutex, PoisonError},
    thread,
    time::Duration,
};

use self::desk::Desk;

/// A running pcscd with its readers and keys. Stopped on drop, and when the test's process ends without one.
///
/// Nothing of it is root's, and any number run side by side: the program under test stays outside the namespace, and
/// finds pcscd by [`VirtualYubiKey::env`]. PC/SC's client library reads that once a process, so a test that opens the
/// key itself needs [`crate::child::in_child`], with [`VirtualYubiKey::env_in`] and [`VirtualYubiKey::start_in`].
pub struct VirtualYubiKey {
    folder: PathBuf,
    desk: Mutex<Desk>,
    keys: Vec<Mutex<Key>>,
    _owned: Option<tempfile::TempDir>,
}

/// One device.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Key {
    pub firmware: Firmware,
    pub serial: u32,
    /// When somebody touches it, after it asks; `None`: nobody does.
    pub touch: Option<Duration>,
}

/// What differs between generations of the real thing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Firmware {
    /// 5.4.3: 3DES management key, RSA-2048, no MOVE KEY and DELETE KEY.
    V5_4,
    /// 5.7.2: AES-192 management key; RSA-3072, RSA-4096; MOVE KEY and DELETE KEY. No Ed25519 here.
    V5_7,
}

impl Key {
    /// One that nobody touches.
    pub fn new(firmware: Firmware, serial: u32) -> Self {
        Self { firmware, serial, touch: None }
    }
}

impl VirtualYubiKey {
    /// Of a key that was never used.
    pub const PIN: &str = "123456";
    pub const PUK: &str = "12345678";
    /// As hex: the same for 3DES and AES-192.
    pub const MANAGEMENT_KEY: &str = "010203040506070801020304050607080102030405060708";

    /// One key in one reader. `None` where it can't be run, which is said, and is a failure where `CI=true`.
    pub fn start(firmware: Firmware, serial: u32) -> Option<Self> {
        Self::start_with(&[Key::new(firmware, serial)])
    }

    /// One or two keys, each in a reader of its own. `None` as with [`Self::start`].
    pub fn start_with(keys: &[Key]) -> Option<Self> {
        let owned = tempfile::tempdir().expect("a temporary folder");
        let mut started = Self::start_in(owned.path(), keys)?;
        started._owned = Some(owned);
        Some(started)
    }

    /// With its files in a folder of the test's, whose keys are in the state in which they were left there. `None` as
    /// with [`Self::start`].
    pub fn start_in(folder: &Path, keys: &[Key]) -> Option<Self> {
        let parts = parts::find()?;
        let desk = Desk::start(&parts, folder, keys.len());
        let keys: Vec<_> = keys.iter().copied().map(Mutex::new).collect();
        let started = Self { folder: folder.to_owned(), desk: Mutex::new(desk), keys, _owned: None };
        (0..started.keys.len()).for_each(|number| started.reader(number).insert());
        Some(started)
    }

    /// For the process under test.
    pub fn env(&self) -> Vec<(String, OsString)> {
        Self::env_in(&self.folder)
    }

    /// As [`Self::env`], of one that is yet to be started in that folder.
    pub fn env_in(folder: &Path) -> Vec<(String, OsString)> {
        vec![("PCSCLITE_CSOCK_NAME".into(), folder.join("run/pcscd/pcscd.comm").into())]
    }

    /// Logs, state, sockets.
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// Of the key in the first reader.
    pub fn serial(&self) -> u32 {
        self.reader(0).serial()
    }

    /// A reader, from 0. Calls on `self` mean the first.
    pub fn reader(&self, number: usize) -> Reader<'_> {
        assert!(number < self.keys.len(), "there are {} readers", self.keys.len());
        Reader { all: self, number }
    }

    /// See [`Reader::pull`].
    pub fn pull(&self) {
        self.reader(0).pull();
    }

    /// See [`Reader::insert`].
    pub fn insert(&self) {
        self.reader(0).insert();
    }

    /// See [`Reader::insert_other`].
    pub fn insert_other(&self, serial: u32) {
        self.reader(0).insert_other(serial);
    }

    /// See [`Reader::answer_slowly`].
    pub fn answer_slowly(&self, delay: Duration) {
        self.reader(0).answer_slowly(delay);
    }

    /// See [`Reader::drop_pin_session`].
    pub fn drop_pin_session(&self) {
        self.reader(0).drop_pin_session();
    }

    /// Kills pcscd and starts another; the keys stay where they are, and lose their power meanwhile.
    pub fn restart_pcscd(&self) {
        self.stop_pcscd();
        self.start_pcscd();
    }

    /// Kills pcscd.
    pub fn stop_pcscd(&self) {
        self.order("stop-pcscd");
    }

    /// After [`Self::stop_pcscd`]: comes back when keys that are in can be used.
    pub fn start_pcscd(&self) {
        self.order("start-pcscd");
    }

    /// In PEM: what attestations end at. For tests alone; everybody has its private key.
    pub fn attestation_root() -> &'static str {
        include_str!("../virtual-yubikey/attestation-root.pem")
    }

    fn order(&self, line: &str) {
        // A test that failed in here has nothing to say about the next order.
        self.desk.lock().unwrap_or_else(PoisonError::into_inner).order(line);
    }
}

/// One of the readers.
pub struct Reader<'a> {
    all: &'a VirtualYubiKey,
    number: usize,
}

impl Reader<'_> {
    /// Of the key that is in it, or was last.
    pub fn serial(&self) -> u32 {
        self.key().serial
    }

    /// Takes the key out, whatever it is doing. Comes back when pcscd has seen it.
    pub fn pull(&self) {
        self.order("pull", "");
    }

    /// Puts the key back, or another that [`Self::insert_other`] named. Comes back when it can be used.
    pub fn insert(&self) {
        let Key { firmware, serial, touch } = self.key();
        let firmware = match firmware {
            Firmware::V5_4 => "5.4.3",
            Firmware::V5_7 => "5.7.2",
        };
        let touch = touch.map_or("never".into(), |after| after.as_millis().to_string());
        self.order("insert", &format!(" {serial} {firmware} {touch}"));
    }

    /// Puts in a key of the same kind with another serial: a new one, or one that was in before, with its state.
    pub fn insert_other(&self, serial: u32) {
        self.all.keys[self.number].lock().unwrap_or_else(PoisonError::into_inner).serial = serial;
        self.insert();
    }

    /// Has it take so long before each answer; zero ends that, and so does pulling it.
    pub fn answer_slowly(&self, delay: Duration) {
        self.order("slow", &format!(" {}", delay.as_millis()));
    }

    /// As if another program had selected the application and left: the next signature wants the PIN again.
    pub fn drop_pin_session(&self) {
        self.order("drop-pin", "");
    }

    fn order(&self, what: &str, rest: &str) {
        self.all.order(&format!("{what} {}{rest}", self.number));
    }

    fn key(&self) -> Key {
        *self.all.keys[self.number].lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for VirtualYubiKey {
    fn drop(&mut self) {
        if !thread::panicking() {
            return;
        }
        for name in ["desk.log", "pcscd.log", "card.0.log", "card.1.log"] {
            let log = fs::read_to_string(self.folder.join(name)).unwrap_or_default();
            let lines: Vec<_> = log.lines().collect();
            if !lines.is_empty() {
                let tail = &lines[lines.len().saturating_sub(LINES_SHOWN)..];
                eprintln!("--- {name} of the virtual YubiKey (the last lines)\n{}\n---", tail.join("\n"));
            }
        }
    }
}

const LINES_SHOWN: usize = 20;
