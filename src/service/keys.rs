//! An operator lists keys, and makes the first keys of a client's lines.
//!
//! - `create`: what an operator asks for;
//! - `approval`: those that need two operators;
//! - `custody`: the HSMs' own keys;
//! - `acts`: what the sweep has done on HSMs;
//! - `alter`, `adopt`, `revoke`, `inventory`: as they say; `alteration`: what can be altered;
//! - `looks`: what each HSM was last seen to hold;
//! - `certificates`: certificates of keys, and software statements;
//! - `evidence`: where a key was born, for whoever audits;
//! - `registration`: what registering a client gave;
//! - `birth`: from a reserved record to a key; `proof`: a key from elsewhere signs once;
//! - `choice`: which of a client's keys is meant;
//! - `change`: records and audits every change; `way_back`: how a rotation is taken back.

mod acts;
mod adopt;
mod alter;
mod alteration;
mod approval;
mod birth;
mod certificates;
mod change;
mod choice;
mod create;
mod custody;
mod evidence;
mod expiry;
mod inventory;
mod locks;
mod looks;
mod proof;
mod registration;
mod revoke;
mod signing;
mod statement;
mod way_back;

use std::{
    sync::{Arc, Mutex as StdMutex, PoisonError},
    time::Duration,
};

use hallmark_core::{
    error::{Error, Reason},
    key::{ClientName, HsmName, KeyLine, KeyRecord},
    policy::{Act, Caller, OperatorRole},
    ports::{KeyChange, Proposed, StoreError},
    time::Timestamp,
};
use tokio::sync::Mutex;

pub(in crate::service) use self::acts::line_of;
pub use self::{
    adopt::{AdoptRequest, ObjectRef},
    alter::AlterRequest,
    alteration::Alteration,
    approval::Approvals,
    certificates::{CsrRequest, InstallRequest, SelfSignRequest, WantedNames},
    choice::KeyChoice,
    create::CreateRequest,
    evidence::SignedEvidence,
    inventory::{Inventory, Stray},
    registration::RegistrationRequest,
    statement::{SignedStatement, StatementRequest},
};
use self::{locks::Locks, looks::Looks};
use super::{Context, keyring::Reading, publish::Publisher, registry::Registered, rules::Rules};
use crate::pool::Pool;

/// What [`Keys::look`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Looked {
    /// The reading in force is the last there is.
    Current,
    /// There was something new.
    ReadAgain,
}

/// The use cases about keys; clones share everything.
#[derive(Clone, Debug)]
pub struct Keys {
    context: Context,
    publisher: Arc<Publisher>,
    /// What the rules are asked with.
    rules: Arc<Rules>,
    /// Keys of a line are made one after the other; whoever only moves them needs no lock, for the store refuses what started
    /// from another state.
    births: Arc<Locks<KeyLine>>,
    custody_births: Arc<Locks<HsmName>>,
    /// Readings of the store, each with what is published of it, come one after the other: by the chore, after a change, on SIGHUP.
    reloading: Arc<Mutex<()>>,
    looks: Arc<Looks>,
    /// `None`: no change waits for a second operator.
    approvals: Option<Arc<Approvals>>,
    /// What the documents that are published were made of.
    published: Arc<StdMutex<Option<MadeOf>>>,
}

/// Configuration and records.
type MadeOf = (Arc<Registered>, Arc<Reading>);

/// A change, the keys that it made or moved, and what verifiers will see of it.
#[derive(Debug)]
pub struct Changed {
    pub change: KeyChange,
    pub keys: Vec<KeyRecord>,
    /// From when on it holds at every replica, and at every verifier that obeys the headers.
    pub in_force_everywhere_at: Option<Timestamp>,
    /// What else there is to know or to do, a sentence each.
    pub advice: Vec<String>,
    /// Of a change that waits for a second operator, or waited.
    pub approval: Option<Box<Proposed>>,
}

impl Keys {
    /// `publisher` is told of every reading of the store.
    pub fn new(context: Context, publisher: Arc<Publisher>, rules: Arc<Rules>) -> Self {
        let (births, custody_births, reloading) = (Arc::default(), Arc::default(), Arc::default());
        let looks = Arc::new(Looks::new(context.pools.keys()));
        Self {
            context,
            publisher,
            rules,
            births,
            custody_births,
            reloading,
            looks,
            approvals: None,
            published: Arc::default(),
        }
    }

