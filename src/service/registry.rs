//! Clients and policy, as the configuration has them: read without a lock, replaced as one on reload.

use std::{collections::HashMap, sync::Arc};

use arc_swap::{ArcSwap, Guard};
use hallmark_core::{
    client::Client,
    key::ClientName,
    policy::{Identity, OperatorRole, Policy, Workload},
};

use super::limits::Limits;

#[derive(Debug)]
pub struct Registry(ArcSwap<Registered>);

#[derive(Debug)]
pub struct Registered {
    pub clients: HashMap<ClientName, Client>,
    pub policy: Policy,
    pub limits: Limits,
}

impl Registered {
    pub fn new(clients: Vec<Client>, workloads: Vec<Workload>, operators: Vec<(Identity, Vec<OperatorRole>)>) -> Self {
        Self {
            clients: clients.into_iter().map(|client| (client.name.clone(), client)).collect(),
            limits: Limits::new(&workloads),
            policy: Policy::new(workloads, operators),
        }
    }
}

impl Registry {
    pub fn new(registered: Registered) -> Self {
        Self(ArcSwap::from_pointee(registered))
    }

    pub fn load(&self) -> Guard<Arc<Registered>> {
        self.0.load()
    }

    /// For those who hold it across an await.
    pub fn load_full(&self) -> Arc<Registered> {
        self.0.load_full()
    }

    pub fn replace(&self, registered: Registered) {
        self.0.store(Arc::new(registered));
    }
}
