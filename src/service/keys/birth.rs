//! How a key comes to be: its record is reserved, the pair is made on the HSM, and what the HSM says of it is looked at.

use std::sync::Arc;

use hallmark_core::{
    client::{Client, Custody},
    error::{Error, Reason},
    evidence::document::{Judged, judge},
    key::{Alg, ClientName, HsmName, KeyId, KeyLine, KeyRecord, KeySpec, PublicPart},
    lifecycle::{self, Bootstrap},
    ports::{HsmObject, RecordUpdate},
    public_key::PublicKey,
};
use uuid::Uuid;

use super::{Keys, change::Author, store_error};
use crate::pool::{Pool, PoolKey};

impl Keys {
    /// Two records without keys, written before the keys are made.
    #[expect(clippy::unwrap_used, reason = "`Unwrap safety` below")]
    pub(super) async fn reserve_line(&self, client: &Client, line: &KeyLine) -> Result<(KeyRecord, KeyRecord), Error> {
        let keys = self.context.keyring.keys().clone();
        let records: Vec<_> = keys.of_client(client).cloned().collect();
        let mut reserved = match lifecycle::bootstrap(line, &records)? {
            Bootstrap::Start => Vec::new(),
            Bootstrap::Resume(ids) => records.into_iter().filter(|record| ids.contains(&record.id)).collect(),
        };
        while reserved.len() < 2 {
            reserved.push(self.reserve(line).await?);
        }
        // Unwrap safety: filled up to two right above.
        let standby = reserved.pop().unwrap();
        Ok((reserved.pop().unwrap(), standby))
    }

    /// A record of `line` without a key, with the names that the objects of its key will have.
    pub(super) async fn reserve(&self, line: &KeyLine) -> Result<KeyRecord, Error> {
        self.store_reserved(KeyRecord::of_line(KeyId(Uuid::new_v4()), line, self.now())).await
    }

    /// The same for a custody key.
    pub(super) async fn reserve_custody(&self, hsm: &HsmName, alg: Alg) -> Result<KeyRecord, Error> {
        self.store_reserved(KeyRecord::of_custody(KeyId(Uuid::new_v4()), alg, hsm.clone(), self.now())).await
    }

    async fn store_reserved(&self, blank: KeyRecord) -> Result<KeyRecord, Error> {
        self.check_makes_keys(&blank.hsm)?;
        let Names { cka_id, label } = Names::random(blank.client.as_ref(), blank.alg);
        let record = KeyRecord { cka_id, label, ..blank };
        self.context.keyring.store().apply(std::slice::from_ref(&record), &[]).await.map_err(store_error)?;
        Ok(record)
    }

    /// Makes the key of a reserved record, or takes the one that an attempt cut short has left.
    pub(super) async fn generate(
        &self,
        pool: &Pool,
        record: &KeyRecord,
        spec: KeySpec,
        custody: Custody,
        author: &Author<'_>,
    ) -> Result<KeyRecord, Error> {
        if record.public.is_some() {
            return Ok(record.clone());
        }
        self.check_makes_keys(&record.hsm)?;
        let subject = record.id.to_string();
        self.audited(author, "generate", &subject, async {
            let (record, key) = match left_behind(&pool.list().await?, record) {
                LeftBehind::Pair(key) => (record.clone(), Some(key)),
                LeftBehind::Nothing => (record.clone(), None),
                LeftBehind::Part => (self.reserve_anew(record).await?, None),
            };
            let key = match key {
                Some(key) => key,
                None => {
                    let made = pool.generate(record.cka_id.clone(), record.label.clone(), spec).await;
                    // Whatever came of it: a try that failed may have left something, too.
                    self.looks.outdate(&record.hsm);
                    made?
                }
            };
            let public = PublicPart { kid: key.thumbprint(), key };
            let born = KeyRecord { public: Some(public), ..record };
            // Before the record says that there is a key: what can leave the HSM is never published.
            let attestation = self.check_custody(pool, &born, custody).await?;
            let born = KeyRecord { attestation, ..born };
            let update = RecordUpdate { from: born.state, record: born.clone(), chain: None };
            self.context.keyring.store().apply(&[], &[update]).await.map_err(store_error)?;
            Ok(born)
        })
        .await
    }

