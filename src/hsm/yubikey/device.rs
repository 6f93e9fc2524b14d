//! One YubiKey as an HSM.

use std::{
    collections::HashSet,
    ffi::CStr,
    sync::{
        Arc, Mutex, PoisonError, RwLock,
        atomic::{AtomicU64, Ordering},
    },
};

use hallmark_core::{
    key::Alg,
    ports::{FaultClass, Hsm, HsmFault, HsmSession, PinLedger, ResetRefused, TokenAbout, TokenFacts},
};

use super::{
    card::Card,
    classify::is_lost,
    finding::{self, Places},
    lock,
    management::Management,
    session::YubikeySession,
    slot::Slot,
};
use crate::hsm::{credentials::Credentials, pin::PinSource};

/// Which YubiKey, and what of it Hallmark may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    /// `None`: the only one that is plugged in. Once it was seen, no other is taken for it.
    pub serial: Option<u32>,
    /// The slots that may hold keys, in the order in which keys go into them.
    pub slots: Vec<Slot>,
    /// Those of them whose foreign keys and certificates may be replaced, once no other is free.
    pub overwrite: Vec<Slot>,
}

/// A YubiKey as an [`Hsm`].
///
/// All its sessions share one connection. A session that finds it lost says so, and the next `open` connects anew.
/// `disconnect` never talks to the card, for that may hang: what it leaves behind is closed by the next `connect`.
pub struct YubikeyHsm {
    shared: Arc<Shared>,
    epochs: Arc<AtomicU64>,
    connecting: Mutex<()>,
    live: RwLock<Option<Arc<Epoch>>>,
    left_behind: Mutex<Vec<Arc<Epoch>>>,
}

/// What all epochs have in common.
pub(super) struct Shared {
    pub(super) access: Access,
    pub(super) credentials: Credentials,
    pub(super) management: Management,
    /// Slots that were signed with: never overwritten, whatever the configuration says.
    pub(super) used: Mutex<HashSet<Slot>>,
    seen: Mutex<Option<u32>>,
    pub(super) places: Places,
}

impl Shared {
    fn open(&self) -> Result<Card, HsmFault> {
        let serial = *lock(&self.seen);
        let card = Card::open(serial.or(self.access.serial), self)?;
        *lock(&self.seen) = Some(card.serial);
        Ok(card)
    }
}

/// From one `connect` to the next.
pub(super) struct Epoch {
    /// Odd: while an epoch lasts, the count of all is its number.
    number: u64,
    latest: Arc<AtomicU64>,
    shared: Arc<Shared>,
    /// `None` once a call found the connection lost.
    card: Mutex<Option<Card>>,
}

impl YubikeyHsm {
    /// A YubiKey, not connected. `management_key` is read when a key is to be made or destroyed.
    pub fn new(access: Access, pin: PinSource, management_key: PinSource, ledger: Arc<dyn PinLedger>) -> Self {
        let shared = Shared {
            access,
            credentials: Credentials { source: pin, ledger },
            management: Management::new(management_key),
            used: Mutex::default(),
            seen: Mutex::default(),
            places: Places::default(),
        };
        Self {
            shared: Arc::new(shared),
            epochs: Arc::default(),
            connecting: Mutex::default(),
            live: RwLock::default(),
            left_behind: Mutex::default(),
        }
    }

    fn set_live(&self, epoch: Option<Arc<Epoch>>) -> Option<Arc<Epoch>> {
        std::mem::replace(&mut *self.live.write().unwrap_or_else(PoisonError::into_inner), epoch)
    }

    fn end_epoch(&self) {
        // Rounds up to even: ending twice is ending once.
        let _ = self.epochs.fetch_update(Ordering::Release, Ordering::Relaxed, |number| Some(number + number % 2));
    }
}

impl Hsm for YubikeyHsm {
    fn connect(&self) -> Result<TokenFacts, HsmFault> {
        let _one = lock(&self.connecting);
        self.disconnect();
        // The connections of before, ere a new one begins: where the card is still there, each ends its PIN session.
        lock(&self.left_behind).drain(..).for_each(|epoch| epoch.close());

        let card = self.shared.open()?;
        let facts = facts(&card);
        let number = self.epochs.fetch_add(1, Ordering::AcqRel) + 1;
        let (latest, shared) = (self.epochs.clone(), self.shared.clone());
        self.set_live(Some(Arc::new(Epoch { number, latest, shared, card: Mutex::new(Some(card)) })));
        Ok(facts)
    }

