//! Clients and policy, as the configuration has them: read without a lock, replaced as one on reload.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use arc_swap::{ArcSwap, Guard};
use hallmark_core::{
    client::Client,
    evidence::roots::Roots,
    key::{Alg, ClientName, HsmName},
    policy::{Book, Identity, OperatorRole, Policy, Workload, lint},
};

use super::limits::Limits;

/// The clients, workloads and operators in force, read without a lock and replaced as one.
#[derive(Debug)]
pub struct Registry(ArcSwap<Registered>);

/// What one reading of the configuration says of clients, workloads and operators.
#[derive(Debug)]
pub struct Registered {
    pub clients: HashMap<ClientName, Client>,
    pub policy: Policy,
    pub limits: Limits,
    /// Whose attestation of a key counts.
    pub roots: Arc<Roots>,
    rotation: BTreeMap<(ClientName, Alg), Duration>,
    custody_keys: HashMap<HsmName, Vec<u8>>,
    /// Where it all stands in the configuration.
    pub book: Book,
    /// What is allowed there and hardly meant.
    pub findings: Vec<lint::Finding>,
}

impl Registered {
    /// Limits start anew with it.
    pub fn new(clients: Vec<Client>, workloads: Vec<Workload>, operators: Vec<(Identity, Vec<OperatorRole>)>) -> Self {
        Self {
            clients: clients.into_iter().map(|client| (client.name.clone(), client)).collect(),
            limits: Limits::new(&workloads),
            policy: Policy::new(workloads, operators),
            roots: Arc::new(Roots::yubico()),
            rotation: BTreeMap::new(),
            custody_keys: HashMap::new(),
            book: Book::default(),
            findings: Vec::new(),
        }
    }

    /// With where it stands in the configuration, and what is hardly meant there.
    #[must_use]
    pub fn with_book(self, book: Book, findings: Vec<lint::Finding>) -> Self {
        Self { book, findings, ..self }
    }

    /// With whose attestation counts: Yubico's alone where nothing else is said.
    #[must_use]
    pub fn with_roots(self, roots: Arc<Roots>) -> Self {
        Self { roots, ..self }
    }

    /// With how often each client's keys of an algorithm are replaced.
    #[must_use]
    pub fn with_rotation(self, rotation: BTreeMap<(ClientName, Alg), Duration>) -> Self {
        Self { rotation, ..self }
    }

    /// With the `CKA_ID`s of custody keys that are not Hallmark's to make.
    #[must_use]
    pub fn with_custody_keys(self, custody_keys: HashMap<HsmName, Vec<u8>>) -> Self {
        Self { custody_keys, ..self }
    }

    /// The `CKA_ID` of the pair on `hsm` that is to be its custody key; `None`: Hallmark makes one.
    pub fn custody_key(&self, hsm: &HsmName) -> Option<&[u8]> {
        self.custody_keys.get(hsm).map(Vec::as_slice)
    }

    /// How often the client's keys of that algorithm are replaced; `None`: when an operator says so.
    pub fn rotation(&self, client: &ClientName, alg: Alg) -> Option<Duration> {
        self.rotation.get(&(client.clone(), alg)).copied()
    }
}

impl Registry {
    /// With `registered` in force.
    pub fn new(registered: Registered) -> Self {
        Self(ArcSwap::from_pointee(registered))
    }

    /// For a look within one step; it must not be held over an await.
    pub fn load(&self) -> Guard<Arc<Registered>> {
        self.0.load()
    }

    /// For those who hold it across an await.
    pub fn load_full(&self) -> Arc<Registered> {
        self.0.load_full()
    }

    /// Puts `registered` in force for whatever is asked from now on.
    pub fn replace(&self, registered: Registered) {
        self.0.store(Arc::new(registered));
    }
}
