//! Where a registration goes, where nobody says so.

use hallmark_core::registration::Facts;

use super::{Failure, printable};
use crate::{
    cli::{discover, failure::USAGE},
    verifier::{Verifier, origin, same_origin},
};

/// The endpoint that was named; else that of a discovery document at the token endpoint's host which has this very token
/// endpoint, and a registration endpoint at the same host.
pub(super) async fn find(verifier: &Verifier, facts: &Facts, named: Option<&str>) -> Result<String, Failure> {
    if let Some(url) = named {
        let is_url = ["https://", "http://"].iter().any(|scheme| url.starts_with(scheme));
        if is_url && url.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Ok(url.to_owned());
        }
        return Err(Failure::new(format!("not a URL: `{}`", printable(url))).with_exit_code(USAGE));
    }
    let documents = match origin(&facts.token_endpoint) {
        Some(base) => discover::documents(verifier, &base).await,
        None => Vec::new(),
    };
    let found = documents.into_iter().find_map(|document| {
        let is_ours = document.token_endpoint.as_ref() == Some(&facts.token_endpoint);
        document.registration_endpoint.filter(|url| is_ours && same_origin(url, &facts.token_endpoint))
    });
    found.ok_or_else(|| {
        let text = "where to register is not known: no discovery document at the token endpoint's host says it";
        let hint = "name it: `--url URL`; `hallmark discover URL` of the server's base may have it";
        Failure::new(text).hint(hint).with_exit_code(USAGE)
    })
}