    /// The records of `client`, or all.
    ///
    /// # Errors
    ///
    /// Also where `client` is neither configured nor has any records.
    pub fn list(&self, caller: &Caller, client: Option<&ClientName>) -> Result<Vec<KeyRecord>, Error> {
        self.authorise(caller, Act::ListKeys.role(false))?;
        let keys = self.context.keyring.keys();
        let mut records = match client {
            Some(client) => {
                let records = keys.of(client).to_vec();
                // A client that is gone from the configuration is there for as long as it has records.
                if records.is_empty() && !self.context.registry.load().clients.contains_key(client) {
                    return Err(no_such_client(client));
                }
                records
            }
            None => keys.records.clone(),
        };
        // In the order of creation, whoever they belong to.
        records.sort_by_key(|record| record.times.created);
        Ok(records)
    }

    /// The record with that `kid`.
    pub fn get(&self, caller: &Caller, kid: &str) -> Result<KeyRecord, Error> {
        self.authorise(caller, Act::ShowKey.role(false))?;
        let keys = self.context.keyring.keys();
        keys.by_kid(kid).cloned().ok_or_else(|| no_such_key(kid))
    }

    /// Reads the store again, for signing and for the JWKS.
    pub async fn reload(&self) -> Result<(), Error> {
        let _one = self.reloading.lock().await;
        // Read inside: who replaced it before asking for a reload finds it in force afterwards.
        let registered = self.context.registry.load_full();
        self.context.keyring.refresh(&registered).await.map_err(store_error)?;
        self.publish(registered).await
    }

    /// Reads the store again if there is anything new; else renews the lease. Cheap, and meant to be called often.
    pub async fn look(&self) -> Result<Looked, Error> {
        let context = &self.context;
        if context.keyring.is_current(|| context.clock.now()).await.map_err(store_error)? {
            return Ok(Looked::Current);
        }
        self.reload().await?;
        Ok(Looked::ReadAgain)
    }

    /// Publishes the reading in force anew, where a change that verifiers were told of has not come.
    pub async fn recount(&self) -> Result<(), Error> {
        let now = self.context.keyring.store_time(self.context.clock.now());
        if !self.rules.countdown_is_over(now) {
            return Ok(());
        }
        let _one = self.reloading.lock().await;
        self.publish(self.context.registry.load_full()).await
    }

    /// Makes the documents of all clients whose records or configuration changed since they were published.
    async fn publish(&self, registered: Arc<Registered>) -> Result<(), Error> {
        let this = self.clone();
        let work = move || {
            let reading = this.context.keyring.keys().clone();
            let next = this.rules.next_changes(&this.context);
            this.publisher.remember_paths(&reading.paths);
            // Held to the end, so that what it says is what was published last.
            let mut published = this.published.lock().unwrap_or_else(PoisonError::into_inner);
            // Where the configuration was read again, everything is in doubt.
            let before = published.take().filter(|(known, _)| Arc::ptr_eq(known, &registered));
            let changed =
                |client: &ClientName| before.as_ref().is_none_or(|(_, before)| before.of(client) != reading.of(client));
            let clients = registered.clients.values();
            let generation = this.publisher.rebuild_where(changed, clients, &reading.records, &next);
            this.publisher.shown().note(generation, reading.generation);
            *published = Some((registered.clone(), reading.clone()));
        };
        // Ten thousand clients take a while, which signing need not wait for.
        tokio::task::spawn_blocking(work).await.map_err(Error::internal)
    }

    /// What time it is by the store's clock.
    fn now(&self) -> Timestamp {
        self.context.keyring.store_time(self.context.clock.now())
    }

    fn authorise(&self, caller: &Caller, role: OperatorRole) -> Result<(), Error> {
        self.context.registry.load().policy.operator(caller, role, self.context.clock.now())
    }

    fn pool(&self, hsm: &HsmName) -> Result<&Pool, Error> {
        self.context.pools.get(hsm).ok_or_else(|| {
            let text = format!("HSM `{hsm}` is not configured on this replica; ask the one that has it");
            Error::new(Reason::InvalidRequest, text)
        })
    }
}

/// Who is behind what the server does by itself, in the audit log.
const OWN_NAME: &str = "hallmark";

pub(super) fn no_such_client(client: &ClientName) -> Error {
    let text = format!("no client `{client}` in the configuration; `hallmark keys list` shows those that have keys");
    Error::new(Reason::InvalidRequest, text)
}

fn no_such_key(kid: &str) -> Error {
    let shown: String = kid.chars().take(64).collect();
    Error::new(Reason::KeyNotFound, format!("no key with kid `{shown}`; `hallmark keys list` shows all"))
}

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
