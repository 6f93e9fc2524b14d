//! What every HSM backend must do, as one suite that all of them run.

mod import;
mod report;

use std::{
    sync::{Arc, Barrier},
    thread,
};

use hallmark_core::{
    client::Custody,
    key::{Alg, KeySpec},
    ports::{FaultClass, Hsm, HsmFault, HsmSession, ImportSession, KeyRef, NewKey, PinLedger, ResetRefused},
    public_key::PublicKey,
};
use uuid::Uuid;

pub use self::report::{Report, report};
use crate::{pin_ledger::MemoryPinLedger, software_key::SoftwareKey};

/// A token under test, and what the suite needs to do to it behind the backend's back.
pub trait Subject: Sync {
    /// A new instance of the backend for the token, not connected.
    fn hsm(&self, pin: PinCase, ledger: Arc<dyn PinLedger>) -> Box<dyn Hsm>;

    /// What the token can generate and sign, declared. A gap of a backend is written down here.
    fn algs(&self) -> &'static [Alg];

    /// Puts a P-256 key there that was not generated there, without regard to what is there already.
    fn plant(&self, cka_id: &[u8], label: &str, key: &Arc<SoftwareKey>, extractable: bool);

    /// Whether [`Subject::plant`] can. `false` is a declared gap.
    fn plants(&self) -> bool {
        true
    }

    /// Takes away all keys, for a token with room for few. Called after each case, when nobody is connected.
    fn clear(&self) {}

    /// A connected instance, and a session of it that can import. `None` is a declared gap.
    fn importer(&self) -> Option<(Box<dyn Hsm>, Box<dyn ImportSession>)>;

    /// How to make the token lose what the backend holds. `None` is a declared gap.
    fn losses(&self) -> Option<&dyn Losses>;

    /// What the backend does itself, for the token does not: for the report.
    fn fallbacks(&self) -> String {
        "none".into()
    }

    /// Signs with RS256 by the key of this `CKA_ID` and nothing of the backend's, to compare with. `None`: can't.
    fn bare(&self, _cka_id: &[u8]) -> Option<Bare<'_>> {
        None
    }
}

/// Signs a message, and throws the signature away.
pub type Bare<'a> = Box<dyn FnMut(&[u8]) + 'a>;

/// What a token may do behind the backend's back.
pub trait Losses {
    /// Logs the application out.
    fn log_out(&self);

    /// Closes all its sessions.
    fn lose_sessions(&self);
}

/// Which PIN the backend's source holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PinCase {
    Right,
    Wrong,
}

/// Runs the whole suite, and says which case is on. The token may hold other keys; it must not be in use.
pub fn run(subject: &dyn Subject) {
    for (name, case) in CASES {
        eprintln!("contract: {name}");
        case(subject);
        subject.clear();
    }
}

type Case = fn(&dyn Subject);

const CASES: &[(&str, Case)] = &[
    ("generates and signs with each algorithm", generates_and_signs),
    ("signs messages of any length", signs_any_length),
    ("generated keys show that they were born there", generated_keys_are_local),
    ("lists what it generated", lists),
    ("never overwrites", never_overwrites),
    ("keys survive sessions and connections", keys_survive),
    ("a session of before is stale", old_sessions_are_stale),
    ("sessions work side by side", concurrent_sessions),
    ("pairs can be asked for side by side", concurrent_generation),
    ("comes back from a lost session", lost_session),
    ("comes back from a lost login", lost_login),
    ("finds a key again whose objects were made anew", stale_handle),
    ("tries a wrong PIN once", wrong_pin_once),
    ("refuses two that match", two_matching),
    ("an absent key is absent", absent_key),
    ("another key under the same name is not the key", another_key),
    ("refuses keys of too weak a custody", weak_custody),
    ("refuses an algorithm that is not the key's", wrong_algorithm),
    ("destroys the key and no other", destroys),
    ("is not open before it is connected", closed_when_disconnected),
    ("imports keys with each algorithm", import::imports_and_signs),
    ("never overwrites when it imports", import::import_never_overwrites),
    ("leaves nothing of an import that is not the key", import::import_of_another_key_leaves_nothing),
    ("starts its library anew only when nobody uses it", resets),
];

