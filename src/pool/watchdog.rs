//! Notices calls that do not return: a library may hang for minutes. Calls into none itself, so that it never hangs.

use std::{sync::Arc, time::Duration};

use hallmark_core::ports::{FaultClass, HsmFault};

use super::state::Shared;

/// How often it looks.
const TICK: Duration = Duration::from_millis(250);

pub(super) fn run(shared: &Arc<Shared>) {
    while shared.pause(TICK) {
        if shared.is_up() && shared.all_stuck() {
            let fault = HsmFault::new(FaultClass::Gone, "C_Sign", "every worker is stuck in a call");
            shared.trip(shared.epoch(), &fault);
        }
        let limit = shared.settings.give_up_after;
        let signed_lately = shared.last_signed().is_some_and(|at| at.elapsed() < limit);
        if shared.longest_call() > limit && !signed_lately {
            shared.give_up("a call into its library does not return");
            return;
        }
    }
}
