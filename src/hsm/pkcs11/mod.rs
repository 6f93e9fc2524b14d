//! PKCS#11 tokens, through `cryptoki`.
//!
//! - [`module`]: the libraries; each is loaded and initialised once, whatever number of tokens use it;
//! - [`token`]: one token: finding it, its login, its epochs;
//! - [`session`]: one worker's session: sign, generate, destroy, list;
//! - `life`: which initialisation of the library and which epoch of the token a handle belongs to;
//! - `listing`: all pairs of a token;
//! - `binding`, `generate`: the objects that belong to a key record, found once an epoch; making them;
//! - `import`: putting keys there that were made elsewhere;
//! - `finding`, `login`, `mechanisms`: which slot; the PIN's one try; what the token can do;
//! - `question`: whether the device answers, before a PIN is spent on it;
//! - `turns`: what threads may not do at once;
//! - `look`: whether a token is there, for those who only want to know;
//! - [`survey`]: all that a module shows, for those who have not met it yet;
//! - `objects`, `classify`: attributes; return values.

mod binding;
mod classify;
mod finding;
mod generate;
mod import;
mod life;
mod listing;
mod login;
mod look;
mod mechanisms;
mod objects;
mod question;
mod turns;

pub mod module;
pub mod provision;
pub mod session;
pub mod survey;
pub mod token;

pub use look::{PinState, SeenToken};
pub use module::{Module, ModuleError, Modules};
pub use provision::provision_token;
pub use token::{Pkcs11Token, TokenSelector};

use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks, also after a panic of another thread: no lock here guards a state that a panic could leave half changed.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
