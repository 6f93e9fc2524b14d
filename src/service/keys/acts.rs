//! What takes an HSM: keys that the rules want made or destroyed.

use std::sync::Arc;

use hallmark_core::{
    client::Custody,
    error::{Error, Reason},
    key::{KeyId, KeyLine, KeyRecord, PublicPart},
    lifecycle::{self, Change, KeyPolicy, Step},
    ports::RecordUpdate,
};

use super::{Keys, OWN_NAME, birth::label_prefix, change::Author, store_error};
use crate::pool::{Pool, PoolKey};

impl Keys {
    /// Does what the rules want done on the HSM for `line` now. Nothing where somebody else makes keys of it.
    pub(in crate::service) async fn act(&self, line: &KeyLine) -> Result<(), Error> {
        let Some(_one) = self.births.try_lock(line) else { return Ok(()) };
        // What was wanted when this was queued may be done, or not wanted any more.
        let wanted = {
            let (reading, policies) =
                (self.context.keyring.keys().clone(), self.rules.policies(&self.context.registry));
            let (policy, records) =
                (policies.of(&line.client).into_owned(), self.rules.records(&reading, &line.client));
            let changes = lifecycle::sweep(&policy, &records, &self.rules.now(&self.context));
            let ours = changes.into_iter().filter(|change| line_of(change, &records).as_ref() == Some(line));
            let ours: Vec<_> = ours.collect();
            (policy, records.into_owned(), ours)
        };
        let (policy, records, changes) = wanted;
        let mut done = Ok(());
        let is_first = |change: &Change| matches!(change.step, Step::Generate { first: true, .. });
        if changes.iter().any(is_first) && !records.iter().any(|record| record.line().as_ref() == Some(line)) {
            done = self.check_unknown(line).await;
        }
        for change in &changes {
            if done.is_err() {
                break;
            }
            done = self.act_once(&policy, &records, change).await;
        }
        if !changes.is_empty() {
            self.reload().await?;
        }
        done
    }

    async fn act_once(&self, policy: &KeyPolicy, records: &[KeyRecord], change: &Change) -> Result<(), Error> {
        let find = |id: KeyId| records.iter().find(|record| record.id == id);
        match &change.step {
            Step::Generate { line, reserved, .. } => {
                let record = match reserved.and_then(find) {
                    Some(record) => record.clone(),
                    None => self.reserve(line).await?,
                };
                let spec = policy.line(line).map(|terms| terms.spec);
                let spec = spec.ok_or_else(|| Error::internal("a key for a line that is not configured"))?;
                let custody = self.context.registry.load().clients.get(&line.client).map(|client| client.custody);
                let custody = custody.ok_or_else(|| Error::internal("a key for a client that is not configured"))?;
                let author = Author { who: OWN_NAME, change: &record.id.to_string(), reason: &change.reason };
                self.generate(self.pool(&line.hsm)?, &record, spec, custody, &author).await.map(drop)
            }
            Step::Destroy { key } => {
                let record = find(*key).ok_or_else(|| Error::internal("a key without a record is to be destroyed"))?;
                let author = Author { who: OWN_NAME, change: &record.id.to_string(), reason: &change.reason };
                self.destroy_key(record, change, &author).await
            }
            Step::Move { .. } | Step::Pause { .. } => Ok(()),
        }
    }

    /// Destroys what the HSM has of a key that ended, then says so in its record.
    pub(super) async fn destroy_key(
        &self,
        record: &KeyRecord,
        change: &Change,
        author: &Author<'_>,
    ) -> Result<(), Error> {
        let pool = self.pool(&record.hsm)?;
        let next = lifecycle::apply(record, change, self.now())?;
        self.audited(author, "destroy", &record.id.to_string(), async {
            let destroyed = destroy_objects(pool, record).await;
            self.looks.outdate(&record.hsm);
            destroyed?;
            let update = RecordUpdate { from: record.state, record: next, chain: None };
            self.context.keyring.store().apply(&[], &[update]).await.map_err(store_error)
        })
        .await
    }

    /// Refuses where the HSM has objects that name the client, and no record says why: the store may be the wrong one.
    async fn check_unknown(&self, line: &KeyLine) -> Result<(), Error> {
        let prefix = label_prefix(Some(&line.client), line.alg);
        let objects = self.pool(&line.hsm)?.list().await?;
        match objects.iter().find(|object| object.label.starts_with(&prefix)) {
            None => Ok(()),
            Some(object) => {
                let text = "the HSM has an object that names this client, and there is no record of it; \
                    `hallmark keys adopt` takes it in, `hallmark keys create` makes new keys";
                Err(Error::new(Reason::AlreadyExists, text).with_detail(&object.label))
            }
        }
    }
}

/// The line on whose HSM `change` acts.
pub(in crate::service) fn line_of(change: &Change, records: &[KeyRecord]) -> Option<KeyLine> {
    match &change.step {
        Step::Generate { line, .. } => Some(line.clone()),
        Step::Destroy { key } => records.iter().find(|record| record.id == *key)?.line(),
        Step::Move { .. } | Step::Pause { .. } => None,
    }
}

/// There may be nothing: the record may never have got a key, or an attempt before was cut short.
async fn destroy_objects(pool: &Pool, record: &KeyRecord) -> Result<(), Error> {
    let objects = pool.list().await?;
    let Some(object) = objects.iter().find(|object| object.cka_id == record.cka_id) else { return Ok(()) };
    let listed = || object.public.clone().map(|key| PublicPart { kid: key.thumbprint(), key });
    let Some(public) = record.public.clone().or_else(listed).filter(|_| object.label == record.label) else {
        let text = format!("what the HSM has under the CKA_ID of key {} is not that key; look at it", record.id);
        return Err(Error::new(Reason::KeyAbsent, text));
    };
    let key = PoolKey::new(record, &public, Custody::Imported).map_err(Error::internal)?;
    pool.destroy(Arc::new(key)).await
}
