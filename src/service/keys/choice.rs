//! Which of a client's keys an operator means.

use hallmark_core::{
    certificate,
    client::Client,
    error::{Error, Reason},
    key::{ClientName, KeyRecord, KeyState, Kid, PublicPart},
    policy::{Act, Caller, OperatorRole},
};

use serde::{Deserialize, Serialize};

use super::{Keys, no_such_client, no_such_key};
use crate::pool::PoolKey;

/// Which of a client's keys.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyChoice {
    pub client: ClientName,
    pub kid: Option<Kid>,
    /// The one that comes next, where no `kid` is said; else the active one.
    pub standby: bool,
}

/// What signs, and for whom.
pub(super) struct Chosen {
    pub(super) client: Client,
    pub(super) record: KeyRecord,
    pub(super) public: PublicPart,
}

impl Keys {
    /// The key that is meant, if the caller may ask for that.
    pub(super) fn choose(&self, caller: &Caller, choice: &KeyChoice, role: OperatorRole) -> Result<Chosen, Error> {
        self.authorise(caller, role)?;
        let client = self.configured(&choice.client)?;
        let reading = self.context.keyring.keys().clone();
        let records = reading.of(&choice.client);
        let record = match &choice.kid {
            Some(kid) => with_kid(records, kid)?,
            None if choice.standby => only(records, &client, KeyState::PreActive)?,
            None => only(records, &client, KeyState::Active)?,
        };
        Chosen::new(client, record)
    }

    /// The key that the chain is for, unless another is asked for: then the check will say what is wrong.
    pub(super) fn of_leaf(&self, caller: &Caller, choice: &KeyChoice, chain: &[Vec<u8>]) -> Result<Chosen, Error> {
        let reading = self.context.keyring.keys().clone();
        let is_for = |record: &&KeyRecord| {
            let public = record.public.as_ref().filter(|_| !record.state.is_over());
            public.is_some_and(|public| chain.iter().any(|der| certificate::is_for(der, &public.key)))
        };
        let found = reading.of(&choice.client).iter().find(is_for).filter(|_| choice.kid.is_none());
        match found {
            Some(record) => Chosen::new(self.configured(&choice.client)?, record),
            None => self.choose(caller, choice, Act::InstallCertificate.role(false)),
        }
    }

    fn configured(&self, client: &ClientName) -> Result<Client, Error> {
        let registered = self.context.registry.load_full();
        registered.clients.get(client).cloned().ok_or_else(|| no_such_client(client))
    }
}

impl Chosen {
    fn new(client: Client, record: &KeyRecord) -> Result<Self, Error> {
        check_alive(record)?;
        let public = record.public.clone().ok_or_else(|| {
            let text = format!("key {} was not generated yet; `hallmark keys list` shows when it is", record.id);
            Error::new(Reason::KeyState, text)
        })?;
        Ok(Self { client, record: record.clone(), public })
    }

    /// What the pool signs with.
    pub(super) fn pool_key(&self) -> Result<PoolKey, Error> {
        PoolKey::new(&self.record, &self.public, self.client.custody).map_err(Error::internal)
    }
}

fn with_kid<'a>(records: &'a [KeyRecord], kid: &Kid) -> Result<&'a KeyRecord, Error> {
    let has = |record: &&KeyRecord| record.public.as_ref().is_some_and(|public| public.kid == *kid);
    records.iter().find(has).ok_or_else(|| no_such_key(kid.as_str()))
}

/// The one key in that state that exists; where there are several the operator says which.
fn only<'a>(records: &'a [KeyRecord], client: &Client, state: KeyState) -> Result<&'a KeyRecord, Error> {
    let mut found = records.iter().filter(|record| record.state == state && record.public.is_some());
    let first = found.next().ok_or_else(|| {
        let text = format!("client `{0}` has no {state} key; see `hallmark keys list --client {0}`", client.name);
        Error::new(Reason::KeyState, text)
    })?;
    let rest: Vec<_> = found.collect();
    if rest.is_empty() {
        return Ok(first);
    }
    let name = |record: &KeyRecord| {
        let kid = record.public.as_ref().map_or("?", |public| public.kid.as_str());
        format!("`{kid}` ({} on {})", record.alg, record.hsm)
    };
    let all: Vec<_> = std::iter::once(first).chain(rest).map(name).collect();
    let text = format!("client `{}` has several {state} keys, say which with `kid`: {}", client.name, all.join(", "));
    Err(Error::new(Reason::InvalidRequest, text))
}

/// Refuses a key that ended.
pub(super) fn check_alive(record: &KeyRecord) -> Result<(), Error> {
    if record.state.is_over() {
        let text = format!("the key is {} and never signs again; choose another", record.state);
        return Err(Error::new(Reason::KeyState, text));
    }
    Ok(())
}
