//! What a login at a PKCS#11 token takes, and what its answer means for the PIN.

use cryptoki::{
    context::Pkcs11,
    error::{Error, RvError},
    session::{Session, UserType},
    slot::Slot,
};
use hallmark_core::ports::{FaultClass, HsmFault, PinVerdict};

use super::{
    classify::{class, fault, is_unreadable},
    module::Inside,
    objects,
};
use crate::hsm::{
    credentials::{Credentials, refused},
    pin::PinSource,
};

/// Logs the application in at `token`. Tries the PIN only if neither the token nor the ledger warns of it.
pub(super) fn log_in(
    credentials: &Credentials,
    inside: &Inside<'_>,
    slot: Slot,
    token: &str,
    session: &Session,
) -> Result<(), HsmFault> {
    // Asked first, for a PIN that nobody looks at would count as tried.
    if objects::is_logged_in(session)? == Some(true) {
        return Ok(());
    }
    heed_flags(inside.context(), slot)?;
    let pin = credentials.read()?;
    let ask = || {
        let _turn = inside.turns().session();
        session.login_with_raw(UserType::User, &pin.secret)
    };
    let (answer, verdict) = credentials.try_once((token, "C_Login"), &pin, ask, verdict)?;
    match answer {
        Err(error) if verdict == PinVerdict::Refused => Err(not_accepted(&credentials.source, fault(error))),
        Err(error) if verdict == PinVerdict::Unknown => Err(fault(error)),
        Err(Error::Pkcs11(RvError::UserPinNotInitialized, _)) => Err(no_pin_yet("C_Login")),
        _ => Ok(()),
    }
}

fn heed_flags(context: &Pkcs11, slot: Slot) -> Result<(), HsmFault> {
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

/// Whatever it was by its return value: an operator is needed before the next try.
fn not_accepted(source: &PinSource, fault: HsmFault) -> HsmFault {
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
