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
    classify::{class, fault, is_unreadable},
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

        let answer = session.login_with_raw(UserType::User, &pin.secret);
        let verdict = verdict(&answer);
        if let Err(error) = self.ledger.end(token, &pin.source_id, verdict) {
            // The marker stays, so the PIN is not tried again: the safe side.
            tracing::warn!(token, %error, "how the login ended could not be recorded");
        }
        match answer {
            Err(error) if verdict == PinVerdict::Refused => Err(self.not_accepted(fault(error))),
            Err(error) if verdict == PinVerdict::Unknown => Err(fault(error)),
            Err(Error::Pkcs11(RvError::UserPinNotInitialized, _)) => Err(no_pin_yet("C_Login")),
            _ => Ok(()),
        }
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
            return Err(no_pin_yet("C_GetTokenInfo"));
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

    /// Whatever it was by its return value: an operator is needed before the next try.
    fn not_accepted(&self, fault: HsmFault) -> HsmFault {
        let source = &self.source;
        let code = match fault.class {
            FaultClass::Pin => format!("{} for the PIN in `{source}`\nhint: {}", fault.code, source.renew_hint()),
            _ => format!(
                "{}: how the login with the PIN in `{source}` ended is not known; a try of the PIN may be spent\n\
                 hint: see with the HSM's own tools what is wrong; where the PIN is right, {}, and it is tried once more",
                fault.code,
                source.again_hint()
            ),
        };
        HsmFault { class: FaultClass::Pin, code, ..fault }
    }
}

/// What the answer of `C_Login` says of the PIN.
///
/// Some modules report a wrong PIN as a general error or with a code of their maker, so only what says that the token or
/// the session is gone leaves it open.
fn verdict(answer: &Result<(), Error>) -> PinVerdict {
    match answer {
        Ok(()) => PinVerdict::Accepted,
        // Another thread was faster: the login holds, and this PIN was not looked at.
        Err(Error::Pkcs11(RvError::UserAlreadyLoggedIn, _)) => PinVerdict::NotTried,
        // There is none to compare it with: somebody is setting the token up.
        Err(Error::Pkcs11(RvError::UserPinNotInitialized, _)) => PinVerdict::NotTried,
        Err(Error::Pkcs11(rv, _)) if [FaultClass::Gone, FaultClass::Session].contains(&class(*rv)) => {
            PinVerdict::Unknown
        }
        Err(_) => PinVerdict::Refused,
    }
}

/// Somebody is setting the token up. No PIN was tried, and SoftHSM sees one that is set meanwhile only after a new start
/// of the library: as for a token that is not there yet.
fn no_pin_yet(function: &'static str) -> HsmFault {
    HsmFault::new(FaultClass::Gone, function, "the token has no user PIN yet\nhint: set one with the HSM's tools")
}

fn refused(function: &'static str, why: impl std::fmt::Display) -> HsmFault {
    HsmFault::new(FaultClass::Pin, function, why)
}

#[cfg(test)]
mod tests {
    use cryptoki::context::Function;

    use super::*;

    #[test]
    fn a_pin_is_forgiven_only_where_the_token_or_the_session_was_gone() {
        let of = |rv| verdict(&Err(Error::Pkcs11(rv, Function::Login)));
        let gone = [RvError::DeviceRemoved, RvError::TokenNotPresent, RvError::CryptokiNotInitialized];
        for rv in gone.into_iter().chain([RvError::SessionHandleInvalid, RvError::SessionClosed]) {
            assert_eq!(of(rv), PinVerdict::Unknown, "{rv:?}");
        }
        // Wrong PINs, as different modules report them.
        for rv in [
            RvError::PinIncorrect,
            RvError::PinLocked,
            RvError::GeneralError,
            RvError::FunctionFailed,
            RvError::DeviceError,
            RvError::VendorDefined(0x8000_0001),
        ] {
            assert_eq!(of(rv), PinVerdict::Refused, "{rv:?}");
        }
        assert_eq!(verdict(&Err(Error::NullFunctionPointer)), PinVerdict::Refused);
        assert_eq!(of(RvError::UserAlreadyLoggedIn), PinVerdict::NotTried);
        assert_eq!(of(RvError::UserPinNotInitialized), PinVerdict::NotTried);
        assert_eq!(verdict(&Ok(())), PinVerdict::Accepted);
    }
}
