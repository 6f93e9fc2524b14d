//! A PKCS#11 module that stands between a program and a real module, passes every call on, and makes those fail that it
//! is told to: `docs/adr/0016-…` says why.
//!
//! It lives by two variables of its environment:
//!
//! - `FAULT_MODULE_REAL`: the path of the module to pass calls on to;
//! - `FAULT_MODULE_DIR`: a folder, in which it reads `plan` (see [`plan`]) whenever that file was replaced, and writes
//!   what it saw (see [`record`]).
//!
//! A plan that was moved into place counts from the next call on, in whichever process, and over restarts. Without a
//! plan every call is passed on.
//!
//! - [`functions`]: the functions and return values of PKCS#11, by name;
//! - [`plan`]: what is to go wrong, and how that is written;
//! - [`record`]: how often each function was called, and how each login ended;
//! - `module`: the real module, the plan in force, and which call it concerns;
//! - `forward`, `lies`: the functions that a program finds here.

#![expect(
    unsafe_code,
    reason = "PKCS#11 is an interface of C: pointers come from the program and go to the real module"
)]

#[expect(non_snake_case, reason = "programs look for these names")]
mod forward;
#[expect(non_snake_case, reason = "as above")]
mod lies;
mod module;

pub mod functions;
pub mod plan;
pub mod record;
