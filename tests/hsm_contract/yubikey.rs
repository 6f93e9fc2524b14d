//! A virtual YubiKey under test, and a second way into it.

use std::{ffi::CString, fs, os::unix::fs::PermissionsExt, path::PathBuf, sync::Arc};

use hallmark::hsm::{
    pin::PinSource,
    yubikey::{Access, Slot, YubikeyHsm},
};
use hallmark_core::{
    key::Alg,
    ports::{FaultClass, Hsm, ImportSession, PinLedger, PinLedgerRefusal, PinVerdict, StoreError},
};
use hallmark_testkit::{
    child::in_child,
    hsm_contract::{Losses, PinCase, Subject},
    pin_ledger::MemoryPinLedger,
    software_key::SoftwareKey,
    virtual_yubikey::{Firmware, VirtualYubiKey},
};
use pcsc::{Card, Context, Disposition, Protocols, Scope, ShareMode};

const SERIAL: u32 = 12_345_678;

/// EdDSA is the gap: see `docs/adr/0013-…`.
const ALGS: &[Alg] = &[Alg::RS256, Alg::RS384, Alg::RS512, Alg::PS256, Alg::PS384, Alg::PS512, Alg::ES256, Alg::ES384];

/// Runs `body` in a child process that has a YubiKey plugged in; not at all where there can be none.
pub(super) fn in_child_with(test: &str, firmware: Firmware, body: impl FnOnce(&YubikeySubject)) {
    let is_child = std::env::var_os("PCSCLITE_CSOCK_NAME").is_some();
    let key = if is_child { None } else { VirtualYubiKey::start(firmware, SERIAL) };
    let Some(env) = key.as_ref().map(VirtualYubiKey::env).or_else(|| is_child.then(Vec::new)) else { return };
    in_child(test, || (key, env), || body(&YubikeySubject::new()));
}

/// A YubiKey as the backend sees it, and as any other program does.
pub(super) struct YubikeySubject {
    folder: tempfile::TempDir,
}

impl YubikeySubject {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        for (name, text) in
            [("pin", VirtualYubiKey::PIN), ("wrong-pin", "00000000"), ("key", VirtualYubiKey::MANAGEMENT_KEY)]
        {
            fs::write(folder.path().join(name), text).unwrap();
            fs::set_permissions(folder.path().join(name), fs::Permissions::from_mode(0o600)).unwrap();
        }
        Self { folder }
    }

    fn source(&self, name: &str) -> PinSource {
        let path: PathBuf = self.folder.path().join(name);
        PinSource::parse(path.to_str().unwrap(), None).unwrap()
    }
}

impl Subject for YubikeySubject {
    fn hsm(&self, pin: PinCase, ledger: Arc<dyn PinLedger>) -> Box<dyn Hsm> {
        let pin = if pin == PinCase::Right { "pin" } else { "wrong-pin" };
        let access = Access { serial: Some(SERIAL), slots: Slot::all().collect(), overwrite: Vec::new() };
        Box::new(YubikeyHsm::new(access, self.source(pin), self.source("key"), ledger))
    }

    fn algs(&self) -> &'static [Alg] {
        ALGS
    }

    fn plant(&self, _: &[u8], _: &str, _: &Arc<SoftwareKey>, _: bool) {
        unreachable!("the virtual card takes no EC keys from outside");
    }

    fn plants(&self) -> bool {
        false
    }

    /// Blocks PIN and PUK, and resets the application.
    fn clear(&self) {
        let mut other = OtherProgram::new();
        for (ins, rest) in [(0x20, &[0xff; 8][..]), (0x2c, &[0xff; 16])] {
            while other.send(&[&[0, ins, 0, 0x80, rest.len() as u8], rest].concat()) != 0x6983 {}
        }
        assert_eq!(other.send(&[0, 0xfb, 0, 0]), 0x9000);
    }

    fn importer(&self) -> Option<(Box<dyn Hsm>, Box<dyn ImportSession>)> {
        None
    }

    fn fallbacks(&self) -> String {
        "hashes and RSA padding of our own".into()
    }

    fn losses(&self) -> Option<&dyn Losses> {
        Some(self)
    }
}

impl Losses for YubikeySubject {
    fn log_out(&self) {
        OtherProgram::new().leave(Disposition::LeaveCard);
    }

    fn lose_sessions(&self) {
        OtherProgram::new().leave(Disposition::ResetCard);
    }
}

/// Selects PIV, as any other program would.
struct OtherProgram(Card);

impl OtherProgram {
    fn new() -> Self {
        let context = Context::establish(Scope::User).unwrap();
        let readers: Vec<CString> = context.list_readers_owned().unwrap();
        let connect = |reader: &CString| context.connect(reader, ShareMode::Shared, Protocols::ANY).ok();
        let mut this = Self(readers.iter().find_map(connect).unwrap());
        assert_eq!(this.send(&[0, 0xa4, 4, 0, 5, 0xa0, 0, 0, 3, 8]), 0x9000);
        this
    }

    /// The status of the answer.
    fn send(&mut self, apdu: &[u8]) -> u16 {
        let mut buffer = [0; 300];
        let answer = self.0.transmit(apdu, &mut buffer).unwrap();
        u16::from_be_bytes(*answer.last_chunk().unwrap())
    }

    fn leave(self, disposition: Disposition) {
        self.0.disconnect(disposition).map_err(|(_, error)| error).unwrap();
    }
}

/// Keeps the contract of a ledger, and has others try wrong PINs while it writes.
struct SlowLedger {
    inner: MemoryPinLedger,
    others: fn(),
}

impl PinLedger for SlowLedger {
    fn begin(&self, token: &str, source: &str) -> Result<(), PinLedgerRefusal> {
        (self.others)();
        self.inner.begin(token, source)
    }

    fn end(&self, token: &str, source: &str, verdict: PinVerdict) -> Result<(), StoreError> {
        self.inner.end(token, source, verdict)
    }
}

/// The count that was read before the ledger was asked may be old by the time the PIN is sent.
pub(super) fn leaves_the_last_try_to_a_person(subject: &YubikeySubject) {
    fn spend_two() {
        let mut other = OtherProgram::new();
        let wrong = [&[0, 0x20, 0, 0x80, 8][..], b"99999999"].concat();
        assert_eq!([other.send(&wrong), other.send(&wrong)], [0x63c2, 0x63c1]);
        other.leave(Disposition::LeaveCard);
    }
    let ledger = Arc::new(SlowLedger { inner: MemoryPinLedger::default(), others: spend_two });
    let hsm = subject.hsm(PinCase::Wrong, ledger.clone());
    let refused = hsm.connect().unwrap_err();
    assert_eq!(refused.class, FaultClass::Pin);
    assert!(refused.code.contains("one try is left"), "{refused}");
    assert_eq!(OtherProgram::new().send(&[0, 0x20, 0, 0x80]), 0x63c1, "the last try was spent");

    // A person verifies the PIN: nothing was tried of this source, and it may be now.
    let mut person = OtherProgram::new();
    assert_eq!(person.send(&[&[0, 0x20, 0, 0x80, 8][..], b"123456\xff\xff"].concat()), 0x9000);
    person.leave(Disposition::ResetCard);
    let none = Arc::new(SlowLedger { inner: MemoryPinLedger::default(), others: || {} });
    subject.hsm(PinCase::Right, none).connect().expect("the count is whole again");
}