fn generates_and_signs(subject: &dyn Subject) {
    let (hsm, facts) = connected_with_facts(subject);
    assert_eq!(facts.algs, subject.algs());
    assert!(!facts.serial.is_empty());
    let mut session = hsm.open().unwrap();
    for alg in facts.algs {
        let key = Key::generate(session.as_mut(), alg);
        assert!(key.public.suits(alg), "{alg}: the key is of another kind");
        key.assert_signs(session.as_mut());
    }
}

fn signs_any_length(subject: &dyn Subject) {
    let hsm = connected(subject);
    let mut session = hsm.open().unwrap();
    for alg in [Alg::RS384, Alg::ES256] {
        let key = Key::generate(session.as_mut(), alg);
        let verifier = key.public.verifier(alg).unwrap();
        // Around the block lengths of SHA-256 and SHA-384, and what a large assertion takes.
        for len in [0, 1, 55, 56, 63, 64, 65, 111, 112, 127, 128, 129, 1000, 16384] {
            let message: Vec<u8> = (0..len).map(|i| (i % 251) as u8).collect();
            let signature = session.sign(&key.as_ref(), alg, &message).unwrap();
            assert!(verifier.verifies(&message, &signature), "{alg}, {len} bytes: does not verify");
        }
    }
}

fn generated_keys_are_local(subject: &dyn Subject) {
    let hsm = connected(subject);
    let mut session = hsm.open().unwrap();
    for alg in [Alg::RS256, Alg::ES256] {
        let key = Key::generate(session.as_mut(), alg);
        let evidence = session.evidence(&key.as_ref()).unwrap();
        assert_eq!(evidence.custody(), Ok(Custody::Local), "{alg}: {evidence:?}");
    }
}

fn lists(subject: &dyn Subject) {
    let hsm = connected(subject);
    let mut session = hsm.open().unwrap();
    let key = Key::generate(session.as_mut(), Alg::ES256);
    let listed = session.list().unwrap();
    let found: Vec<_> = listed.iter().filter(|object| object.cka_id == key.cka_id).collect();
    let [object] = found.as_slice() else { panic!("listed {} times", found.len()) };
    assert_eq!((object.label.as_str(), object.has_private), (key.label.as_str(), true));
    assert_eq!(object.public.as_ref().map(PublicKey::thumbprint), Some(key.public.thumbprint()));
    // A listing is also how keys are found in advance.
    key.assert_signs(session.as_mut());
}

fn never_overwrites(subject: &dyn Subject) {
    let hsm = connected(subject);
    let mut session = hsm.open().unwrap();
    let key = Key::generate(session.as_mut(), Alg::ES256);
    for label in [key.label.as_str(), "another label"] {
        let spec = KeySpec { alg: Alg::ES256, rsa_bits: 0 };
        let second = session.generate(&NewKey { cka_id: &key.cka_id, label, spec });
        assert_eq!(class(second), FaultClass::Request);
    }
    key.assert_signs(session.as_mut());
}

fn keys_survive(subject: &dyn Subject) {
    let key = {
        let hsm = connected(subject);
        let mut session = hsm.open().unwrap();
        let key = Key::generate(session.as_mut(), Alg::ES256);
        drop(session);
        key.assert_signs(hsm.open().unwrap().as_mut());
        hsm.disconnect();
        hsm.connect().unwrap();
        key.assert_signs(hsm.open().unwrap().as_mut());
        key
    };
    key.assert_signs(connected(subject).open().unwrap().as_mut());
}

fn old_sessions_are_stale(subject: &dyn Subject) {
    let hsm = connected(subject);
    let mut old = hsm.open().unwrap();
    let key = Key::generate(old.as_mut(), Alg::ES256);
    hsm.disconnect();
    assert_eq!(class(key.sign(old.as_mut())), FaultClass::Gone);
    hsm.connect().unwrap();
    let mut new = hsm.open().unwrap();
    assert_eq!(class(key.sign(old.as_mut())), FaultClass::Session);
    // Its end must not be that of another: handles are given again.
    drop(old);
    key.assert_signs(new.as_mut());
}

