//! Commands.
pub mod check_config;
