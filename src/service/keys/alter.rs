//! What an operator asks of keys that are there.

use std::time::Duration;

use hallmark_core::{
    error::{Error, Reason},
    key::{Alg, ClientName, KeyId, KeyRecord, KeyState, Kid},
    lifecycle::{self, Change, KeyPolicy, SWAP_QUIET, Step, gates::in_force_everywhere_at, operator},
    policy::Caller,
    ports::{ChangeState, KeyChange, RecordUpdate},
    profile::Binding,
};

use serde::{Deserialize, Serialize};

use super::{
    Alteration, Changed, Keys,
    approval::Wanted,
    change::{Author, Begun, check_request_id},
    no_such_key, store_error, way_back,
};

/// What an operator asks for.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct AlterRequest {
    pub request_id: String,
    pub reason: String,
    pub what: Alteration,
    /// Past gates that are shut; with the reason, in the audit log.
    pub force: bool,
}

impl Keys {
    /// Does what an operator asks for, once for each `request_id`.
    pub async fn alter(&self, caller: &Caller, request: AlterRequest) -> Result<Changed, Error> {
        self.authorise(caller, request.what.act().role(request.force))?;
        check_request_id(&request.request_id)?;
        let client = self.client_for(&request.what)?;
        let change =
            self.new_change(caller, client, &request.request_id, &request.reason, request.what.describe(request.force));
        if self.must_wait(request.what.act(), request.force) {
            return self.propose(caller, change, Wanted::Alter(request)).await;
        }
        let this = self.clone();
        // The change goes on where the caller hangs up.
        let work = async move {
            match &request.what {
                Alteration::Revoke { kid } => this.revoke(kid, change).await,
                _ => this.alter_once(&request, change).await,
            }
        };
        let changed = tokio::spawn(work).await.map_err(Error::internal)?;
        self.rules.wake.notify_one();
        changed
    }

    pub(super) fn client_for(&self, what: &Alteration) -> Result<ClientName, Error> {
        match what {
            Alteration::Rotate { client, .. } => Ok(client.clone()),
            what => self.client_of(what.kid()),
        }
    }

    fn client_of(&self, kid: Option<&Kid>) -> Result<ClientName, Error> {
        let kid = kid.map_or("", Kid::as_str);
        let keys = self.context.keyring.keys();
        let record = keys.by_kid(kid).ok_or_else(|| no_such_key(kid))?;
        record.client.clone().ok_or_else(|| {
            let text = format!("key `{kid}` is Hallmark's own on HSM `{}`; it has no client", record.hsm);
            Error::new(Reason::InvalidRequest, text)
        })
    }

    async fn alter_once(&self, request: &AlterRequest, change: KeyChange) -> Result<Changed, Error> {
        let who = change.operator.clone();
        match self.begin(change).await? {
            Begun::Go(change) => self.alter_begun(request, KeyChange { operator: who, ..change }, None).await,
            Begun::Done(changed) => Ok(self.explain(changed, &request.what)),
        }
    }

    /// Carries out what is on record as running. `agreed`: what a second operator approved, a sentence each.
    pub(super) async fn alter_begun(
        &self,
        request: &AlterRequest,
        change: KeyChange,
        agreed: Option<&[String]>,
    ) -> Result<Changed, Error> {
        let who = change.operator.clone();
        let mut keys = change.keys.clone();
        let author = Author { who: &who, change: &change.id, reason: &change.reason };
        let made = self.make_alteration(request, &change, &author, &mut keys, agreed).await;
        let state = if made.is_ok() { ChangeState::Applied } else { ChangeState::Failed };
        let ended = self.context.keyring.store().end_change(&change.id, state, &keys).await.map_err(store_error);
        let skipped = made?;
        ended?;
        let mut changed = self.explain(self.changed(KeyChange { state, keys, ..change }), &request.what);
        changed.advice.extend(skipped);
        Ok(changed)
    }

