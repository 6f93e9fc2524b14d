//! How a process gets at a token: a login, and sessions.

use std::sync::{
    Arc, Mutex, PoisonError,
    atomic::{AtomicU64, Ordering},
};

use hallmark_core::{
    key::Alg,
    ports::{
        FaultClass, Hsm, HsmFault, HsmSession, PinLedger, PinLedgerRefusal, PinVerdict, ResetRefused, TokenAbout,
        TokenFacts,
    },
};

use super::{Call, FakeToken, fail, session::FakeSession};
use crate::pin_ledger::MemoryPinLedger;

/// A way to a [`FakeToken`], as a backend has it: with a PIN from a source, and a ledger of tries.
pub struct FakeHsm {
    token: Arc<FakeToken>,
    pin: String,
    ledger: Arc<dyn PinLedger>,
    epoch: Arc<AtomicU64>,
    login: Mutex<()>,
}

impl FakeHsm {
    /// With the right PIN.
    pub fn new(token: &Arc<FakeToken>) -> Self {
        Self::with_pin(token, FakeToken::PIN, Arc::new(MemoryPinLedger::default()))
    }

    /// The PIN is also the identity of its source: another PIN is another source.
    pub fn with_pin(token: &Arc<FakeToken>, pin: &str, ledger: Arc<dyn PinLedger>) -> Self {
        Self { token: token.clone(), pin: pin.to_owned(), ledger, epoch: Arc::default(), login: Mutex::default() }
    }

    fn is_connected(&self) -> bool {
        self.epoch.load(Ordering::Acquire) % 2 == 1
    }

    fn log_in(&self) -> Result<(), HsmFault> {
        // Once for all callers: who comes second finds the login done.
        let _one = self.login.lock().unwrap_or_else(PoisonError::into_inner);
        if self.token.state().logged_in {
            return Ok(());
        }
        let source = format!("fake:{}", self.pin);
        match self.ledger.begin(FakeToken::SERIAL, &source) {
            Ok(()) => {}
            Err(PinLedgerRefusal::AlreadyTried) => {
                return Err(HsmFault::new(FaultClass::Pin, "C_Login", "tried before and not accepted"));
            }
            Err(PinLedgerRefusal::Store(e)) => return Err(HsmFault::new(FaultClass::Gone, "C_Login", e)),
        }
        let mut state = self.token.state();
        state.logged_in = self.pin == FakeToken::PIN;
        let verdict = if state.logged_in { PinVerdict::Accepted } else { PinVerdict::Refused };
        state.wrong_tries += usize::from(!state.logged_in);
        drop(state);
        // A ledger that fails leaves its marker, as it should.
        let _ = self.ledger.end(FakeToken::SERIAL, &source, verdict);
        match verdict {
            PinVerdict::Accepted => Ok(()),
            _ => Err(HsmFault::new(FaultClass::Pin, "C_Login", "CKR_PIN_INCORRECT")),
        }
    }
}

impl Hsm for FakeHsm {
    fn connect(&self) -> Result<TokenFacts, HsmFault> {
        self.disconnect();
        self.token.begin(Call::Connect)?;
        self.log_in()?;
        self.epoch.fetch_add(1, Ordering::AcqRel);
        let mut state = self.token.state();
        state.in_use += 1;
        Ok(TokenFacts {
            serial: FakeToken::SERIAL.into(),
            model: "fake".into(),
            max_sessions: state.max_sessions,
            algs: Alg::ALL.to_vec(),
            about: TokenAbout { module: "fake".into(), ..TokenAbout::default() },
        })
    }

    fn open(&self) -> Result<Box<dyn HsmSession>, HsmFault> {
        self.token.begin(Call::Open)?;
        if !self.is_connected() {
            return Err(fail(FaultClass::Gone, Call::Open));
        }
        self.log_in()?;
        let mut state = self.token.state();
        if state.max_sessions.is_some_and(|max| state.open_sessions >= max) {
            return Err(HsmFault::new(FaultClass::Unspecific, "C_OpenSession", "CKR_SESSION_COUNT"));
        }
        state.open_sessions += 1;
        Ok(Box::new(FakeSession {
            token: self.token.clone(),
            epoch: self.epoch.clone(),
            opened_in: (self.epoch.load(Ordering::Acquire), state.losses),
        }))
    }

    fn disconnect(&self) {
        if self.is_connected() {
            self.epoch.fetch_add(1, Ordering::AcqRel);
            let mut state = self.token.state();
            state.in_use -= 1;
            // The application's last session is closed with it.
            state.logged_in = state.in_use > 0;
        }
    }

    fn reset(&self) -> Result<(), ResetRefused> {
        self.token.begin(Call::Reset).map_err(ResetRefused::Failed)?;
        let state = self.token.state();
        if state.in_use > 0 {
            return Err(ResetRefused::SharedLibrary);
        }
        if state.inside.values().any(|inside| *inside > 0) {
            return Err(ResetRefused::ThreadInside);
        }
        Ok(())
    }
}

impl Drop for FakeHsm {
    fn drop(&mut self) {
        self.disconnect();
    }
}
