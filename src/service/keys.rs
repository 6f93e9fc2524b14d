//! An operator lists keys, and makes the first keys of a client's lines.

use std::{collections::HashMap, sync::Arc, time::Duration};

use hallmark_core::{
    audit::{EncodedEvent, Event, KeyEvent, Outcome},
    client::{Client, Custody, Provision},
    error::{Error, Reason},
    key::{
        Alg, ClientName, HsmName, KeyId, KeyLine, KeyRecord, KeySpec, KeyState, KeyTimes, Origin, PublicPart, Purpose,
    },
    lifecycle::{self, Bootstrap, Change, Step},
    policy::{Caller, OperatorRole},
    ports::{BegunChange, ChangeState, HsmObject, KeyChange, RecordUpdate, StoreError},
    public_key::PublicKey,
};
use tokio::sync::Mutex;
use uuid::Uuid;

use super::{Context, publish::Publisher, sign::audit_unavailable};
use crate::pool::{Pool, PoolKey};

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

/// What an operator asks for.
#[derive(Clone, Debug)]
pub struct CreateRequest {
    pub request_id: String,
    pub reason: String,
    pub client: ClientName,
    /// Only the line with this algorithm.
    pub alg: Option<Alg>,
}

/// A change, and the keys that it made.
#[derive(Debug)]
pub struct Changed {
    pub change: KeyChange,
    pub keys: Vec<KeyRecord>,
}

/// What `provision` did.
#[derive(Debug, Default)]
pub struct Provisioned {
    /// How many key lines got their first keys.
    pub made: usize,
    /// What could not be made yet, and why.
    pub failed: Vec<(KeyLine, Error)>,
}

