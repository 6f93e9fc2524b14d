//! What a row of either database says, and the record that it stands for.

use std::{fmt::Display, str::FromStr};

use hallmark_core::{
    key::{KeyId, KeyRecord, KeyTimes, PublicPart},
    ports::{KeyChange, StoreError},
    public_key::PublicKey,
    time::Timestamp,
};
use uuid::Uuid;

/// One row of `keys`. Times are milliseconds since the Unix epoch.
#[derive(Debug, sqlx::FromRow)]
pub(super) struct StoredKey {
    pub(super) id: String,
    client: Option<String>,
    alg: String,
    hsm: String,
    purpose: String,
    cka_id: Vec<u8>,
    label: String,
    kid: Option<String>,
    spki: Option<Vec<u8>>,
    state: String,
    served_for_ms: i64,
    created: i64,
    published: Option<i64>,
    activated: Option<i64>,
    deactivated: Option<i64>,
    retired: Option<i64>,
    compromised: Option<i64>,
    destroyed: Option<i64>,
    origin: String,
    kept_for_ms: i64,
    registered: Option<i64>,
    rehearsed: Option<i64>,
}

impl StoredKey {
    /// The record, with its certificates, leaf first, and its attestation.
    pub(super) fn into_record(
        self,
        certificate_chain: Vec<Vec<u8>>,
        attestation: Vec<Vec<u8>>,
    ) -> Result<KeyRecord, StoreError> {
        let id = self.id.clone();
        self.parse(certificate_chain, attestation).map_err(|cause| StoreError::Corrupt(format!("key `{id}`: {cause}")))
    }

    /// The error is what is wrong with the row.
    fn parse(self, certificate_chain: Vec<Vec<u8>>, attestation: Vec<Vec<u8>>) -> Result<KeyRecord, String> {
        let record = KeyRecord {
            id: key_id(&self.id)?,
            client: self.client.as_deref().map(name).transpose()?,
            alg: name(&self.alg)?,
            hsm: name(&self.hsm)?,
            purpose: name(&self.purpose)?,
            public: public_part(self.kid.as_deref(), self.spki.as_deref())?,
            state: name(&self.state)?,
            served_for_ms: u64::try_from(self.served_for_ms).map_err(text)?,
            kept_for_ms: u64::try_from(self.kept_for_ms).map_err(text)?,
            times: KeyTimes {
                created: Timestamp::from_millis(self.created),
                published: self.published.map(Timestamp::from_millis),
                activated: self.activated.map(Timestamp::from_millis),
                deactivated: self.deactivated.map(Timestamp::from_millis),
                retired: self.retired.map(Timestamp::from_millis),
                compromised: self.compromised.map(Timestamp::from_millis),
                destroyed: self.destroyed.map(Timestamp::from_millis),
                registered: self.registered.map(Timestamp::from_millis),
                rehearsed: self.rehearsed.map(Timestamp::from_millis),
            },
            origin: name(&self.origin)?,
            cka_id: self.cka_id,
            label: self.label,
            certificate_chain,
            attestation,
        };
        match &record.public {
            Some(public) if !public.key.suits(record.alg) => Err(format!("its public key can't do {}", record.alg)),
            _ => Ok(record),
        }
    }
}

/// One row of `key_changes`.
#[derive(Debug, sqlx::FromRow)]
pub(super) struct StoredChange {
    pub(super) id: String,
    request_id: String,
    request: String,
    client: String,
    operator: String,
    reason: String,
    state: String,
    created: i64,
    pub(super) instance: String,
}

impl StoredChange {
    /// The change, with the keys that it touched, in its order.
    pub(super) fn into_change(self, keys: &[String]) -> Result<KeyChange, StoreError> {
        let id = self.id.clone();
        self.parse(keys).map_err(|cause| StoreError::Corrupt(format!("change `{id}`: {cause}")))
    }

    fn parse(self, keys: &[String]) -> Result<KeyChange, String> {
        Ok(KeyChange {
            client: name(&self.client)?,
            state: name(&self.state)?,
            created: Timestamp::from_millis(self.created),
            keys: keys.iter().map(|key| key_id(key)).collect::<Result<_, _>>()?,
            id: self.id,
            request_id: self.request_id,
            request: self.request,
            operator: self.operator,
            reason: self.reason,
        })
    }
}

/// A text that some row has, as what it must be.
pub(super) fn parsed<T: FromStr<Err: Display>>(table: &str, stored: &str) -> Result<T, StoreError> {
    name(stored).map_err(|cause| StoreError::Corrupt(format!("{table}: {cause}")))
}

/// As both databases keep it. More than 292 million years: no gate asks for that.
pub(super) fn stored_millis(millis: u64) -> i64 {
    i64::try_from(millis).unwrap_or(i64::MAX)
}

fn public_part(kid: Option<&str>, spki: Option<&[u8]>) -> Result<Option<PublicPart>, String> {
    match (kid, spki) {
        (None, None) => Ok(None),
        (Some(kid), Some(spki)) => {
            let key = PublicKey::from_spki(spki).map_err(text)?;
            Ok(Some(PublicPart { kid: name(kid)?, key }))
        }
        _ => Err("it has a kid or a public key, but not both".into()),
    }
}

fn key_id(stored: &str) -> Result<KeyId, String> {
    Uuid::parse_str(stored).map(KeyId).map_err(text)
}

fn name<T: FromStr<Err: Display>>(stored: &str) -> Result<T, String> {
    stored.parse().map_err(text)
}

fn text(error: impl Display) -> String {
    error.to_string()
}
