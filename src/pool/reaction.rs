//! What to do about a fault: the table in `docs/adr/0006-…`.

use std::time::Duration;

use hallmark_core::{
    error::{Error, Reason},
    ports::{FaultClass, HsmFault},
};

/// How a worker goes on after a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reaction {
    /// Keep the session, fail the call.
    Fail,
    /// Try once more on the same session: the backend has forgotten the stale handle.
    RetrySame,
    /// Try once more on a new session.
    RetryReopened,
    /// As `RetryReopened`, and count it: several such faults mean more than a bad session.
    CountAndRetryReopened,
    /// The HSM is gone: open the breaker.
    Trip,
}

pub(super) fn reaction(class: FaultClass) -> Reaction {
    match class {
        FaultClass::Request | FaultClass::KeyAbsent | FaultClass::CustodyTooWeak | FaultClass::Unsupported => {
            Reaction::Fail
        }
        FaultClass::Handle => Reaction::RetrySame,
        // The backend logs in again, once for all, when the next session is opened.
        FaultClass::Session | FaultClass::Login => Reaction::RetryReopened,
        FaultClass::Unspecific => Reaction::CountAndRetryReopened,
        FaultClass::Gone | FaultClass::Pin => Reaction::Trip,
    }
}

/// The error that a caller gets for a fault that was not mended.
pub(super) fn error(fault: &HsmFault) -> Error {
    match fault.class {
        FaultClass::KeyAbsent => {
            Error::new(Reason::KeyAbsent, "the key's objects on the HSM are missing or ambiguous; call the operator")
        }
        FaultClass::CustodyTooWeak => {
            Error::new(Reason::CustodyTooWeak, "the key falls short of the client's custody; call the operator")
        }
        FaultClass::Unsupported => Error::new(Reason::AlgUnsupported, "the HSM can't sign with this algorithm"),
        FaultClass::Request => {
            Error::new(Reason::HsmRefused, "the HSM refuses to do this with this key; call the operator")
        }
        FaultClass::Pin => Error::new(Reason::PinRefused, "the HSM needs its operator before it can sign"),
        FaultClass::Gone | FaultClass::Session | FaultClass::Handle | FaultClass::Login | FaultClass::Unspecific => {
            unavailable(Duration::from_secs(1))
        }
    }
    .with_detail(fault)
}

pub(super) fn unavailable(retry_after: Duration) -> Error {
    Error::new(Reason::HsmUnavailable, "the HSM is not available; try again").retry_after(retry_after)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_a_new_session_or_handle_can_mend_is_tried_again() {
        let retried = |class| !matches!(reaction(class), Reaction::Fail | Reaction::Trip);
        let list: Vec<_> = FaultClass::ALL.into_iter().filter(|class| retried(*class)).collect();
        assert_eq!(list, [FaultClass::Session, FaultClass::Handle, FaultClass::Login, FaultClass::Unspecific]);
    }

    #[test]
    fn a_pin_is_never_tried_again_by_a_worker() {
        assert_eq!(reaction(FaultClass::Pin), Reaction::Trip);
    }
}