fn concurrent_sessions(subject: &dyn Subject) {
    let hsm = connected(subject);
    let keys = [Alg::RS256, Alg::ES256].map(|alg| Key::generate(hsm.open().unwrap().as_mut(), alg));
    let start = Barrier::new(4);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                let mut session = hsm.open().unwrap();
                start.wait();
                for _ in 0..25 {
                    keys.iter().for_each(|key| key.assert_signs(session.as_mut()));
                }
            });
        }
    });
}

fn concurrent_generation(subject: &dyn Subject) {
    let hsm = connected(subject);
    let start = Barrier::new(3);
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let mut session = hsm.open().unwrap();
                start.wait();
                for alg in [Alg::ES256, Alg::RS256] {
                    Key::generate(session.as_mut(), alg).assert_signs(session.as_mut());
                }
            });
        }
    });
}

fn lost_session(subject: &dyn Subject) {
    let Some(losses) = subject.losses() else { return };
    let hsm = connected(subject);
    let mut session = hsm.open().unwrap();
    let key = Key::generate(session.as_mut(), Alg::ES256);
    key.assert_signs(session.as_mut());
    losses.lose_sessions();
    key.assert_signs_after_one_retry(hsm.as_ref(), session);
}

fn lost_login(subject: &dyn Subject) {
    let Some(losses) = subject.losses() else { return };
    let ledger = Arc::new(MemoryPinLedger::default());
    let hsm = subject.hsm(PinCase::Right, ledger.clone());
    hsm.connect().unwrap();
    let mut session = hsm.open().unwrap();
    let key = Key::generate(session.as_mut(), Alg::ES256);
    key.assert_signs(session.as_mut());
    losses.log_out();
    key.assert_signs_after_one_retry(hsm.as_ref(), session);
    assert_eq!(ledger.tries(), 2);

    // All workers notice at once; one of them logs in.
    losses.log_out();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| key.assert_signs(hsm.open().unwrap().as_mut()));
        }
    });
    assert_eq!(ledger.tries(), 3);
}

fn stale_handle(subject: &dyn Subject) {
    if !subject.plants() {
        return;
    }
    let [hsm, other] = [connected(subject), connected(subject)];
    let software = Arc::new(SoftwareKey::generate(P256));
    let key = Key::of(subject, &software, false);
    let mut session = hsm.open().unwrap();
    key.assert_signs(session.as_mut());
    other.open().unwrap().destroy(&key.as_ref()).unwrap();
    subject.plant(&key.cka_id, &key.label, &software, false);
    if let Err(fault) = key.sign(session.as_mut()) {
        assert_eq!(fault.class, FaultClass::Handle, "{fault}");
    }
    key.assert_signs(session.as_mut());
}

fn wrong_pin_once(subject: &dyn Subject) {
    let ledger = Arc::new(MemoryPinLedger::default());
    // A login that sessions of before still hold would spare the PIN.
    subject.hsm(PinCase::Right, ledger.clone()).reset().unwrap();
    for _restart in 0..3 {
        let hsm = subject.hsm(PinCase::Wrong, ledger.clone());
        for _try in 0..2 {
            assert_eq!(class(hsm.connect()), FaultClass::Pin);
            assert_eq!(class(hsm.open()), FaultClass::Gone);
        }
    }
    assert_eq!(ledger.tries(), 1, "a wrong PIN was tried more than once");
    // The right one comes from another source, and is not held up.
    subject.hsm(PinCase::Right, ledger).connect().unwrap();
}

fn two_matching(subject: &dyn Subject) {
    if !subject.plants() {
        return;
    }
    let hsm = connected(subject);
    let key = Key::plant(subject, false);
    key.assert_signs(hsm.open().unwrap().as_mut());

    let twin = Key::plant(subject, false);
    subject.plant(&twin.cka_id, &twin.label, &Arc::new(SoftwareKey::generate(P256)), false);
    assert_eq!(class(twin.sign(hsm.open().unwrap().as_mut())), FaultClass::KeyAbsent);
}