    /// Gives what was left out, and why.
    async fn make_alteration(
        &self,
        request: &AlterRequest,
        change: &KeyChange,
        author: &Author<'_>,
        keys: &mut Vec<KeyId>,
        agreed: Option<&[String]>,
    ) -> Result<Vec<String>, Error> {
        // Observed time does not move the generation, and gates go by it.
        self.reload().await?;
        let before: Vec<_> = self.records_of(&change.client).into_iter().filter(|r| keys.contains(&r.id)).collect();
        if !before.is_empty() && before.iter().all(|record| request.what.is_done(record)) {
            return Ok(Vec::new());
        }
        let (mut tries, certificates) = (0, self.certificates_of(&request.what));
        // What was cut short has done a part of it.
        let mut agreed = agreed.filter(|_| keys.is_empty());
        loop {
            let (changes, skipped) = self.ask(request, &change.client)?;
            if let Some(agreed) = agreed {
                self.check_agreed(agreed, &changes, &change.client)?;
            }
            match self.make(changes, &change.client, author, request, keys).await {
                // Somebody else moved these keys meanwhile: what is asked for may still make sense.
                Err(error) if error.reason == Reason::KeyChanged && tries < 3 => {
                    tries += 1;
                    self.reload().await?;
                    // Nobody can have meant a certificate that was not there yet.
                    if request.what.confirms() && self.certificates_of(&request.what) != certificates {
                        return Err(error);
                    }
                }
                Ok(Made::Paused) => {
                    // The switch behind the pause was agreed to with it.
                    agreed = None;
                    tokio::time::sleep(SWAP_QUIET + Duration::from_millis(50)).await;
                }
                Ok(Made::Done) => {
                    let shown = self.reload().await;
                    self.context.keyring.pauses().end(&change.client);
                    return shown.map(|()| skipped);
                }
                Err(error) => {
                    self.context.keyring.pauses().end(&change.client);
                    return Err(error);
                }
            }
        }
    }

    /// Of the key that it is about.
    fn certificates_of(&self, what: &Alteration) -> Option<Vec<Vec<u8>>> {
        let keys = self.context.keyring.keys();
        what.kid().and_then(|kid| keys.by_kid(kid.as_str())).map(|record| record.certificate_chain.clone())
    }

    /// What the rules say to it.
    pub(super) fn ask(&self, request: &AlterRequest, client: &ClientName) -> Result<(Vec<Change>, Vec<String>), Error> {
        let policies = self.rules.policies(&self.context.registry);
        let (policy, records) = (policies.of(client), self.records_of(client));
        let now = self.rules.now(&self.context);
        let wish = operator::Wish { reason: request.reason.clone(), force: request.force };
        let key = || {
            let kid = request.what.kid().map_or("", Kid::as_str);
            let has = |record: &&KeyRecord| record.public.as_ref().is_some_and(|public| public.kid.as_str() == kid);
            records.iter().find(has).ok_or_else(|| no_such_key(kid))
        };
        let changes = match &request.what {
            Alteration::Rotate { alg, .. } => return rotate_lines(&policy, &records, &now, *alg, &wish),
            Alteration::Activate { .. } => operator::activate(&policy, &records, &now, key()?.id, &wish)?,
            Alteration::Deactivate { .. } => operator::deactivate(&policy, &records, &now, key()?.id, &wish)?,
            Alteration::Revoke { .. } => operator::revoke(&policy, &records, &now, key()?.id, &wish)?,
            Alteration::Retire { .. } => operator::retire(&policy, &records, &now, key()?.id, &wish)?,
            Alteration::Destroy { .. } => operator::destroy(&policy, &records, &now, key()?.id, &wish)?,
            Alteration::ConfirmRegistered { .. } | Alteration::ConfirmRehearsed { .. } => {
                check_confirmable(&policy, key()?, &request.what)?;
                Vec::new()
            }
        };
        Ok((changes, Vec::new()))
    }