/// Who is behind a change, for the audit log.
struct Author<'a> {
    who: &'a str,
    change: &'a str,
    reason: &'a str,
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

    /// Makes the first keys of a client's lines: one active and one standby each.
    pub async fn create(&self, caller: &Caller, request: CreateRequest) -> Result<Changed, Error> {
        self.authorise(caller, OperatorRole::Rotate)?;
        if request.request_id.starts_with(OWN_REQUESTS) {
            let text = format!("a `request_id` can't begin with `{OWN_REQUESTS}`: those are the server's own");
            return Err(Error::new(Reason::InvalidRequest, text));
        }
        let registered = self.context.registry.load_full();
        let client = registered.clients.get(&request.client).ok_or_else(|| {
            Error::new(Reason::InvalidRequest, format!("no client `{}` in the configuration", request.client))
        })?;
        let lines = lines(client, request.alg)?;
        let who = caller.identity.to_string();
        // The change goes on where the caller hangs up: keys must not be left half made.
        let (this, client) = (self.clone(), client.clone());
        let work = async move { this.change(&client, lines, request, who).await };
        tokio::spawn(work).await.map_err(Error::internal)?
    }

    /// Makes what clients with `provision = "auto"` still lack on `hsm`, as the server itself. A line in trouble holds up
    /// no other; those of one client that come out well are published as one.
    ///
    /// Never where a record or an object on the token already names the client.
    pub async fn provision(&self, hsm: &HsmName) -> Provisioned {
        let registered = self.context.registry.load_full();
        let mut provisioned = Provisioned::default();
        for client in registered.clients.values().filter(|client| client.provision == Provision::Auto) {
            let mut lacking = Vec::new();
            for (line, spec) in client.key_lines().into_iter().filter(|(line, _)| line.hsm == *hsm) {
                match self.may_provision(client, &line).await {
                    Ok(true) => lacking.push((line, spec)),
                    Ok(false) => {}
                    Err(error) => provisioned.failed.push((line, error)),
                }
            }
            let Some((first, _)) = lacking.first().cloned() else { continue };
            if let Err(error) = self.provision_lines(client, &lacking).await {
                provisioned.failed.push((first, error));
            }
            let keys = self.context.keyring.keys();
            let lives = |line| lifecycle::bootstrap(line, &keys.records).is_err();
            provisioned.made += lacking.iter().filter(|(line, _)| lives(line)).count();
        }
        provisioned
    }

    async fn provision_lines(&self, client: &Client, lines: &[(KeyLine, KeySpec)]) -> Result<(), Error> {
        let names: Vec<_> = lines.iter().map(|(line, _)| line.to_string()).collect();
        let request = CreateRequest {
            request_id: format!("{OWN_REQUESTS}provision/{}", names.join(",")),
            reason: "provision = \"auto\"".into(),
            client: client.name.clone(),
            alg: None,
        };
        self.change(client, lines.to_vec(), request, OWN_NAME.into()).await?;
        Ok(())
    }

    /// Makes the custody key of `hsm`, if there is none. Prefers ES256: its keys are quick to make and to use.
    pub async fn ensure_custody_key(&self, hsm: &HsmName) -> Result<(), Error> {
        let _one = self.changing.lock().await;
        // An attempt that failed may have left what was not read yet.
        self.reload().await?;
        let keys = self.context.keyring.keys().clone();
        if keys.custody(hsm).is_some() {
            return Ok(());
        }
        let pool = self.pool(hsm)?;
        let algs = pool.facts().map(|facts| facts.algs).unwrap_or_default();
        // What was reserved for an algorithm that the HSM has no more stays where it is, and another takes its place.
        let reserved = |record: &&KeyRecord| {
            record.purpose == Purpose::Custody
                && record.hsm == *hsm
                && record.state == KeyState::PreActive
                && algs.contains(&record.alg)
        };
        let record = match keys.records.iter().find(reserved) {
            Some(record) => record.clone(),
            None => {
                let alg = [Alg::ES256, Alg::RS256].into_iter().find(|alg| algs.contains(alg)).ok_or_else(|| {
                    Error::new(Reason::AlgUnsupported, "the HSM has neither ES256 nor RS256, for its custody key")
                })?;
                self.reserve(None, hsm, alg, Purpose::Custody).await?
            }
        };
        // The record's own: it may have been reserved when the HSM had other algorithms.
        let spec = KeySpec { alg: record.alg, rsa_bits: KeySpec::DEFAULT_RSA_BITS };
        let author = Author { who: OWN_NAME, change: &record.id.to_string(), reason: "an HSM needs a custody key" };
        let born = self.generate(pool, &record, spec, &author).await?;
        check_custody(pool, &born, Custody::Local).await?;
        let step = Step::Move { key: born.id, to: KeyState::Active };
        let change = Change { step, reason: "custody key".into() };
        self.apply(vec![(born, change)], &author).await
    }

    async fn may_provision(&self, client: &Client, line: &KeyLine) -> Result<bool, Error> {
        let keys = self.context.keyring.keys().clone();
        let records: Vec<_> = keys.of_client(client).cloned().collect();
        match lifecycle::bootstrap(line, &records) {
            Err(_) => Ok(false),
            Ok(Bootstrap::Resume(_)) => Ok(true),
            Ok(Bootstrap::Start) => {
                let prefix = label_prefix(Some(&client.name), line.alg);
                let objects = self.pool(&line.hsm)?.list().await?;
                let named: Vec<_> = objects.iter().filter(|object| object.label.starts_with(&prefix)).collect();
                if let Some(object) = named.first() {
                    tracing::error!(client = %client.name, label = object.label, "not provisioning: the HSM has an object \
                        that names this client, and there is no record of it");
                }
                Ok(named.is_empty())
            }
        }
    }

    async fn change(
        &self,
        client: &Client,
        lines: Vec<(KeyLine, KeySpec)>,
        request: CreateRequest,
        who: String,
    ) -> Result<Changed, Error> {
        let _one = self.changing.lock().await;
        let algs: Vec<_> = lines.iter().map(|(line, _)| line.to_string()).collect();
        let change = KeyChange {
            id: Uuid::new_v4().to_string(),
            request_id: request.request_id,
            request: format!("create {}", algs.join(" ")),
            client: client.name.clone(),
            operator: who.clone(),
            reason: request.reason,
            state: ChangeState::Running,
            created: self.context.clock.now(),
            keys: Vec::new(),
        };
        let change = match self.begin(change).await? {
            Begun::Go(change) => change,
            Begun::Done(changed) => return Ok(changed),
        };
        // An attempt that failed, or another process, may have left what was not read yet.
        self.reload().await?;
        // Whoever takes the change up now, not who asked first.
        let author = Author { who: &who, change: &change.id, reason: &change.reason };
        let mut keys = change.keys.clone();
        let made = self.make_lines(client, &lines, &author, &mut keys).await;
        let state = if made.is_ok() { ChangeState::Applied } else { ChangeState::Failed };
        let ended = self.context.keyring.store().end_change(&change.id, state, &keys).await.map_err(store_error);
        made.and(ended)?;
        Ok(self.changed(KeyChange { state, keys, ..change }))
    }

    async fn begin(&self, change: KeyChange) -> Result<Begun, Error> {
        match self.context.keyring.store().begin_change(&change).await.map_err(store_error)? {
            BegunChange::New => Ok(Begun::Go(change)),
            BegunChange::Existing(before) if before.request != change.request => {
                let text = "this request_id came before with another request; use a new one";
                Err(Error::new(Reason::RequestIdReused, text))
            }
            BegunChange::Existing(before) if before.state == ChangeState::Applied => {
                Ok(Begun::Done(self.changed(before)))
            }
            // It failed, or its process died half-way: what it left is taken up.
            BegunChange::Existing(before) => Ok(Begun::Go(before)),
        }
    }

    fn changed(&self, change: KeyChange) -> Changed {
        let keys = self.context.keyring.keys();
        let keys = keys.records.iter().filter(|record| change.keys.contains(&record.id)).cloned().collect();
        Changed { change, keys }
    }

    /// Makes the first keys of `lines`, but for those that this change had made before it was cut short. `keys` grows
    /// by what the change touches, and the store knows before any of it lives. All are published as one, so that all
    /// may sign at once where the client is new.
    async fn make_lines(
        &self,
        client: &Client,
        lines: &[(KeyLine, KeySpec)],
        author: &Author<'_>,
        keys: &mut Vec<KeyId>,
    ) -> Result<(), Error> {
        let (mut first, mut standbys, mut failed) = (Vec::new(), Vec::new(), None);
        for (line, spec) in lines {
            if self.is_made(client, line, keys) {
                continue;
            }
            match self.make_line(client, line, *spec, author, keys).await {
                Ok((one, other)) => {
                    first.push(one);
                    standbys.push(other);
                }
                Err(error) => failed = failed.or(Some(error)),
            }
        }
        let ids = |born: &[KeyRecord]| born.iter().map(|record| record.id).collect::<Vec<_>>();
        let reading = self.context.keyring.keys().clone();
        let records: Vec<_> = reading.of_client(client).cloned().collect();
        let changes = lifecycle::establish(&records, &ids(&first), &ids(&standbys));
        // What an operator asks for comes as a whole, and a repeated request goes on; the server makes what it can.
        let as_a_whole = author.who != OWN_NAME;
        if changes.is_empty() || (failed.is_some() && as_a_whole) {
            return failed.map_or(Ok(()), Err);
        }
        self.apply(first.into_iter().chain(standbys).zip(changes).collect(), author).await?;
        failed.map_or(Ok(()), Err)
    }

    async fn make_line(
        &self,
        client: &Client,
        line: &KeyLine,
        spec: KeySpec,
        author: &Author<'_>,
        keys: &mut Vec<KeyId>,
    ) -> Result<(KeyRecord, KeyRecord), Error> {
        let (first, standby) = self.reserve_line(client, line).await?;
        keys.extend([first.id, standby.id]);
        keys.sort_unstable();
        keys.dedup();
        let store = self.context.keyring.store();
        store.end_change(author.change, ChangeState::Running, keys).await.map_err(store_error)?;
        let pool = self.pool(&line.hsm)?;
        let first = self.generate(pool, &first, spec, author).await?;
        let standby = self.generate(pool, &standby, spec, author).await?;
        for born in [&first, &standby] {
            check_custody(pool, born, client.custody).await?;
        }
        Ok((first, standby))
    }

    /// Whether `keys` has one of `line` that lives.
    fn is_made(&self, client: &Client, line: &KeyLine, keys: &[KeyId]) -> bool {
        let all = self.context.keyring.keys();
        let mut ours = all.of_client(client).filter(|record| keys.contains(&record.id));
        ours.any(|record| record.alg == line.alg && record.hsm == line.hsm && record.times.published.is_some())
    }

    /// Two records without keys, written before the keys are made.
    #[expect(clippy::unwrap_used, reason = "`Unwrap safety` below")]
    async fn reserve_line(&self, client: &Client, line: &KeyLine) -> Result<(KeyRecord, KeyRecord), Error> {
        let keys = self.context.keyring.keys().clone();
        let records: Vec<_> = keys.of_client(client).cloned().collect();
        let mut reserved = match lifecycle::bootstrap(line, &records)? {
            Bootstrap::Start => Vec::new(),
            Bootstrap::Resume(ids) => records.into_iter().filter(|record| ids.contains(&record.id)).collect(),
        };
        while reserved.len() < 2 {
            reserved.push(self.reserve(Some(&client.name), &line.hsm, line.alg, Purpose::Assertion).await?);
        }
        // Unwrap safety: filled up to two right above.
        let standby = reserved.pop().unwrap();
        Ok((reserved.pop().unwrap(), standby))
    }

    async fn reserve(
        &self,
        client: Option<&ClientName>,
        hsm: &HsmName,
        alg: Alg,
        purpose: Purpose,
    ) -> Result<KeyRecord, Error> {
        let id = Uuid::new_v4();
        let record = KeyRecord {
            id: KeyId(id),
            client: client.cloned(),
            alg,
            hsm: hsm.clone(),
            purpose,
            cka_id: Uuid::new_v4().as_bytes().to_vec(),
            label: format!("{}{}", label_prefix(client, alg), &id.simple().to_string()[..8]),
            public: None,
            state: KeyState::PreActive,
            served_for_ms: 0,
            kept_for_ms: 0,
            times: KeyTimes::created(self.context.clock.now()),
            origin: Origin::Generated,
            certificate_chain: Vec::new(),
        };
        self.context.keyring.store().apply(std::slice::from_ref(&record), &[]).await.map_err(store_error)?;
        Ok(record)
    }

    /// Makes the key of a reserved record, or takes the one that an attempt cut short has left.
    async fn generate(
        &self,
        pool: &Pool,
        record: &KeyRecord,
        spec: KeySpec,
        author: &Author<'_>,
    ) -> Result<KeyRecord, Error> {
        if record.public.is_some() {
            return Ok(record.clone());
        }
        let subject = record.id.to_string();
        self.audited(author, "generate", &subject, async {
            let key = match left_behind(&pool.list().await?, record)? {
                Some(key) => key,
                None => pool.generate(record.cka_id.clone(), record.label.clone(), spec).await?,
            };
            let public = PublicPart { kid: key.thumbprint(), key };
            let born = KeyRecord { public: Some(public), ..record.clone() };
            let update = RecordUpdate { from: record.state, record: born.clone() };
            self.context.keyring.store().apply(&[], &[update]).await.map_err(store_error)?;
            Ok(born)
        })
        .await
    }

    /// Moves records in one transaction, then shows the result to signers and verifiers.
    async fn apply(&self, moves: Vec<(KeyRecord, Change)>, author: &Author<'_>) -> Result<(), Error> {
        let now = self.context.clock.now();
        let mut updates = Vec::with_capacity(moves.len());
        for (record, change) in &moves {
            updates.push(RecordUpdate { from: record.state, record: lifecycle::apply(record, change, now)? });
        }
        let texts: Vec<_> = moves.iter().map(|(record, change)| describe(record, change)).collect();
        self.audited(author, "move", &texts.join(", "), async {
            self.context.keyring.store().apply(&[], &updates).await.map_err(store_error)
        })
        .await?;
        self.reload().await
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

    /// Log intent, then act, then outcome.
    async fn audited<T>(
        &self,
        author: &Author<'_>,
        action: &str,
        subject: &str,
        act: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let event = KeyEvent { change: author.change, who: author.who, action, subject, reason: author.reason };
        self.record(&Event::KeyIntent(event.clone())).await?;
        let result = act.await;
        let outcome = if result.is_ok() { Outcome::Done } else { Outcome::Failed };
        self.record(&Event::KeyOutcome { key: event, outcome }).await?;
        result
    }

    async fn record(&self, event: &Event<'_>) -> Result<(), Error> {
        let encoded = EncodedEvent::new(self.context.clock.now(), event);
        self.context.audit.append_synced(encoded).await.map_err(audit_unavailable)
    }

    fn authorise(&self, caller: &Caller, role: OperatorRole) -> Result<(), Error> {
        self.context.registry.load().policy.operator(caller, role, self.context.clock.now())
    }

    fn pool(&self, hsm: &HsmName) -> Result<&Pool, Error> {
        self.context.pools.get(hsm).ok_or_else(|| Error::internal(format!("no pool for HSM `{hsm}`")))
    }
}

