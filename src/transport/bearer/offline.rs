//! The same way from a token to an identity, with key sets that were read before, and nobody to wait for; for tests and
//! fuzzing.

use std::{path::Path, sync::Arc};

use hallmark_core::{error::Error, policy::Caller, ports::Clock};
use http::{HeaderMap, HeaderValue, header::AUTHORIZATION};

use super::{Bearers, FetchKeys, Fetched, Issuer, IssuerSpec, invalid, keys::Keys};

/// Issuers with key sets that never change.
#[derive(Debug)]
pub struct Offline(Bearers);

impl Offline {
    /// Each with its JWK Set (RFC 7517 §5).
    ///
    /// # Errors
    /// Says why a set is none.
    pub fn new(issuers: Vec<(IssuerSpec, &[u8])>, clock: Arc<dyn Clock>) -> Result<Self, String> {
        let issuer = |(spec, set): (IssuerSpec, &[u8])| {
            Ok::<_, String>(Issuer { keys: Keys::given(spec.keys.clone(), Arc::new(Nobody), set)?, spec })
        };
        let issuers = issuers.into_iter().map(issuer).collect::<Result<_, _>>()?;
        Ok(Self(Bearers { issuers, clock }))
    }

    /// As [`Bearers::identify`], of what stands in the one `authorization` header.
    ///
    /// # Errors
    /// `TokenInvalid` and `TokenExpired`.
    pub fn identify(&self, authorization: &[u8]) -> Result<Caller, Error> {
        // As HTTP has it: what is no value of a header comes to nobody.
        let value = HeaderValue::from_bytes(authorization).map_err(|_| invalid("is no value of a header"))?;
        let headers = HeaderMap::from_iter([(AUTHORIZATION, value)]);
        let token = self.0.claimed(&headers)?;
        token.issuer.keys.verify_at_once(token.text, token.alg, token.parts.kid.as_deref())?;
        token.caller(self.0.clock.now())
    }
}

struct Nobody;

impl FetchKeys for Nobody {
    fn fetch<'a>(&'a self, _: &'a str, _: Option<&'a Path>) -> Fetched<'a> {
        Box::pin(async { Err("nothing is fetched here".to_owned()) })
    }
}