    async fn make(
        &self,
        changes: Vec<Change>,
        client: &ClientName,
        author: &Author<'_>,
        request: &AlterRequest,
        keys: &mut Vec<KeyId>,
    ) -> Result<Made, Error> {
        if changes.iter().any(|change| matches!(change.step, Step::Pause { .. })) {
            self.context.keyring.pauses().begin(client);
            return Ok(Made::Paused);
        }
        let records = self.records_of(client);
        let find = |key: KeyId| records.iter().find(|record| record.id == key).cloned();
        let kid = request.what.kid().and_then(|kid| {
            records.iter().find(|record| record.public.as_ref().is_some_and(|public| public.kid == *kid))
        });
        let touched = changes.iter().filter_map(|change| match change.step {
            Step::Move { key, .. } | Step::Destroy { key } => Some(key),
            _ => None,
        });
        for key in touched.chain(kid.map(|record| record.id)) {
            if !keys.contains(&key) {
                keys.push(key);
            }
        }
        // So that a repeated request knows what this one was about to do.
        let store = self.context.keyring.store();
        store.end_change(author.change, ChangeState::Running, keys).await.map_err(store_error)?;
        if let (true, Some(record)) = (changes.is_empty(), kid) {
            self.confirm(record, &request.what, author).await?;
            return Ok(Made::Done);
        }
        let mut moves = Vec::new();
        for change in changes {
            match change.step {
                Step::Move { key, .. } => moves.extend(find(key).map(|record| (record, change))),
                Step::Destroy { key } => {
                    let record = find(key).ok_or_else(|| Error::internal("a key without a record"))?;
                    let line = record.line().ok_or_else(|| Error::internal("a client's key without a line"))?;
                    let _one = self.births.lock(&line).await;
                    self.destroy_key(&record, &change, author).await?;
                }
                Step::Generate { .. } | Step::Pause { .. } => {}
            }
        }
        if !moves.is_empty() {
            self.apply(moves, author).await?;
        }
        Ok(Made::Done)
    }

    async fn confirm(&self, record: &KeyRecord, what: &Alteration, author: &Author<'_>) -> Result<(), Error> {
        let mut next = record.clone();
        match what {
            Alteration::ConfirmRegistered { .. } => next.times.registered = Some(self.now()),
            Alteration::ConfirmRehearsed { .. } => next.times.rehearsed = Some(self.now()),
            _ => return Ok(()),
        }
        let update = RecordUpdate { from: record.state, record: next, chain: None };
        self.audited(author, what.verb(), &record.id.to_string(), async {
            self.context.keyring.store().apply(&[], &[update]).await.map_err(store_error)
        })
        .await
    }

    pub(super) fn records_of(&self, client: &ClientName) -> Vec<KeyRecord> {
        self.rules.records(&self.context.keyring.keys(), client).into_owned()
    }

    /// Adds what verifiers will see, and what else there is to do.
    pub(super) fn explain(&self, mut changed: Changed, what: &Alteration) -> Changed {
        let policies = self.rules.policies(&self.context.registry);
        let policy = policies.of(&changed.change.client);
        let wall = self.now();
        changed.in_force_everywhere_at = match what {
            Alteration::Revoke { .. } | Alteration::Retire { .. } => {
                let compromised = changed.keys.iter().filter_map(|record| record.times.compromised).max();
                Some(in_force_everywhere_at(&policy, compromised.unwrap_or(wall)))
            }
            Alteration::Rotate { .. } | Alteration::Activate { .. } | Alteration::Deactivate { .. } => {
                Some(wall.plus(policy.store_lease))
            }
            _ => None,
        };
        if matches!(what, Alteration::Revoke { .. }) {
            changed.advice = revocation_advice(&policy, &changed.keys);
        }
        if matches!(what, Alteration::Rotate { .. }) {
            let (records, now) = (self.records_of(&changed.change.client), self.rules.now(&self.context));
            changed.advice = way_back::advice(&policy, &records, &now, &changed.keys);
        }
        changed
    }
}

