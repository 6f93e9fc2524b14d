//! From a bearer token to an identity: JWTs of configured issuers, for callers without a certificate.
//!
//! [`Bearers::identify`] verifies; [`keys`] has each issuer's key set and follows its rotation; [`claims`] says what a
//! token must say. A token is never logged and never part of an error.

mod claims;
mod keys;
mod offline;
mod service;

use std::{collections::BTreeMap, sync::Arc};

use hallmark_core::{
    error::{Error, Reason},
    key::Alg,
    policy::{Caller, Credential, Roles},
    ports::Clock,
    time::Timestamp,
};
use http::{HeaderMap, header::AUTHORIZATION};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

pub(in crate::transport) use self::service::Bearer;
use self::{claims::decoded, keys::Keys};
pub use self::{
    keys::{FetchKeys, Fetched, KeySource},
    offline::Offline,
    service::Bearing,
};

/// One `[[issuer]]` of the configuration.
#[derive(Clone, Debug)]
pub struct IssuerSpec {
    /// `iss`, byte for byte; `None` only for [`Naming::Spiffe`].
    pub issuer: Option<String>,
    pub naming: Naming,
    /// What `aud` must have.
    pub audience: String,
    /// Of signatures. Never a symmetric one.
    pub algorithms: Vec<Alg>,
    pub keys: KeySource,
    /// What those that it vouches for may be.
    pub roles: Roles,
    /// `sub` must be one of these, or begin with one that ends in `*`. Empty: whatever.
    pub subjects: Vec<String>,
    /// Claims that must be there, by path (`a/b`), with their values.
    pub require: BTreeMap<String, String>,
}

/// What a token's bearer is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Naming {
    /// `jwt:ISSUER#SUB`
    Subject,
    /// The SPIFFE ID that `sub` is, of this trust domain (JWT-SVID §3.1).
    Spiffe { trust_domain: String },
}

/// All issuers, with their keys.
pub struct Bearers {
    issuers: Vec<Issuer>,
    clock: Arc<dyn Clock>,
}

struct Issuer {
    spec: IssuerSpec,
    keys: Keys,
}

impl std::fmt::Debug for Bearers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Bearers")
    }
}

impl Bearers {
    /// Reads no key yet: see [`Self::follow_keys`].
    pub fn new(specs: Vec<IssuerSpec>, fetch: Arc<dyn FetchKeys>, clock: Arc<dyn Clock>) -> Self {
        let issuer = |spec: IssuerSpec| Issuer { keys: Keys::new(spec.keys.clone(), fetch.clone()), spec };
        Self { issuers: specs.into_iter().map(issuer).collect(), clock }
    }

    /// Reads all key sets, and reads them again from time to time, until `end`.
    pub async fn follow_keys(self: Arc<Self>, end: CancellationToken) {
        let each = self.issuers.iter().map(|issuer| issuer.keys.follow(&end));
        futures_util::future::join_all(each).await;
    }

    /// Who bears the one token in these headers. `TokenInvalid` where it counts for nothing here, `TokenExpired` where its
    /// time is over.
    pub async fn identify(&self, headers: &HeaderMap) -> Result<Caller, Error> {
        let token = self.claimed(headers)?;
        token.issuer.keys.verify(token.text, token.alg, token.parts.kid.as_deref()).await?;
        token.caller(self.clock.now())
    }

    /// The token, and the issuer that it says it is of.
    fn claimed<'a>(&'a self, headers: &'a HeaderMap) -> Result<Claimed<'a>, Error> {
        let text = token(headers)?;
        let parts = decoded(text)?;
        let issuer = self.issuers.iter().find(|issuer| issuer.spec.is_of(&parts.claims));
        let issuer = issuer.ok_or_else(|| invalid("is of an issuer that no [[issuer]] knows"))?;
        let alg = parts.alg.filter(|alg| issuer.spec.algorithms.contains(alg));
        let alg = alg.ok_or_else(|| invalid("is signed with an algorithm that its [[issuer]] does not list"))?;
        Ok(Claimed { issuer, text, alg, parts })
    }
}

/// A token, before anybody has looked at its signature.
struct Claimed<'a> {
    issuer: &'a Issuer,
    text: &'a str,
    alg: Alg,
    parts: Parts,
}

impl Claimed<'_> {
    /// Only once its signature was found good does the token say anything.
    fn caller(&self, now: Timestamp) -> Result<Caller, Error> {
        let (identity, end) = self.issuer.spec.check(&self.parts.claims, now)?;
        let roles = self.issuer.spec.roles;
        Ok(Caller { identity, roles, not_after: Some(end), credential: Credential::Token })
    }
}

/// The token of the one `authorization` header (RFC 6750 §2.1).
fn token(headers: &HeaderMap) -> Result<&str, Error> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else {
        return Err(invalid("must come in one `authorization` header"));
    };
    let text = value.to_str().map_err(|_| invalid("has characters that no token has"))?;
    let (scheme, token) = text.split_once(' ').unwrap_or((text, ""));
    if !scheme.eq_ignore_ascii_case("bearer") {
        return Err(invalid("must come as `Bearer TOKEN`"));
    }
    if token.len() > MAX_TOKEN {
        return Err(invalid("is longer than 8 KiB"));
    }
    Ok(token)
}

/// `what` says nothing of the token's content.
fn invalid(what: &str) -> Error {
    let text = format!("the bearer token {what}\nhint: an operator can compare it with the [[issuer]] sections");
    Error::new(Reason::TokenInvalid, text)
}

/// A token of Kubernetes has about 1 KiB.
const MAX_TOKEN: usize = 8 * 1024;

/// What a token says, before anybody has looked whether it may.
struct Parts {
    /// `None` for `none`, and whatever else is no signature with a public key.
    alg: Option<Alg>,
    kid: Option<String>,
    claims: serde_json::Map<String, Value>,
}

#[cfg(test)]
mod tests;
