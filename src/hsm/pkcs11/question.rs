//! Whether there is a device behind the library, asked before a PIN is spent on it.

use cryptoki::{
    error::{Error, RvError},
    session::Session,
};
use hallmark_core::ports::{FaultClass, HsmFault};

use super::classify::fault;

/// Has the device make some random bytes (`C_GenerateRandom`): it takes no login, changes nothing, and a library can't
/// answer it out of what it remembers.
///
/// Fails where the device does not answer: [`FaultClass::Session`] where the session is lost, else [`FaultClass::Gone`].
/// A library without its device says no more than `CKR_GENERAL_ERROR` to everything, and after a `C_Login` nobody would
/// know whether the PIN was looked at.
pub(super) fn ask(session: &Session) -> Result<(), HsmFault> {
    judge(session.generate_random_slice(&mut [0; BYTES]))
}

/// A refusal is an answer, too.
fn judge(answer: Result<(), Error>) -> Result<(), HsmFault> {
    let fault = match answer {
        Ok(()) | Err(Error::Pkcs11(RvError::RandomNoRng, _)) => return Ok(()),
        Err(error) => fault(error),
    };
    match fault.class {
        FaultClass::Gone | FaultClass::Session => Err(fault),
        FaultClass::Unspecific => {
            let code = format!("{}: the HSM does not answer; the PIN was not tried", fault.code);
            Err(HsmFault { class: FaultClass::Gone, code, ..fault })
        }
        _ => Ok(()),
    }
}

/// Google's library gives no fewer than eight.
const BYTES: usize = 16;

#[cfg(test)]
mod tests {
    use cryptoki::context::Function;

    use super::*;

    #[test]
    fn a_refusal_is_an_answer_and_an_unspecific_error_is_none() {
        let of = |rv| judge(Err(Error::Pkcs11(rv, Function::GenerateRandom))).map_err(|fault| fault.class);
        for rv in [
            RvError::FunctionNotSupported,
            RvError::RandomNoRng,
            RvError::ArgumentsBad,
            RvError::UserNotLoggedIn,
            RvError::FunctionRejected,
        ] {
            assert_eq!(of(rv), Ok(()), "{rv:?}");
        }
        assert!(judge(Err(Error::NullFunctionPointer)).is_ok(), "a library without the function");
        for rv in [
            RvError::GeneralError,
            RvError::DeviceError,
            RvError::FunctionFailed,
            RvError::VendorDefined(0x8000_0001),
            RvError::DeviceRemoved,
            RvError::CryptokiNotInitialized,
        ] {
            assert_eq!(of(rv), Err(FaultClass::Gone), "{rv:?}");
        }
        assert_eq!(of(RvError::SessionHandleInvalid), Err(FaultClass::Session));
        let fault = judge(Err(Error::Pkcs11(RvError::GeneralError, Function::GenerateRandom))).unwrap_err();
        assert_eq!(
            (fault.function, fault.code.as_str()),
            ("C_GenerateRandom", "CKR_GENERAL_ERROR: the HSM does not answer; the PIN was not tried")
        );
    }
}