/// How far it got.
enum Made {
    Done,
    /// Signing pauses; ask again when that has lasted long enough.
    Paused,
}

fn rotate_lines(
    policy: &KeyPolicy,
    records: &[KeyRecord],
    now: &lifecycle::Now,
    alg: Option<Alg>,
    wish: &operator::Wish,
) -> Result<(Vec<Change>, Vec<String>), Error> {
    let lines = policy.lines.iter().map(|terms| &terms.line).filter(|line| alg.is_none_or(|alg| line.alg == alg));
    let (up, down): (Vec<_>, Vec<_>) = lines.partition(|line| !now.unreachable.contains(&line.hsm));
    // With no HSM up, the refusal says what is in the way.
    let (asked, left_out) = if up.is_empty() { (down, Vec::new()) } else { (up, down) };
    if asked.is_empty() {
        let text = format!("client `{}` has no such key line in the configuration", policy.client);
        return Err(Error::new(Reason::AlgNotConfigured, text));
    }
    let mut changes = Vec::new();
    for line in asked {
        changes.extend(operator::rotate(policy, records, now, line, wish)?);
    }
    let left_out = left_out.iter().map(|line| format!("key line `{line}` was left as it is: its HSM does not answer"));
    Ok((changes, left_out.collect()))
}

fn check_confirmable(policy: &KeyPolicy, record: &KeyRecord, what: &Alteration) -> Result<(), Error> {
    if matches!(record.state, KeyState::Retired | KeyState::Compromised | KeyState::Destroyed) {
        return Err(Error::new(Reason::KeyState, format!("the key is {} and never signs again", record.state)));
    }
    if record.times.published.is_none() {
        return Err(Error::new(Reason::KeyState, "the key is not published yet; nobody can have seen it"));
    }
    if matches!(what, Alteration::ConfirmRegistered { .. }) && policy.certificate && record.certificate_chain.is_empty()
    {
        let text = "the key has no certificate, which is what would be registered; install one first: `hallmark csr`, \
            `hallmark cert install`";
        return Err(Error::new(Reason::KeyState, text));
    }
    if matches!(what, Alteration::ConfirmRegistered { .. }) && policy.binding == Binding::Jwks {
        let text = "this client's authorization server reads the JWKS: there is nothing to be registered by hand";
        return Err(Error::new(Reason::KeyState, text));
    }
    Ok(())
}

fn revocation_advice(policy: &KeyPolicy, keys: &[KeyRecord]) -> Vec<String> {
    let mut advice = vec![
        "removal is not revocation: a verifier that has the key cached may accept it for longer than the headers say; where the \
         private key may be in other hands, disable the client at its authorization server until then"
            .to_owned(),
    ];
    match policy.binding {
        Binding::Jwks => {}
        Binding::RegisteredCert => {
            advice.push(
                "this authorization server does not read the JWKS: remove the key's certificate there by hand".into(),
            );
        }
        Binding::CertChain => {
            advice.push("this authorization server trusts a chain: have the CA revoke the key's certificate".into());
        }
    }
    let line = keys.iter().find(|record| record.state == KeyState::Compromised).and_then(KeyRecord::line);
    let signs = |record: &&KeyRecord| record.state == KeyState::Active;
    match (line, keys.iter().find(signs)) {
        (Some(_), Some(next)) => {
            let kid = next.public.as_ref().map_or("?", |public| public.kid.as_str());
            advice.push(format!("key `{kid}` signs now, which verifiers knew already"));
        }
        (Some(line), None) => {
            advice.push(format!(
                "look at key line `{line}` with `hallmark keys list`: no other key took over with this change"
            ));
        }
        (None, _) => {}
    }
    advice
}
