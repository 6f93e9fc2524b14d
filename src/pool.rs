//! The only door to an HSM.
