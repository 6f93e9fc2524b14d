//! What `hallmark dev` keeps its keys on.

use clap::{Args, ValueEnum};

#[derive(Clone, Debug, Args)]
pub(in crate::cli) struct DevHsmArgs {
    /// What holds the keys: a SoftHSM token that is made here, or a YubiKey that is set up already
    #[arg(long, value_enum, default_value_t = DevHsm::Softhsm)]
    pub(in crate::cli) hsm: DevHsm,
    /// The YubiKey's serial; may be left out where only one is plugged in
    #[arg(long, value_name = "NUMBER")]
    pub(in crate::cli) serial: Option<u32>,
    /// Where the YubiKey's PIN is: `file:PATH`, never the PIN
    #[arg(long, value_name = "SOURCE")]
    pub(in crate::cli) pin_source: Option<String>,
    /// Where the YubiKey's PIV management key is, in hex: `file:PATH`
    #[arg(long, value_name = "SOURCE")]
    pub(in crate::cli) management_key_source: Option<String>,
}

/// A kind of HSM for development.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(in crate::cli) enum DevHsm {
    Softhsm,
    Yubikey,
}
