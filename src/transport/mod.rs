//! The fronts: whoever comes in, comes in here.
//!
//! [`listener`] accepts for every port; [`tls`] and [`identity`] and [`bearer`] say who is there; [`reload`] notices new files;
//! [`grpc`] is for backend services and operators; [`http`] publishes key sets, health and metrics.

pub mod bearer;
pub mod grpc;
pub mod http;
pub mod identity;
pub mod listener;
pub mod reload;
pub mod tls;

pub use listener::{Peer, PeerAddr};

#[cfg(test)]
mod fixture;
