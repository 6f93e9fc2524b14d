//! One try for a PIN, across restarts and replicas, whatever kind of HSM it is for.

use std::{fmt, sync::Arc};

use hallmark_core::ports::{FaultClass, HsmFault, PinLedger, PinLedgerRefusal, PinVerdict};

use super::pin::{Pin, PinSource};

/// What an [`HsmFault`] names as its function where the PIN could not be read, so that none was tried.
pub(super) const PIN_SOURCE: &str = "pin-source";

/// Where an HSM's PIN comes from, and the ledger of what was tried.
pub(super) struct Credentials {
    pub(super) source: PinSource,
    pub(super) ledger: Arc<dyn PinLedger>,
}

impl Credentials {
    /// The PIN, as its source has it now.
    pub(super) fn read(&self) -> Result<Pin, HsmFault> {
        self.source.read().map_err(|error| refused(PIN_SOURCE, error))
    }

    /// Has `ask` try `pin` on `token`, and notes what `verdict` makes of the answer. Where the ledger says that this PIN
    /// was tried and not accepted, it is not asked. `function` is the call that tries it.
    pub(super) fn try_once<T>(
        &self,
        (token, function): (&str, &'static str),
        pin: &Pin,
        ask: impl FnOnce() -> T,
        verdict: impl FnOnce(&T) -> PinVerdict,
    ) -> Result<(T, PinVerdict), HsmFault> {
        self.ledger.begin(token, &pin.source_id).map_err(|refusal| self.not_tried(function, refusal))?;
        let answer = ask();
        let verdict = verdict(&answer);
        if let Err(error) = self.ledger.end(token, &pin.source_id, verdict) {
            // The marker stays, so the PIN is not tried again: the safe side.
            tracing::warn!(token, %error, "how the login ended could not be recorded");
        }
        Ok((answer, verdict))
    }

    fn not_tried(&self, function: &'static str, refusal: PinLedgerRefusal) -> HsmFault {
        match refusal {
            PinLedgerRefusal::AlreadyTried => {
                let (source, hint) = (&self.source, self.source.renew_hint());
                let why = format!("the PIN in `{source}` was tried before and not accepted");
                refused(function, format!("{why}\nhint: {hint}"))
            }
            // Not the PIN's fault; the next connect asks again.
            PinLedgerRefusal::Store(error) => {
                HsmFault::new(FaultClass::Gone, function, format!("not tried, for lack of the ledger: {error}"))
            }
        }
    }
}

/// An operator is needed before the next try.
pub(super) fn refused(function: &'static str, why: impl fmt::Display) -> HsmFault {
    HsmFault::new(FaultClass::Pin, function, why)
}
