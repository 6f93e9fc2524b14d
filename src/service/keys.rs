//! An operator lists keys, and makes the first keys of a client's lines.
//!
//! - `create`: what an operator asks for;
//! - `provision`: what the server makes by itself;
//! - `birth`: from a reserved record to a key;
//! - `change`: records and audits every change.

mod birth;
mod change;
mod create;
mod provision;

use std::{sync::Arc, time::Duration};

use hallmark_core::{
    error::{Error, Reason},
    key::{ClientName, HsmName, KeyRecord},
    policy::{Caller, OperatorRole},
    ports::{KeyChange, StoreError},
};
use tokio::sync::Mutex;

pub use self::{create::CreateRequest, provision::Provisioned};
use super::{Context, publish::Publisher};
use crate::pool::Pool;

/// The use cases about keys; clones share everything.
#[derive(Clone, Debug)]
pub struct Keys {
    context: Context,
    publisher: Arc<Publisher>,
    /// Changes happen one after the other.
    changing: Arc<Mutex<()>>,
    /// So do readings of the store, each with what is published of it: by the chore, after a change, on SIGHUP.
    reloading: Arc<Mutex<()>>,
}

/// A change, and the keys that it made.
#[derive(Debug)]
pub struct Changed {
    pub change: KeyChange,
    pub keys: Vec<KeyRecord>,
}

impl Keys {
    /// `publisher` is told of every reading of the store.
    pub fn new(context: Context, publisher: Arc<Publisher>) -> Self {
        Self { context, publisher, changing: Arc::default(), reloading: Arc::default() }
    }

    /// The records of `client`, or all.
    pub fn list(&self, caller: &Caller, client: Option<&ClientName>) -> Result<Vec<KeyRecord>, Error> {
        self.authorise(caller, OperatorRole::View)?;
        let keys = self.context.keyring.keys();
        let wanted = |record: &&KeyRecord| client.is_none() || record.client.as_ref() == client;
        Ok(keys.records.iter().filter(wanted).cloned().collect())
    }

    /// The record with that `kid`.
    pub fn get(&self, caller: &Caller, kid: &str) -> Result<KeyRecord, Error> {
        self.authorise(caller, OperatorRole::View)?;
        let keys = self.context.keyring.keys();
        let has_kid = |record: &&KeyRecord| record.public.as_ref().is_some_and(|public| public.kid.as_str() == kid);
        keys.records.iter().find(has_kid).cloned().ok_or_else(|| {
            let shown: String = kid.chars().take(64).collect();
            Error::new(Reason::KeyNotFound, format!("no key with kid `{shown}`; `hallmark keys list` shows all"))
        })
    }

    /// Reads the store again, for signing and for the JWKS.
    pub async fn reload(&self) -> Result<(), Error> {
        let _one = self.reloading.lock().await;
        // Read inside: who replaced it before asking for a reload finds it in force afterwards.
        let registered = self.context.registry.load_full();
        self.context.keyring.refresh(&registered).await.map_err(store_error)?;
        let clients: Vec<_> = registered.clients.values().cloned().collect();
        self.publisher.rebuild(&clients, &self.context.keyring.keys().records);
        Ok(())
    }

    fn authorise(&self, caller: &Caller, role: OperatorRole) -> Result<(), Error> {
        self.context.registry.load().policy.operator(caller, role, self.context.clock.now())
    }

    fn pool(&self, hsm: &HsmName) -> Result<&Pool, Error> {
        self.context.pools.get(hsm).ok_or_else(|| Error::internal(format!("no pool for HSM `{hsm}`")))
    }
}

/// Who is behind what the server does by itself, in the audit log.
const OWN_NAME: &str = "hallmark";

pub(super) fn store_error(error: StoreError) -> Error {
    let wait = Duration::from_secs(1);
    match &error {
        StoreError::Unavailable(_) => {
            Error::new(Reason::StoreUnavailable, "the key store does not answer; try again").retry_after(wait)
        }
        StoreError::Conflict(_) => {
            Error::new(Reason::KeyChanged, "the keys changed meanwhile; look at them and try again").retry_after(wait)
        }
        StoreError::Corrupt(_) => {
            Error::new(Reason::StoreCorrupt, "the key store holds what can't be read; call the operator")
        }
    }
    .with_detail(error)
}

#[cfg(test)]
mod tests;
