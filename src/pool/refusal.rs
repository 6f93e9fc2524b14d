//! What a caller is told whose job is not done.

use std::time::Duration;

use hallmark_core::{
    error::{Error, Reason},
    ports::{FaultClass, HsmFault},
};

use super::reaction;

/// Says to come back when those are done who would be served before.
pub(super) fn overloaded(wait: Duration) -> Error {
    let text = format!("the queue before the HSM is too long for the deadline: about {} ms", wait.as_millis());
    Error::new(Reason::Overloaded, text).retry_after(wait.max(Duration::from_millis(20)))
}

pub(super) fn deadline_passed() -> Error {
    Error::new(Reason::DeadlineExceeded, "the deadline passed before the signature was made")
}

pub(super) fn task_overdue() -> Error {
    reaction::unavailable(Duration::from_secs(10)).with_detail("the HSM did not finish in time")
}

/// It is tried again in `left`, by whoever comes first.
pub(super) fn quarantined(left: Duration) -> Error {
    // Rounded up: who comes a moment too early is refused again.
    let left = Duration::from_secs(left.as_secs() + 1);
    let text = format!("the key failed repeatedly and is set aside for {} s; call the operator", left.as_secs());
    Error::new(Reason::KeyQuarantined, text).retry_after(left)
}

pub(super) fn shutting_down() -> Error {
    Error::new(Reason::ShuttingDown, "the server is going down; try another one, or again")
        .retry_after(Duration::from_secs(1))
}

/// What is said until the HSM is back that was lost to `fault`.
pub(super) fn down_error(fault: &HsmFault) -> Error {
    match fault.class {
        FaultClass::Pin => reaction::error(fault),
        _ => reaction::unavailable(Duration::from_secs(1)).with_detail(fault),
    }
}
