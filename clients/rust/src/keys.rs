//! Keys, for operators; and the JWKS, for everyone who signs with them.

use std::{fmt, time::SystemTime};

use hallmark_proto::v1::{self, jwks_service_client::JwksServiceClient, key_service_client::KeyServiceClient};
use uuid::Uuid;

use crate::{Client, Error, client::timed};

/// A key's record. It holds nothing secret.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Key {
    pub id: String,
    /// `None` for a custody key.
    pub client: Option<String>,
    pub alg: String,
    pub hsm: String,
    /// `None` until the key is generated.
    pub kid: Option<String>,
    pub state: KeyState,
    /// `assertion` or `custody`.
    pub purpose: String,
    /// `generated`, `adopted` or `imported`.
    pub origin: String,
    pub cka_id: Vec<u8>,
    pub label: String,
    /// SubjectPublicKeyInfo, DER; empty until the key is generated.
    pub spki: Vec<u8>,
    pub created_at: Option<SystemTime>,
    pub published_at: Option<SystemTime>,
    pub activated_at: Option<SystemTime>,
    pub deactivated_at: Option<SystemTime>,
    pub retired_at: Option<SystemTime>,
    pub compromised_at: Option<SystemTime>,
    pub destroyed_at: Option<SystemTime>,
}

/// NIST SP 800-57 states, and `retired`: deactivated and no longer published.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum KeyState {
    PreActive,
    Active,
    Deactivated,
    Compromised,
    Retired,
    Destroyed,
    /// A state that this version of the client does not know.
    Unknown,
}

/// A change to keys that an operator asked for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyChange {
    pub id: String,
    pub state: ChangeState,
    /// The keys that it made or moved.
    pub keys: Vec<Key>,
}

/// How far a change has got.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ChangeState {
    Applied,
    AwaitingApproval,
    Running,
    /// A state that this version of the client does not know.
    Unknown,
}

/// A client's JWK Set as authorization servers see it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Jwks {
    /// The document, byte for byte; empty where the client has no key yet.
    pub document: Vec<u8>,
    /// Where authorization servers find it.
    pub url: String,
    /// The strong entity tag, with its quotes.
    pub etag: String,
}

impl Client {
    /// All keys of one client, or of all clients.
    pub async fn list_keys(&self, client: Option<&str>) -> Result<Vec<Key>, Error> {
        let mut keys = Vec::new();
        let mut page_token = String::new();
        loop {
            let client = client.unwrap_or_default().to_owned();
            let page = self.list_page(v1::ListKeysRequest { client, page_size: 0, page_token }).await?;
            keys.extend(page.keys.into_iter().map(Key::from));
            if page.next_page_token.is_empty() {
                return Ok(keys);
            }
            page_token = page.next_page_token;
        }
    }

    async fn list_page(&self, request: v1::ListKeysRequest) -> Result<v1::ListKeysResponse, Error> {
        let deadline = self.deadline(None);
        let list = |channel| {
            let request = timed(request.clone(), deadline);
            async move { KeyServiceClient::new(channel).list_keys(request).await }
        };
        self.call(deadline, list).await
    }

    /// One key by its `kid`.
    pub async fn get_key(&self, kid: &str) -> Result<Key, Error> {
        let deadline = self.deadline(None);
        let get = |channel| {
            let request = timed(v1::GetKeyRequest { kid: kid.to_owned() }, deadline);
            async move { KeyServiceClient::new(channel).get_key(request).await }
        };
        let answer: v1::GetKeyResponse = self.call(deadline, get).await?;
        answer.key.map(Key::from).ok_or_else(|| Error::unexpected("hallmark's answer lacks `key`"))
    }

