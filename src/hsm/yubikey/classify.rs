//! What a failure of PC/SC or of the card means for the one who called: the table in `docs/adr/0013-…`.

use hallmark_core::ports::{FaultClass, HsmFault};
use yubikey::Error;

/// A failed call of the crate.
pub(super) fn fault(function: &'static str, error: Error) -> HsmFault {
    match error {
        Error::PcscError { inner: Some(inner) } => pcsc_fault(function, inner),
        Error::PcscError { inner: None } => HsmFault::new(FaultClass::Gone, function, "PC/SC failed"),
        Error::WrongPin { tries } => HsmFault::new(FaultClass::Pin, function, format!("wrong PIN, {tries} tries left")),
        other => HsmFault::new(class(other), function, code(other)),
    }
}

/// A failed call of PC/SC itself.
pub(super) fn pcsc_fault(function: &'static str, error: pcsc::Error) -> HsmFault {
    HsmFault::new(pcsc_class(error), function, format!("{error:?}: {error}"))
}

/// The card answered with a status that the caller did not expect.
pub(super) fn status_fault(function: &'static str, status: u16) -> HsmFault {
    let class = match status {
        SECURITY_STATUS => FaultClass::Login,
        BLOCKED => FaultClass::Pin,
        // Another program has selected another application.
        INS_UNKNOWN | CLASS_UNKNOWN => FaultClass::Session,
        NO_FUNCTION | WRONG_PARAMETERS | WRONG_DATA => FaultClass::Unsupported,
        _ => FaultClass::Unspecific,
    };
    HsmFault::new(class, function, format!("status {status:04x}"))
}

pub(super) const SUCCESS: u16 = 0x9000;
pub(super) const SECURITY_STATUS: u16 = 0x6982;
pub(super) const BLOCKED: u16 = 0x6983;
pub(super) const WRONG_DATA: u16 = 0x6a80;
pub(super) const NO_FUNCTION: u16 = 0x6a81;
const WRONG_PARAMETERS: u16 = 0x6a86;
const INS_UNKNOWN: u16 = 0x6d00;
const CLASS_UNKNOWN: u16 = 0x6e00;

/// Whether the connection is of no use any more: whoever calls next needs another.
pub(super) fn is_lost(class: FaultClass) -> bool {
    matches!(class, FaultClass::Session | FaultClass::Gone | FaultClass::Unspecific)
}

fn class(error: Error) -> FaultClass {
    match error {
        // No PIN session, or a touch that was not given: the card has one answer for both.
        Error::AuthenticationError => FaultClass::Login,
        Error::PinLocked => FaultClass::Pin,
        Error::AppletNotFound { .. } => FaultClass::Gone,
        Error::AlgorithmError | Error::NotSupported => FaultClass::Unsupported,
        Error::ArgumentError | Error::RangeError | Error::SizeError | Error::KeyError => FaultClass::Request,
        Error::NotFound => FaultClass::Handle,
        // The crate does not say what the card answered.
        _ => FaultClass::Unspecific,
    }
}

fn pcsc_class(error: pcsc::Error) -> FaultClass {
    use pcsc::Error as E;
    match error {
        // Another program reset the card: it is there, and must be connected to anew.
        E::ResetCard | E::InvalidHandle => FaultClass::Session,
        E::RemovedCard
        | E::NoSmartcard
        | E::NotTransacted
        | E::UnknownReader
        | E::ReaderUnavailable
        | E::NoReadersAvailable
        | E::NoService
        | E::ServiceStopped
        | E::ServerTooBusy
        | E::Shutdown
        | E::CommError
        | E::CommDataLost
        | E::UnpoweredCard
        | E::UnresponsiveCard
        | E::UnsupportedCard
        | E::NotReady
        // Another program keeps it to itself.
        | E::SharingViolation
        | E::NoAccess
        | E::SecurityViolation => FaultClass::Gone,
        _ => FaultClass::Unspecific,
    }
}

fn code(error: Error) -> String {
    match error.name() {
        Some(name) => format!("{name}: {error}"),
        None => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What was seen when a card was pulled, reset by others and put back, and when `pcscd` went away.
    #[test]
    fn failures_ask_for_the_reaction_that_the_table_gives_them() {
        let pcsc = |error| fault("sign", Error::PcscError { inner: Some(error) }).class;
        // Right after the pull; two seconds later; while it is out; `pcscd` gone.
        for error in [
            pcsc::Error::NotTransacted,
            pcsc::Error::RemovedCard,
            pcsc::Error::NoSmartcard,
            pcsc::Error::NoService,
            pcsc::Error::NoReadersAvailable,
        ] {
            assert_eq!(pcsc(error), FaultClass::Gone, "{error:?}");
        }
        // Another program reset it, or it was put back at once.
        assert_eq!(pcsc(pcsc::Error::ResetCard), FaultClass::Session);
        // Another program selected PIV and left.
        assert_eq!(fault("sign", Error::AuthenticationError).class, FaultClass::Login);
        assert_eq!(fault("verify", Error::WrongPin { tries: 0 }).class, FaultClass::Pin);
        assert_eq!(fault("sign", Error::GenericError).class, FaultClass::Unspecific);
        assert_eq!(fault("generate", Error::AlgorithmError).class, FaultClass::Unsupported);
        assert_eq!(status_fault("verify", 0x6d00).class, FaultClass::Session);
        assert_eq!(status_fault("verify", 0x6983).class, FaultClass::Pin);
    }
}
