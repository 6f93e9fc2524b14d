//! An operator asks for the first keys of a client's lines.

use hallmark_core::{
    client::Client,
    error::{Error, Reason},
    key::{Alg, ClientName, KeyId, KeyLine, KeyRecord, KeySpec},
    lifecycle,
    policy::{Act, Caller},
    ports::{ChangeState, KeyChange},
};
use uuid::Uuid;

use super::{
    Changed, Keys,
    change::{Author, Begun, check_request_id},
    no_such_client, store_error,
};

/// What an operator asks for.
#[derive(Clone, Debug)]
pub struct CreateRequest {
    pub request_id: String,
    pub reason: String,
    pub client: ClientName,
    /// Only the line with this algorithm.
    pub alg: Option<Alg>,
}

impl Keys {
    /// Makes the first keys of a client's lines: one active and one standby each.
    pub async fn create(&self, caller: &Caller, request: CreateRequest) -> Result<Changed, Error> {
        self.authorise(caller, Act::Create.role(false))?;
        check_request_id(&request.request_id)?;
        let registered = self.context.registry.load_full();
        let client = registered.clients.get(&request.client).ok_or_else(|| no_such_client(&request.client))?;
        let (lines, elsewhere) = self.lines_here(lines(client, request.alg)?)?;
        let who = caller.identity.to_string();
        // The change goes on where the caller hangs up: keys must not be left half made.
        let (this, client) = (self.clone(), client.clone());
        let work = async move { this.change(&client, lines, request, who).await };
        let mut changed = tokio::spawn(work).await.map_err(Error::internal)??;
        if !elsewhere.is_empty() {
            changed.advice.push(format!("keys on {elsewhere} are made by the replica that has it: ask that one too"));
        }
        Ok(changed)
    }

    /// Those of HSMs that are configured here, and the names of the others.
    fn lines_here(&self, lines: Vec<(KeyLine, KeySpec)>) -> Result<(Vec<(KeyLine, KeySpec)>, String), Error> {
        let is_here = |(line, _): &(KeyLine, KeySpec)| self.context.pools.contains_key(&line.hsm);
        let (here, others): (Vec<_>, Vec<_>) = lines.into_iter().partition(is_here);
        let mut others: Vec<_> = others.iter().map(|(line, _)| format!("HSM `{}`", line.hsm)).collect();
        others.sort_unstable();
        others.dedup();
        let others = others.join(" and ");
        if here.is_empty() {
            let text =
                format!("the keys of this client are on {others}, which this replica does not have; ask one that has");
            return Err(Error::new(Reason::InvalidRequest, text));
        }
        Ok((here, others))
    }

    pub(super) async fn change(
        &self,
        client: &Client,
        lines: Vec<(KeyLine, KeySpec)>,
        request: CreateRequest,
        who: String,
    ) -> Result<Changed, Error> {
        // All in one order, that of the client, so that no two wait for each other.
        let mut ours = Vec::with_capacity(lines.len());
        for (line, _) in &lines {
            ours.push(self.births.lock(line).await);
        }
        let algs: Vec<_> = lines.iter().map(|(line, _)| line.to_string()).collect();
        let change = KeyChange {
            id: Uuid::new_v4().to_string(),
            request_id: request.request_id,
            request: format!("create {}", algs.join(" ")),
            client: client.name.clone(),
            operator: who.clone(),
            reason: request.reason,
            state: ChangeState::Running,
            created: self.now(),
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
        // What an operator asks for comes as a whole, and a repeated request goes on.
        if let Some(error) = failed {
            return Err(error);
        }
        if changes.is_empty() {
            return Ok(());
        }
        self.apply(first.into_iter().chain(standbys).zip(changes).collect(), author).await?;
        self.reload().await
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
        let first = self.generate(pool, &first, spec, client.custody, author).await?;
        let standby = self.generate(pool, &standby, spec, client.custody, author).await?;
        Ok((first, standby))
    }

    /// Whether `keys` has one of `line` that lives.
    fn is_made(&self, client: &Client, line: &KeyLine, keys: &[KeyId]) -> bool {
        let all = self.context.keyring.keys();
        let mut ours = all.of_client(client).filter(|record| keys.contains(&record.id));
        ours.any(|record| record.alg == line.alg && record.hsm == line.hsm && record.times.published.is_some())
    }
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
