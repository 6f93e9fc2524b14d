//! The world's view of our own URLs.

use std::sync::OnceLock;

use crate::{
    service::rotation::{Look, PublicView},
    verifier::{Unseen, Verifier},
};

/// Fetches as an authorization server does, with the authorities that the system trusts. Those are read when they are
/// first needed: a server without static hosts starts without any.
#[derive(Default)]
pub(super) struct Outside(OnceLock<Verifier>);

impl Outside {
    fn verifier(&self) -> Result<&Verifier, Unseen> {
        match self.0.get() {
            Some(verifier) => Ok(verifier),
            None => {
                let verifier = Verifier::new(None)?;
                Ok(self.0.get_or_init(|| verifier))
            }
        }
    }
}

impl PublicView for Outside {
    fn fetch<'a>(&'a self, url: &'a str) -> Look<'a> {
        Box::pin(async move {
            let verifier = self.verifier().map_err(|error| error.to_string())?;
            let seen = verifier.fetch(url).await;
            seen.map(|seen| seen.body).map_err(|error| error.to_string())
        })
    }
}
