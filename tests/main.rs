//! Black-box tests: the real binary, real sockets, real PKCS#11 tokens, real authorization servers.
//!
//! One binary, so that everything is linked once.

mod architecture;
mod audit;
mod cli;
mod configuration;
mod dependencies;
mod development;
mod disk_full;
mod hostile;
mod hsm_contract;
mod outage;
mod pin;
mod policy;
mod published;
mod renewal;
mod shutdown;
mod streaming;
mod support;
mod tokens;
mod verified;
mod wire;
