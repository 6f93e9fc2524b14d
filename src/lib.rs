//! Hallmark's world: everything that blocks, listens, stores or prints. The rules are in `hallmark-core`.
//!
//! In reading order: [`cli`] → [`app`] (the only place where concrete types meet) → [`transport`] → [`service`]
//! → [`pool`] (the only door to an HSM) → [`hsm`]; beside them [`config`], [`store`], [`audit`], [`telemetry`],
//! [`hardening`] (what the process gives up), [`follow`] (publishes what another process manages) and [`verifier`] (sees a JWKS URL from outside).

pub mod app;
pub mod audit;
pub mod cli;
pub mod config;
pub mod follow;
pub mod hardening;
pub mod hsm;
mod lock;
pub mod pool;
pub mod service;
pub mod store;
pub mod telemetry;
pub mod transport;
pub mod verifier;
