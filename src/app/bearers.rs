//! Issuers of bearer tokens: from the configuration to what the gRPC front asks.

use std::{path::Path, sync::Arc};

use hallmark_core::ports::Clock;

use crate::{
    config::{self, JwksSource},
    transport::bearer::{Bearers, FetchKeys, Fetched, IssuerSpec, KeySource, Naming},
    verifier::Verifier,
};

/// `None` where no token counts.
pub(super) fn bearers(issuers: &[config::Issuer], clock: Arc<dyn Clock>) -> Option<Arc<Bearers>> {
    let specs: Vec<_> = issuers.iter().map(spec).collect();
    (!specs.is_empty()).then(|| Arc::new(Bearers::new(specs, Arc::new(ByHttp), clock)))
}

fn spec(issuer: &config::Issuer) -> IssuerSpec {
    let naming = match &issuer.trust_domain {
        Some(trust_domain) => Naming::Spiffe { trust_domain: trust_domain.clone() },
        None => Naming::Subject,
    };
    IssuerSpec {
        issuer: issuer.issuer.clone(),
        naming,
        audience: issuer.audience.clone(),
        algorithms: issuer.algorithms.clone(),
        keys: match &issuer.jwks {
            JwksSource::File(path) => KeySource::File(path.clone()),
            JwksSource::Url { url, ca } => KeySource::Url { url: url.clone(), ca: ca.clone() },
        },
        roles: issuer.roles,
        subjects: issuer.subjects.clone(),
        require: issuer.require.clone(),
    }
}

/// With a verifier's limits: no redirect, no proxy, a bounded body.
struct ByHttp;

impl FetchKeys for ByHttp {
    fn fetch<'a>(&'a self, url: &'a str, ca: Option<&'a Path>) -> Fetched<'a> {
        Box::pin(async move {
            let verifier = Verifier::new(ca).map_err(|error| error.to_string())?;
            let answer = verifier.ask(url).await.map_err(|error| error.to_string())?;
            match (answer.status, answer.body) {
                (200, Some(body)) => Ok(body),
                (200, None) => Err("the answer is too long".to_owned()),
                (status, _) => Err(format!("the answer has status {status}")),
            }
        })
    }
}
