//! Whether a token is there, and what it says of its PIN. Opens no session, and tries nothing.

use cryptoki::slot::TokenInfo;
use hallmark_core::ports::HsmFault;

use super::{finding, module::Module, objects::unpadded, token::TokenSelector};

/// A token as it shows itself to everyone.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SeenToken {
    pub serial: String,
    pub label: String,
    pub pin: PinState,
}

/// What the token says of its user PIN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PinState {
    Ready,
    NotSet,
    /// One more wrong try locks it.
    FinalTry,
    Locked,
    /// Its info can't be read.
    Unknown,
}

impl Module {
    /// The one token that `selector` names; the fault says what is there instead.
    pub fn look(&self, selector: &TokenSelector) -> Result<SeenToken, HsmFault> {
        let inside = self.enter()?;
        let found = finding::find(inside.context(), selector, self)?;
        let label = found.info.as_ref().map(|info| unpadded(info.label()).to_owned()).unwrap_or_default();
        Ok(SeenToken { serial: found.serial, label, pin: found.info.as_ref().map_or(PinState::Unknown, pin_state) })
    }
}

fn pin_state(info: &TokenInfo) -> PinState {
    match info {
        info if info.user_pin_locked() => PinState::Locked,
        info if info.user_pin_final_try() => PinState::FinalTry,
        info if !info.user_pin_initialized() => PinState::NotSet,
        _ => PinState::Ready,
    }
}
