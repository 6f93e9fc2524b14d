//! Black-box tests: the real binary, real sockets, real PKCS#11 tokens, real authorization servers.
//!
//! One binary, so that everything is linked once.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may end so")]

mod approvals;
mod architecture;
mod attackers;
mod audit;
mod bearer;
mod certificates;
mod cli;
mod clock;
mod configuration;
mod conformance;
mod database;
mod dependencies;
mod development;
mod discover;
mod disk_full;
mod doctor;
mod documents;
mod drill;
mod evidence;
mod exported;
mod faults;
mod flood;
mod follower;
mod fuzz_corpus;
mod hardening;
mod hostile;
mod hsm_contract;
mod import;
mod inspect;
mod limits;
mod load;
mod openemr;
mod operators;
mod other_tokens;
mod outage;
mod pin;
mod policy;
mod printed;
mod probe;
mod published;
mod real_verifiers;
mod registered;
mod renewal;
mod replicas;
mod roles;
mod rotation;
mod secrets;
mod shutdown;
mod soak;
mod streaming;
mod support;
mod tokens;
mod verified;
mod virtual_yubikey;
mod wire;
mod yubikey;