    fn open(&self) -> Result<Box<dyn HsmSession>, HsmFault> {
        let epoch = self.live.read().unwrap_or_else(PoisonError::into_inner).clone();
        let epoch = epoch.ok_or_else(|| HsmFault::new(FaultClass::Gone, "session", "not connected"))?;
        epoch.open()?;
        Ok(Box::new(YubikeySession::new(epoch)))
    }

    fn disconnect(&self) {
        self.end_epoch();
        if let Some(epoch) = self.set_live(None) {
            lock(&self.left_behind).push(epoch);
        }
    }

    /// There is no library to start anew: each connection begins with a context of its own, and so survives a new start of
    /// `pcscd`.
    fn reset(&self) -> Result<(), ResetRefused> {
        let is_live = self.live.read().unwrap_or_else(PoisonError::into_inner).is_some();
        if is_live { Err(ResetRefused::SharedLibrary) } else { Ok(()) }
    }
}

impl Epoch {
    /// Makes sure of the connection and the PIN session; who comes meanwhile waits for the outcome.
    fn open(&self) -> Result<(), HsmFault> {
        let mut card = lock(&self.card);
        self.check()?;
        if let Some(there) = card.as_mut() {
            match there.refresh(&self.shared).map_err(|failed| there.explain(failed)) {
                Err(fault) if is_lost(fault.class) => *card = None,
                done => return done,
            }
        }
        *card = Some(self.shared.open()?);
        Ok(())
    }

    /// Talks to the card, and draws from a failure what concerns more than this call.
    pub(super) fn call<T>(&self, calls: impl FnOnce(&mut Card, &Shared) -> Result<T, HsmFault>) -> Result<T, HsmFault> {
        let mut card = lock(&self.card);
        self.check()?;
        let Some(there) = card.as_mut() else {
            return Err(HsmFault::new(FaultClass::Session, "session", "the connection was lost"));
        };
        let (serial, reader) = (there.serial, there.reader.clone());
        let outcome = calls(there, &self.shared).map_err(|failed| there.explain(failed));
        let outcome = outcome.map_err(|failed| still_plugged_in(&reader, serial, failed));
        if outcome.as_ref().is_err_and(|fault| is_lost(fault.class)) {
            *card = None;
        }
        outcome
    }

    /// Closes the connection, which sessions may hold that outlive the epoch. Not while a call is inside it.
    fn close(&self) {
        if let Ok(mut card) = self.card.try_lock() {
            *card = None;
        }
    }

    fn check(&self) -> Result<(), HsmFault> {
        let now = self.latest.load(Ordering::Acquire);
        let stale = |class| HsmFault::new(class, "session", "stale: the YubiKey was lost since it was opened");
        match now {
            now if now == self.number => Ok(()),
            // Where it is back, another session will do.
            now if now % 2 == 1 => Err(stale(FaultClass::Session)),
            _ => Err(stale(FaultClass::Gone)),
        }
    }
}

/// A YubiKey that was pulled and put back while nobody used it is lost to this connection alone: with another a retry
/// will do, and no caller needs to notice.
fn still_plugged_in(reader: &CStr, serial: u32, failed: HsmFault) -> HsmFault {
    match failed.class {
        FaultClass::Gone if finding::is_in(reader, serial) => HsmFault { class: FaultClass::Session, ..failed },
        _ => failed,
    }
}

fn facts(card: &Card) -> TokenFacts {
    TokenFacts {
        serial: card.serial.to_string(),
        model: format!("YubiKey, firmware {}", card.version),
        max_sessions: Some(1),
        algs: Alg::ALL.into_iter().filter(|alg| *alg != Alg::EdDSA).collect(),
        about: TokenAbout {
            manufacturer: "Yubico".to_owned(),
            firmware: card.version.to_string(),
            hardware: String::new(),
            module: format!("PC/SC reader `{}`", card.reader.to_string_lossy()),
        },
    }
}