/// How the request ids begin under which the server makes keys by itself.
const OWN_REQUESTS: &str = "hallmark:";

/// Who is behind what the server does by itself, in the audit log.
const OWN_NAME: &str = "hallmark";

enum Begun {
    Go(KeyChange),
    Done(Changed),
}

fn lines(client: &Client, alg: Option<Alg>) -> Result<Vec<(KeyLine, KeySpec)>, Error> {
    let mut lines = client.key_lines();
    lines.retain(|(line, _)| alg.is_none_or(|alg| line.alg == alg));
    if lines.is_empty() {
        let text = format!("client `{}` has no key line with this algorithm in the configuration", client.name);
        return Err(Error::new(Reason::AlgNotConfigured, text));
    }
    Ok(lines)
}

fn describe(record: &KeyRecord, change: &Change) -> String {
    match &change.step {
        Step::Move { to, .. } => format!("{} to {to}", record.id),
        step => format!("{}: {step:?}", record.id),
    }
}

/// `CKA_LABEL` up to a random end: says to a person at the token whose key it is.
fn label_prefix(client: Option<&ClientName>, alg: Alg) -> String {
    match client {
        Some(client) => format!("hallmark:{client}:{alg}:"),
        None => format!("hallmark-custody:{alg}:"),
    }
}

