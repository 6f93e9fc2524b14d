//! The world's view of our own URLs.

use bytes::Bytes;

use super::build::StartError;
use crate::{
    service::rotation::{Look, PublicView},
    verifier::Verifier,
};

/// Fetches as an authorization server does.
pub(super) struct Outside(Verifier);

impl Outside {
    /// Trusts what the system trusts.
    pub(super) fn new() -> Result<Self, StartError> {
        let verifier = Verifier::new(None);
        Ok(Self(verifier.map_err(|error| StartError::new("can't look at public URLs", error))?))
    }
}

impl PublicView for Outside {
    fn fetch<'a>(&'a self, url: &'a str) -> Look<'a> {
        Box::pin(async move {
            let seen = self.0.fetch(url).await;
            seen.map(|seen| Bytes::clone(&seen.body)).map_err(|error| error.to_string())
        })
    }
}
