//! Which initialisation of the library, and which epoch of the token, a handle belongs to.
//!
//! A handle is a small number that means something only within one life: after `C_Finalize` the same numbers are
//! given out again. So whoever holds a handle holds a [`Life`] beside it, and enters the library through it.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use cryptoki::session::Session;
use hallmark_core::ports::{FaultClass, HsmFault};

use super::module::{Inside, Module};

/// One connection to a token: from a `connect` to the `disconnect` after it.
#[derive(Clone)]
pub(super) struct Life {
    pub(super) module: Arc<Module>,
    generation: u64,
    number: u64,
    latest: Epochs,
}

/// The epochs of one token, counted: odd while it is connected, even while it is not.
#[derive(Clone, Default)]
pub(super) struct Epochs(Arc<AtomicU64>);

impl Epochs {
    /// Begins a new epoch; what belongs to an older one is stale from now on.
    pub(super) fn begin(&self, module: &Arc<Module>, inside: &Inside<'_>) -> Life {
        let number = (self.now() + 1) | 1;
        self.0.store(number, Ordering::Release);
        Life { module: module.clone(), generation: inside.generation, number, latest: self.clone() }
    }

    pub(super) fn end(&self) {
        // Rounds up to even: ending twice is ending once.
        let _ = self.0.fetch_update(Ordering::Release, Ordering::Relaxed, |number| Some(number + number % 2));
    }

    fn now(&self) -> u64 {
        self.0.load(Ordering::Acquire)
    }
}

impl Life {
    /// Enters the library for a call with a handle of this life; a stale one fails here, before the library sees it.
    pub(super) fn enter(&self) -> Result<Inside<'_>, HsmFault> {
        let now = self.latest.now();
        let stale = |class| HsmFault::new(class, "session", "stale: the token was lost since it was opened");
        if now != self.number {
            // Where the token is back, another session will do.
            return Err(stale(if now % 2 == 1 { FaultClass::Session } else { FaultClass::Gone }));
        }
        let inside = self.module.enter()?;
        if inside.generation != self.generation {
            return Err(stale(FaultClass::Gone));
        }
        Ok(inside)
    }

    /// Closes a session of this life, unless its handle could be another's by now.
    ///
    /// After the end of an epoch it may still be closed, for the token may be there and count it. Once the next one
    /// has begun it is left alone: a token that was pulled out took its sessions along, and gives their numbers again.
    pub(super) fn close(&self, session: Session) {
        if let Some(inside) = self.module.enter_to_close()
            && inside.generation == self.generation
            && self.latest.now() <= self.number + 1
        {
            // It failed where the session is gone, which is what was asked for.
            let _turn = inside.turns().session();
            let _ = session.close();
        }
    }
}

/// A session that closes itself by the rules of its [`Life`].
pub(super) struct OpenSession {
    life: Life,
    session: Option<Session>,
}

impl OpenSession {
    pub(super) fn new(life: &Life, session: Session) -> Self {
        Self { life: life.clone(), session: Some(session) }
    }

    /// The session, for calls made inside the library.
    pub(super) fn get(&self) -> Result<&Session, HsmFault> {
        self.session.as_ref().ok_or_else(|| HsmFault::new(FaultClass::Session, "session", "the token closed it"))
    }

    /// Forgets a session that the token says is closed, so that its number is not closed under another owner.
    pub(super) fn forget(&mut self) {
        self.session = None;
    }
}

impl Drop for OpenSession {
    fn drop(&mut self) {
        if let Some(session) = self.session.take() {
            self.life.close(session);
        }
    }
}