    /// Where the custody key is not Hallmark's to make, no other is: it would only be refused there, again and again.
    fn check_makes_keys(&self, hsm: &HsmName) -> Result<(), Error> {
        if self.context.registry.load().custody_key(hsm).is_none() {
            return Ok(());
        }
        let text = format!(
            "Hallmark makes no keys on HSM `{hsm}`, for its section has `custody_key`; make one with the HSM's own tool, and \
             `hallmark keys adopt` takes it in"
        );
        Err(Error::new(Reason::HsmRefused, text))
    }

    /// Looks at what the HSM says of a new key, before anyone relies on it: a module may make keys that can leave it. Gives
    /// the attestation, if it holds.
    async fn check_custody(&self, pool: &Pool, born: &KeyRecord, floor: Custody) -> Result<Vec<Vec<u8>>, Error> {
        let (custody, why, attestation) = self.judged(pool, born).await?;
        if custody.is_some_and(|custody| custody <= floor) {
            return Ok(attestation);
        }
        let why = why.unwrap_or_else(|| format!("{} is asked for", floor.as_str()));
        tracing::error!(key = %born.id, hsm = %born.hsm, why, "a new key is not used: the HSM does not keep it as it should");
        let text = "the HSM made a key that falls short of the custody asked for; it is not used, call the operator";
        Err(Error::new(Reason::CustodyTooWeak, text).with_detail(why))
    }

    /// What the HSM shows of a key: its custody, why it is no better, and the attestation, if it holds.
    pub(super) async fn judged(&self, pool: &Pool, record: &KeyRecord) -> Result<Shown, Error> {
        let public = record.public.as_ref().ok_or_else(|| Error::internal("a key without its public part"))?;
        let key = PoolKey::new(record, public, Custody::Imported).map_err(Error::internal)?;
        let evidence = pool.evidence(Arc::new(key)).await?;
        let roots = self.context.registry.load().roots.clone();
        let Judged { custody, shortfall } = judge(&evidence, &public.key, &roots, record.times.created);
        let attested = custody == Some(Custody::Attested);
        Ok((custody, shortfall, if attested { evidence.attestation } else { Vec::new() }))
    }

    /// Another `CKA_ID` for a record that has no key yet. What was in its way stays, and is reported as an object that no
    /// record knows: nothing is deleted by itself.
    async fn reserve_anew(&self, record: &KeyRecord) -> Result<KeyRecord, Error> {
        let Names { cka_id, label } = Names::random(record.client.as_ref(), record.alg);
        tracing::warn!(key = %record.id, hsm = %record.hsm, left = record.label, "making the key under another CKA_ID: the HSM \
            has part of a pair with its own, as a process leaves that is killed meanwhile");
        let anew = KeyRecord { cka_id, label, ..record.clone() };
        let update = RecordUpdate { from: record.state, record: anew.clone(), chain: None };
        self.context.keyring.store().apply(&[], &[update]).await.map_err(store_error)?;
        Ok(anew)
    }
}

/// Custody (`None`: not even `imported`), why it is no better, and the attestation if it holds.
type Shown = (Option<Custody>, Option<String>, Vec<Vec<u8>>);

/// What the objects of a new pair are called.
struct Names {
    cka_id: Vec<u8>,
    label: String,
}

impl Names {
    fn random(client: Option<&ClientName>, alg: Alg) -> Self {
        let end = Uuid::new_v4().simple().to_string();
        Self {
            cka_id: Uuid::new_v4().as_bytes().to_vec(),
            label: format!("{}{}", label_prefix(client, alg), &end[..8]),
        }
    }
}

/// What an attempt that was cut short has left for a record.
enum LeftBehind {
    Nothing,
    /// A complete pair, and its public key.
    Pair(PublicKey),
    /// Half a pair, or something else under its `CKA_ID`.
    Part,
}

/// `CKA_LABEL` up to a random end: says to a person at the token whose key it is.
pub(super) fn label_prefix(client: Option<&ClientName>, alg: Alg) -> String {
    match client {
        Some(client) => format!("hallmark:{client}:{alg}:"),
        None => format!("hallmark-custody:{alg}:"),
    }
}

fn left_behind(objects: &[HsmObject], record: &KeyRecord) -> LeftBehind {
    let Some(object) = objects.iter().find(|object| object.cka_id == record.cka_id) else { return LeftBehind::Nothing };
    match (&object.public, object.has_private) {
        (Some(key), true) if object.label == record.label && key.suits(record.alg) => LeftBehind::Pair(key.clone()),
        _ => LeftBehind::Part,
    }
}
