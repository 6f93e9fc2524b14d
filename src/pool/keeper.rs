//! Connects the HSM, and brings it back when it was lost: with nobody's help, and never with a PIN that was refused.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::{Duration, Instant},
};

use hallmark_core::ports::{FaultClass, Hsm, HsmFault, ResetRefused, TokenFacts};

use super::state::Shared;

/// Back-off between tries. The longest is what a returned HSM may have to wait.
const FIRST_DELAY: Duration = Duration::from_millis(100);
const LONGEST_DELAY: Duration = Duration::from_secs(1);

pub(super) struct Keeper {
    hsm: Arc<dyn Hsm>,
    shared: Arc<Shared>,
}

impl Keeper {
    pub(super) fn new(hsm: Arc<dyn Hsm>, shared: Arc<Shared>) -> Self {
        Self { hsm, shared }
    }

    pub(super) fn run(&self) {
        let mut delay = FIRST_DELAY;
        let mut connected: Option<Instant> = None;
        while self.shared.wait_for_loss() {
            // One that is lost before it has signed anything connects well and is of no use: without a pause it would be
            // connected a hundred times a second, with a login each time.
            let was_of_use = connected.is_none_or(|at| self.shared.last_signed().is_some_and(|signed| signed > at));
            if was_of_use {
                delay = FIRST_DELAY;
            } else if !self.back_off(&mut delay) {
                break;
            }
            let was_lost = connected.is_some();
            if catch_unwind(AssertUnwindSafe(|| self.bring_back(&mut delay, was_lost))).is_err() {
                // Nobody else connects; without this thread the HSM stays down for good.
                self.shared.give_up("the thread that connects it panicked");
                return;
            }
            connected = Some(Instant::now());
        }
        self.hsm.disconnect();
    }

    /// Waits, the next time longer; `false` at the end.
    fn back_off(&self, delay: &mut Duration) -> bool {
        let goes_on = self.shared.pause(jittered(*delay));
        *delay = (*delay * 2).min(LONGEST_DELAY);
        goes_on
    }

    fn bring_back(&self, delay: &mut Duration, was_lost: bool) {
        let began = Instant::now();
        let mut last = String::new();
        // Since when the library could not be started anew because a call into it does not return.
        let mut kept_from_reset: Option<Instant> = None;
        if was_lost && !self.shared.all_stuck() {
            // What a library still holds of a token that was pulled can look well until a PIN is spent on it.
            let _ = self.start_anew(&mut kept_from_reset);
        }
        loop {
            match self.try_once(&mut kept_from_reset) {
                Ok(facts) => {
                    tracing::info!(
                        hsm = %self.shared.settings.hsm, serial = facts.serial, model = facts.model,
                        took_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX), "HSM connected"
                    );
                    self.shared.came_up(facts);
                    return;
                }
                Err(fault) => self.note(&fault, &mut last),
            }
            if kept_from_reset.is_some_and(|since| since.elapsed() > self.shared.settings.reset_patience) {
                self.shared.give_up("its library must be started anew, and a call into it does not return");
                kept_from_reset = None;
            }
            if !self.back_off(delay) {
                return;
            }
        }
    }

    /// First the gentle way; then a new start of the library, which many modules need before they see a returned token.
    fn try_once(&self, kept_from_reset: &mut Option<Instant>) -> Result<TokenFacts, HsmFault> {
        if self.shared.all_stuck() {
            // A token that connects is of no use while nobody can work with it.
            return Err(HsmFault::new(FaultClass::Gone, "C_Sign", "no worker has come back from its call"));
        }
        let fault = match self.connect() {
            Ok(facts) => return Ok(facts),
            Err(fault) if fault.class == FaultClass::Pin => return Err(fault),
            Err(fault) => fault,
        };
        match self.start_anew(kept_from_reset) {
            Ok(()) => self.connect(),
            Err(ResetRefused::Failed(reset)) => Err(reset),
            Err(ResetRefused::SharedLibrary | ResetRefused::ThreadInside) => Err(fault),
        }
    }

    /// A new start of the library, where nothing is in the way.
    fn start_anew(&self, kept_from_reset: &mut Option<Instant>) -> Result<(), ResetRefused> {
        self.hsm.disconnect();
        let reset = self.reset();
        if reset == Err(ResetRefused::ThreadInside) {
            kept_from_reset.get_or_insert_with(Instant::now);
        } else {
            *kept_from_reset = None;
        }
        reset
    }

    /// Connected is a token that also gives a session.
    fn connect(&self) -> Result<TokenFacts, HsmFault> {
        let _inside = self.shared.keeper_enters();
        self.hsm.disconnect();
        let facts = self.hsm.connect()?;
        self.hsm.open()?;
        Ok(facts)
    }

    /// `C_Finalize` and `C_Initialize` may hang as any call may.
    fn reset(&self) -> Result<(), ResetRefused> {
        let _inside = self.shared.keeper_enters();
        self.hsm.reset()
    }

    fn note(&self, fault: &HsmFault, last: &mut String) {
        self.shared.observer.fault(&self.shared.settings.hsm, fault);
        self.shared.still_down(fault);
        // One line for each kind of trouble, not one for each try.
        let text = fault.to_string();
        if *last != text {
            tracing::warn!(hsm = %self.shared.settings.hsm, %fault, "HSM not available; trying on");
            *last = text;
        }
    }
}

/// Half to whole, so that the keepers of many processes do not knock together.
fn jittered(delay: Duration) -> Duration {
    let mut byte = [0];
    // Without randomness the whole delay is as good.
    let _ = aws_lc_rs::rand::fill(&mut byte);
    delay - delay / 2 * u32::from(byte[0]) / 255
}
