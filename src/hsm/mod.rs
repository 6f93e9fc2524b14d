//! HSM backends: each implements the ports [`Hsm`](hallmark_core::ports::Hsm) and
//! [`HsmSession`](hallmark_core::ports::HsmSession), and runs the contract suite of `testkit`.

mod credentials;
pub mod pin;
pub mod pkcs11;
pub mod yubikey;