/// The complete pair that a crash left on the token for `record`.
fn left_behind(objects: &[HsmObject], record: &KeyRecord) -> Result<Option<PublicKey>, Error> {
    let by_id: HashMap<_, _> = objects.iter().map(|object| (object.cka_id.as_slice(), object)).collect();
    let Some(object) = by_id.get(record.cka_id.as_slice()) else { return Ok(None) };
    match (&object.public, object.has_private) {
        (Some(key), true) if object.label == record.label && key.suits(record.alg) => Ok(Some(key.clone())),
        _ => {
            let text = format!("the HSM has an incomplete or foreign object with the CKA_ID of key {}", record.id);
            Err(Error::new(Reason::KeyAbsent, text))
        }
    }
}

/// Looks at what the HSM says of a new key, before anyone relies on it: a module may make keys that can leave it.
async fn check_custody(pool: &Pool, born: &KeyRecord, floor: Custody) -> Result<(), Error> {
    let public = born.public.as_ref().ok_or_else(|| Error::internal("a key without its public part"))?;
    let key = PoolKey::new(born, public, floor).map_err(Error::internal)?;
    let evidence = pool.evidence(Arc::new(key)).await?;
    let why = match evidence.custody() {
        Ok(custody) if custody <= floor => return Ok(()),
        Ok(custody) => format!("its custody is {custody:?}, and {floor:?} is asked for"),
        Err(why) => why.to_owned(),
    };
    tracing::error!(key = %born.id, hsm = %born.hsm, why, "a new key is not used: the HSM does not keep it as it should");
    let text = "the HSM made a key that falls short of the custody asked for; it is not used, call the operator";
    Err(Error::new(Reason::CustodyTooWeak, text).with_detail(why))
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
