//! Fakes, fixtures and contract suites for Hallmark's tests. A dev-dependency only: the released binary has no software
//! signer that could be enabled by mistake.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may end so")]

pub mod attestation;
pub mod child;
pub mod fake_hsm;
pub mod fault_module;
pub mod hsm_contract;
pub mod p11_kit;
pub mod pin_ledger;
pub mod postgres;
pub mod softhsm;
pub mod software_key;
pub mod store_contract;
pub mod tpm;
pub mod virtual_yubikey;