fn absent_key(subject: &dyn Subject) {
    let hsm = connected(subject);
    let mut session = hsm.open().unwrap();
    let key = Key::generate(session.as_mut(), Alg::ES256);
    let ghost = Key { cka_id: Uuid::new_v4().as_bytes().to_vec(), ..key.clone() };
    assert_eq!(class(ghost.sign(session.as_mut())), FaultClass::KeyAbsent);
    assert_eq!(class(session.evidence(&ghost.as_ref())), FaultClass::KeyAbsent);
    assert_eq!(class(session.destroy(&ghost.as_ref())), FaultClass::KeyAbsent);
    let renamed = Key { label: "another label".into(), ..key.clone() };
    assert_eq!(class(renamed.sign(session.as_mut())), FaultClass::KeyAbsent);
    key.assert_signs(session.as_mut());
}

fn another_key(subject: &dyn Subject) {
    let hsm = connected(subject);
    let mut session = hsm.open().unwrap();
    let key = Key::generate(session.as_mut(), Alg::ES256);
    key.assert_signs(session.as_mut());
    let public = SoftwareKey::generate(P256).public();
    let other = Key { public, ..key.clone() };
    assert_eq!(class(other.sign(session.as_mut())), FaultClass::KeyAbsent);
    assert_eq!(class(session.destroy(&other.as_ref())), FaultClass::KeyAbsent);
    key.assert_signs(session.as_mut());
}

fn weak_custody(subject: &dyn Subject) {
    let hsm = connected(subject);
    let mut session = hsm.open().unwrap();
    let wanted_attested = Key { custody: Custody::Attested, ..Key::generate(session.as_mut(), Alg::ES256) };
    assert_eq!(class(wanted_attested.sign(session.as_mut())), FaultClass::CustodyTooWeak);
    if !subject.plants() {
        return;
    }
    let extractable = Key::plant(subject, true);
    assert_eq!(class(extractable.sign(session.as_mut())), FaultClass::CustodyTooWeak);

    let imported = Key::plant(subject, false);
    imported.assert_signs(session.as_mut());
    let wanted_local = Key { custody: Custody::Local, ..imported };
    assert_eq!(class(wanted_local.sign(session.as_mut())), FaultClass::CustodyTooWeak);
}

fn wrong_algorithm(subject: &dyn Subject) {
    let hsm = connected(subject);
    let mut session = hsm.open().unwrap();
    let key = Key::generate(session.as_mut(), Alg::ES256);
    for alg in [Alg::RS256, Alg::ES384, Alg::EdDSA] {
        assert_eq!(class(session.sign(&key.as_ref(), alg, b"message")), FaultClass::Request);
    }
    key.assert_signs(session.as_mut());
}

fn destroys(subject: &dyn Subject) {
    let hsm = connected(subject);
    let mut session = hsm.open().unwrap();
    let [doomed, other] = [(); 2].map(|()| Key::generate(session.as_mut(), Alg::ES256));
    doomed.assert_signs(session.as_mut());
    session.destroy(&doomed.as_ref()).unwrap();
    // Bound before, also by another session.
    assert_eq!(class(doomed.sign(session.as_mut())), FaultClass::KeyAbsent);
    assert_eq!(class(doomed.sign(hsm.open().unwrap().as_mut())), FaultClass::KeyAbsent);
    assert!(session.list().unwrap().iter().all(|object| object.cka_id != doomed.cka_id));
    other.assert_signs(session.as_mut());
}

fn closed_when_disconnected(subject: &dyn Subject) {
    let hsm = subject.hsm(PinCase::Right, Arc::new(MemoryPinLedger::default()));
    assert_eq!(class(hsm.open()), FaultClass::Gone);
    hsm.connect().unwrap();
    hsm.disconnect();
    hsm.disconnect();
    assert_eq!(class(hsm.open()), FaultClass::Gone);
}

