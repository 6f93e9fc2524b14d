//! What every HSM backend must do, as one suite that all of them run.

mod import;
mod keys;
mod report;
mod sample;
mod sessions;

use std::sync::Arc;

use hallmark_core::{
    key::Alg,
    ports::{FaultClass, Hsm, HsmFault, ImportSession, PinLedger, TokenFacts},
};

pub use self::report::{Report, report, speed};
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

    /// How many keys may come and go while nobody starts the library anew. A lower number is a declared gap.
    fn changes(&self) -> usize {
        40
    }

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
    ("generates and signs with each algorithm", keys::generates_and_signs),
    ("signs messages of any length", keys::signs_any_length),
    ("generated keys show that they were born there", keys::generated_keys_are_local),
    ("lists what it generated", keys::lists),
    ("never overwrites", keys::never_overwrites),
    ("keys survive sessions and connections", sessions::keys_survive),
    ("a session of before is stale", sessions::old_sessions_are_stale),
    ("sessions work side by side", sessions::concurrent_sessions),
    ("sessions come and go side by side", sessions::sessions_come_and_go),
    ("pairs can be asked for side by side", sessions::concurrent_generation),
    ("makes and destroys keys while others search", sessions::searches_beside_changes),
    ("comes back from a lost session", sessions::lost_session),
    ("comes back from a lost login", sessions::lost_login),
    ("finds a key again whose objects were made anew", sessions::stale_handle),
    ("tries a wrong PIN once", sessions::wrong_pin_once),
    ("refuses two that match", keys::two_matching),
    ("an absent key is absent", keys::absent_key),
    ("another key under the same name is not the key", keys::another_key),
    ("refuses keys of too weak a custody", keys::weak_custody),
    ("refuses an algorithm that is not the key's", keys::wrong_algorithm),
    ("destroys the key and no other", keys::destroys),
    ("is not open before it is connected", sessions::closed_when_disconnected),
    ("imports keys with each algorithm", import::imports_and_signs),
    ("never overwrites when it imports", import::import_never_overwrites),
    ("leaves nothing of an import that is not the key", import::import_of_another_key_leaves_nothing),
    ("starts its library anew only when nobody uses it", sessions::resets),
];

fn connected(subject: &dyn Subject) -> Box<dyn Hsm> {
    connected_with_facts(subject).0
}

fn connected_with_facts(subject: &dyn Subject) -> (Box<dyn Hsm>, TokenFacts) {
    let hsm = subject.hsm(PinCase::Right, Arc::new(MemoryPinLedger::default()));
    let facts = hsm.connect().unwrap();
    (hsm, facts)
}

#[track_caller]
fn class<T>(result: Result<T, HsmFault>) -> FaultClass {
    match result {
        Ok(_) => panic!("succeeded, where it should have failed"),
        Err(fault) => fault.class,
    }
}