    /// Makes the first keys of a client: of its key line with `alg`, or of all its lines. The audit log keeps `reason`.
    ///
    /// Key generation takes its time on an HSM: this waits up to a minute, and longer if [`crate::Options::timeout`] is.
    pub async fn create_keys(&self, client: &str, alg: Option<&str>, reason: &str) -> Result<KeyChange, Error> {
        let deadline = self.deadline(Some(self.inner.options.timeout.max(GENERATION)));
        let request = v1::CreateKeysRequest {
            // One for all tries: a repeated request makes nothing twice.
            request_id: Uuid::new_v4().to_string(),
            reason: reason.to_owned(),
            client: client.to_owned(),
            alg: alg.unwrap_or_default().to_owned(),
        };
        let create = |channel| {
            let request = timed(request.clone(), deadline);
            async move { KeyServiceClient::new(channel).create_keys(request).await }
        };
        let answer: v1::CreateKeysResponse = self.call(deadline, create).await?;
        answer.change.map(KeyChange::from).ok_or_else(|| Error::unexpected("hallmark's answer lacks `change`"))
    }

    /// The client's JWKS as its URL serves it.
    pub async fn jwks(&self, client: &str) -> Result<Jwks, Error> {
        let deadline = self.deadline(None);
        let get = |channel| {
            let request = timed(v1::GetJwksRequest { client: client.to_owned() }, deadline);
            async move { JwksServiceClient::new(channel).get_jwks(request).await }
        };
        let v1::GetJwksResponse { jwks_json, url, etag } = self.call(deadline, get).await?;
        Ok(Jwks { document: jwks_json, url, etag })
    }
}

/// A slow card takes half a minute for an RSA key.
const GENERATION: std::time::Duration = std::time::Duration::from_secs(60);

impl KeyState {
    /// The name in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::PreActive => "pre-active",
            Self::Active => "active",
            Self::Deactivated => "deactivated",
            Self::Compromised => "compromised",
            Self::Retired => "retired",
            Self::Destroyed => "destroyed",
            Self::Unknown => "unknown",
        }
    }
}

impl fmt::Display for KeyState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl ChangeState {
    /// The name in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Applied => "applied",
            Self::AwaitingApproval => "awaiting-approval",
            Self::Running => "running",
            Self::Unknown => "unknown",
        }
    }
}

impl From<v1::Key> for Key {
    fn from(key: v1::Key) -> Self {
        let state = match key.state() {
            v1::KeyState::PreActive => KeyState::PreActive,
            v1::KeyState::Active => KeyState::Active,
            v1::KeyState::Deactivated => KeyState::Deactivated,
            v1::KeyState::Compromised => KeyState::Compromised,
            v1::KeyState::Retired => KeyState::Retired,
            v1::KeyState::Destroyed => KeyState::Destroyed,
            v1::KeyState::Unspecified => KeyState::Unknown,
        };
        Self {
            id: key.id,
            client: Some(key.client).filter(|client| !client.is_empty()),
            alg: key.alg,
            hsm: key.hsm,
            kid: Some(key.kid).filter(|kid| !kid.is_empty()),
            state,
            purpose: key.purpose,
            origin: key.origin,
            cka_id: key.cka_id,
            label: key.label,
            spki: key.spki,
            created_at: key.created_at.and_then(|time| time.try_into().ok()),
            published_at: key.published_at.and_then(|time| time.try_into().ok()),
            activated_at: key.activated_at.and_then(|time| time.try_into().ok()),
            deactivated_at: key.deactivated_at.and_then(|time| time.try_into().ok()),
            retired_at: key.retired_at.and_then(|time| time.try_into().ok()),
            compromised_at: key.compromised_at.and_then(|time| time.try_into().ok()),
            destroyed_at: key.destroyed_at.and_then(|time| time.try_into().ok()),
        }
    }
}

impl From<v1::KeyChange> for KeyChange {
    fn from(change: v1::KeyChange) -> Self {
        let state = match change.state() {
            v1::key_change::State::Applied => ChangeState::Applied,
            v1::key_change::State::AwaitingApproval => ChangeState::AwaitingApproval,
            v1::key_change::State::Running => ChangeState::Running,
            v1::key_change::State::Unspecified => ChangeState::Unknown,
        };
        Self { id: change.id, state, keys: change.keys.into_iter().map(Key::from).collect() }
    }
}