fn resets(subject: &dyn Subject) {
    let hsm = connected(subject);
    let mut old = hsm.open().unwrap();
    let key = Key::generate(old.as_mut(), Alg::ES256);
    assert_eq!(hsm.reset(), Err(ResetRefused::SharedLibrary));
    key.assert_signs(old.as_mut());
    hsm.disconnect();
    hsm.reset().unwrap();
    hsm.connect().unwrap();
    let mut new = hsm.open().unwrap();
    drop(old);
    key.assert_signs(new.as_mut());
}

/// A key of the suite, with what its record would hold.
#[derive(Clone)]
struct Key {
    cka_id: Vec<u8>,
    label: String,
    alg: Alg,
    public: PublicKey,
    custody: Custody,
}

impl Key {
    fn generate(session: &mut dyn HsmSession, alg: Alg) -> Self {
        let (cka_id, label) = fresh_names();
        let spec = KeySpec { alg, rsa_bits: KeySpec::DEFAULT_RSA_BITS };
        let public = session.generate(&NewKey { cka_id: &cka_id, label: &label, spec }).unwrap();
        Self { cka_id, label, alg, public, custody: Custody::Local }
    }

    fn plant(subject: &dyn Subject, extractable: bool) -> Self {
        Self::of(subject, &Arc::new(SoftwareKey::generate(P256)), extractable)
    }

    fn of(subject: &dyn Subject, key: &Arc<SoftwareKey>, extractable: bool) -> Self {
        let (cka_id, label) = fresh_names();
        subject.plant(&cka_id, &label, key, extractable);
        Self { cka_id, label, alg: Alg::ES256, public: key.public(), custody: Custody::Imported }
    }

    fn as_ref(&self) -> KeyRef<'_> {
        KeyRef { cka_id: &self.cka_id, label: &self.label, public: &self.public, custody: self.custody }
    }

    fn sign(&self, session: &mut dyn HsmSession) -> Result<Vec<u8>, HsmFault> {
        session.sign(&self.as_ref(), self.alg, MESSAGE)
    }

    fn assert_signs(&self, session: &mut dyn HsmSession) {
        self.assert_verifies(&self.sign(session).unwrap());
    }

    /// What a worker does: one retry, by the class of the fault.
    fn assert_signs_after_one_retry(&self, hsm: &dyn Hsm, mut session: Box<dyn HsmSession>) {
        let fault = self.sign(session.as_mut()).unwrap_err();
        if fault.class != FaultClass::Handle {
            assert!(matches!(fault.class, FaultClass::Session | FaultClass::Login), "{fault}: {:?}", fault.class);
            drop(session);
            session = hsm.open().unwrap();
        }
        self.assert_signs(session.as_mut());
    }

    fn assert_verifies(&self, signature: &[u8]) {
        let verifier = self.public.verifier(self.alg).unwrap();
        assert!(verifier.verifies(MESSAGE, signature), "{}: does not verify", self.alg);
        assert!(!verifier.verifies(b"another message", signature), "{}: verifies anything", self.alg);
    }
}

fn connected(subject: &dyn Subject) -> Box<dyn Hsm> {
    connected_with_facts(subject).0
}

fn connected_with_facts(subject: &dyn Subject) -> (Box<dyn Hsm>, hallmark_core::ports::TokenFacts) {
    let hsm = subject.hsm(PinCase::Right, Arc::new(MemoryPinLedger::default()));
    let facts = hsm.connect().unwrap();
    (hsm, facts)
}

fn fresh_names() -> (Vec<u8>, String) {
    let id = Uuid::new_v4();
    (id.as_bytes().to_vec(), format!("contract-{id}"))
}

#[track_caller]
fn class<T>(result: Result<T, HsmFault>) -> FaultClass {
    match result {
        Ok(_) => panic!("succeeded, where it should have failed"),
        Err(fault) => fault.class,
    }
}

const P256: KeySpec = KeySpec { alg: Alg::ES256, rsa_bits: 0 };
const MESSAGE: &[u8] = b"eyJhbGciOiJSUzM4NCJ9.eyJpc3MiOiJoYWxsbWFyayJ9";
