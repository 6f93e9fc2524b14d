//! YubiKeys, through PC/SC and the PIV application, by the crate `yubikey`.
//!
//! - [`device`]: one YubiKey as an HSM: finding it, its epochs;
//! - `session`: one worker's session: sign, generate, destroy, list;
//! - `card`: the connection that all sessions share, since a card does one thing at a time;
//! - `finding`, `login`, `management`: which reader; the PIN's one try; the management key;
//! - `inventory`, `slot`, `names`: what is in the slots; a slot's numbers; the certificate in a slot that says whose key it is;
//! - `making`: keys made and destroyed, so that a crash in between leaves nothing anonymous;
//! - `signing`: what the card signs, which knows no hashes and no padding;
//! - `attestation`: what the YubiKey itself certifies of a key;
//! - `look`: whether one is there, for those who only want to know;
//! - [`survey`]: all that is plugged in, for those who are about to configure one;
//! - `wire`, `classify`: the commands that the crate lacks; what a failure means.

mod attestation;
mod card;
mod classify;
mod finding;
mod inventory;
mod login;
mod look;
mod making;
mod management;
mod names;
mod session;
mod signing;
mod slot;
mod wire;

pub mod device;
pub mod survey;

pub use device::{Access, YubikeyHsm};
pub use look::{PinTries, SeenYubikey, look};
pub use management::told as told_of_management_key;
pub use slot::Slot;

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks, also after a panic of another thread: no lock here guards a state that a panic could leave half changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
