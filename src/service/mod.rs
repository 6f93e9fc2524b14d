//! Use cases. They know no transport, no PKCS#11 module and no database: only the rules, the pools, and ports.
//!
//! - [`sign`]: a workload asks for an assertion;
//! - [`keys`]: an operator lists and makes keys;
//! - [`rotation`]: the sweep, which does what is due with nobody's help;
//! - [`rules`]: what the rules are asked with, by the sweep and by operators;
//! - [`policy`]: why somebody may do something, or not;
//! - [`publish`]: the JWKS documents, in memory;
//! - [`followers`]: who serves those documents elsewhere, and which generation of them;
//! - [`readiness`]: whether signatures are made and verified lately;
//! - [`keyring`]: the records as last read, and the store lease;
//! - [`refusals`]: counts and records what callers are refused;
//! - [`limits`]: rate and concurrency of each workload;
//! - [`checkpoints`]: the head of the audit chain, signed by an HSM now and then;
//! - [`custody`]: signatures that Hallmark wants for itself;
//! - [`registry`]: clients and policy, replaced as one on reload.

pub mod checkpoints;
mod custody;
#[cfg(test)]
mod fixture;
pub mod followers;
mod intent;
pub mod keyring;
pub mod keys;
pub mod limits;
pub mod policy;
pub mod publish;
pub mod readiness;
pub mod refusals;
pub mod registry;
pub mod rotation;
pub mod rules;
pub mod sign;

use std::{collections::HashMap, sync::Arc};

use hallmark_core::{
    key::HsmName,
    ports::{AuditSink, Clock},
};

use crate::pool::Pool;

/// What every use case needs.
#[derive(Clone)]
pub struct Context {
    pub clock: Arc<dyn Clock>,
    pub audit: Arc<dyn AuditSink>,
    pub pools: Arc<HashMap<HsmName, Pool>>,
    pub registry: Arc<registry::Registry>,
    pub keyring: Arc<keyring::Keyring>,
}

impl std::fmt::Debug for Context {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Context")
    }
}
