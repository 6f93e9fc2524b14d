//! One try for a PIN, across restarts and replicas.

use std::sync::Arc;

use cryptoki::{
    context::Pkcs11,
    error::{Error, RvError},
    session::{Session, UserType},
    slot::Slot,
};
use hallmark_core::ports::{FaultClass, HsmFault, PinLedger, PinLedgerRefusal, PinVerdict};

use super::{
    classify::{fault, is_unreadable},
    objects,
};
use crate::hsm::pin::PinSource;

/// Where a token's PIN comes from, and the ledger of what was tried.
pub(super) struct Credentials {
    pub(super) source: PinSource,
    pub(super) ledger: Arc<dyn PinLedger>,
}

impl Credentials {
    /// Logs the application in at `token`. Tries the PIN only if neither the token nor the ledger warns of it.
    pub(super) fn log_in(&self, context: &Pkcs11, slot: Slot, token: &str, session: &Session) -> Result<(), HsmFault> {
        // Asked first, for a PIN that nobody looks at would count as tried.
        if objects::is_logged_in(session)? == Some(true) {
            return Ok(());
        }
        self.heed_flags(context, slot)?;
        let pin = self.source.read().map_err(|e| refused("pin-source", e))?;
        self.ledger.begin(token, &pin.source_id).map_err(|refusal| self.not_tried(refusal))?;

        let (verdict, answer) = match session.login_with_raw(UserType::User, &pin.secret) {
            // Another thread was faster. The login holds, though this PIN was not looked at.
            Ok(()) | Err(Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => (PinVerdict::Accepted, Ok(())),
            Err(error) => match fault(error) {
                e if e.class == FaultClass::Pin => (PinVerdict::Refused, Err(self.with_hint(e))),
                e => (PinVerdict::Unknown, Err(e)),
            },
        };
        if let Err(error) = self.ledger.end(token, &pin.source_id, verdict) {
            // The marker stays, so the PIN is not tried again: the safe side.
            tracing::warn!(token, %error, "how the login ended could not be recorded");
        }
        answer
    }

    fn heed_flags(&self, context: &Pkcs11, slot: Slot) -> Result<(), HsmFault> {
        let info = match context.get_token_info(slot).map_err(fault) {
            Ok(info) => info,
            // An answer that can't be read (a clock that is none): the flags are unknown.
            Err(e) if is_unreadable(&e) => return Ok(()),
            Err(e) => return Err(e),
        };
        if info.user_pin_locked() {
            return Err(refused(
                "C_GetTokenInfo",
                "the user PIN is locked\nhint: reset it with the HSM's tools, as its security officer",
            ));
        }
        if info.user_pin_final_try() {
            return Err(refused(
                "C_GetTokenInfo",
                "one try is left before the token locks the PIN, and hallmark leaves it to you\n\
                 hint: log in once with the HSM's own tools, which resets the count",
            ));
        }
        if info.token_initialized() && !info.user_pin_initialized() {
            return Err(refused("C_GetTokenInfo", "the token has no user PIN yet\nhint: set one with the HSM's tools"));
        }
        Ok(())
    }

    fn not_tried(&self, refusal: PinLedgerRefusal) -> HsmFault {
        match refusal {
            PinLedgerRefusal::AlreadyTried => refused(
                "C_Login",
                format!(
                    "the PIN in `{}` was tried before and not accepted\nhint: {}",
                    self.source,
                    self.source.renew_hint()
                ),
            ),
            // Not the PIN's fault; the next connect asks again.
            PinLedgerRefusal::Store(e) => {
                HsmFault::new(FaultClass::Gone, "C_Login", format!("not tried, for lack of the ledger: {e}"))
            }
        }
    }

    fn with_hint(&self, fault: HsmFault) -> HsmFault {
        let code = format!("{} for the PIN in `{}`\nhint: {}", fault.code, self.source, self.source.renew_hint());
        HsmFault { code, ..fault }
    }
}

fn refused(function: &'static str, why: impl std::fmt::Display) -> HsmFault {
    HsmFault::new(FaultClass::Pin, function, why)
}
