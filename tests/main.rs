//! Black-box tests: the real binary, real sockets, real PKCS#11 tokens, real authorization servers.
//!
//! One binary, so that everything is linked once.

mod architecture;
mod hsm_contract;
mod outage;
mod pin;
mod policy;
mod support;
mod tokens;
mod verified;
mod wire;
