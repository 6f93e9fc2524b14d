//! `hallmark doctor`: walks the whole chain, from the HSM to the authorization server, and names the first broken link.
//!
//! Changes nothing, and contacts Hallmark, the JWKS URLs and the authorization servers' hosts. It never tries a PIN.
//!
//! - [`local`]: configuration, module, token, PIN source, on the HSM's host;
//! - [`server`]: the server, who asks, its HSMs;
//! - [`client`]: one client, from its registration to an access token.

mod client;
mod link;
mod local;
mod server;

use std::path::PathBuf;

use self::{client::Live, link::Chain, server::Asked};
use super::{Prepared, args::DoctorArgs, diagnose::Authorities, output::Output, serve::environment};
use crate::config;

pub(super) fn prepare(args: DoctorArgs, connection: Option<PathBuf>, json: bool) -> Prepared {
    let loaded = args.config.as_ref().map(|path| (path.clone(), config::load(path)));
    let variables = match &loaded {
        Some((_, Ok(config))) => environment(config),
        _ => Vec::new(),
    };
    Prepared::new(async move || {
        let mut chain = Chain::default();
        if let Some((path, loaded)) = loaded {
            local::walk(&mut chain, &path, loaded).await;
        }
        walk(&mut chain, args, connection).await;
        let output = if json { Output::json(&chain.as_json()) } else { chain.as_text() };
        output.print()?;
        Ok(u8::from(chain.first_broken().is_some()))
    })
    .with_environment(variables)
}

/// From the server on.
async fn walk(chain: &mut Chain, args: DoctorArgs, connection: Option<PathBuf>) {
    let DoctorArgs { client, operator, ca, live, scope, .. } = args;
    let authorities = |hallmark: &Asked| Authorities {
        jwks: ca.clone(),
        token_endpoint: ca.clone().or_else(|| hallmark.token_endpoint_ca.clone()),
    };
    let Some(hallmark) = server::connect(chain, connection, operator) else { return };
    let Some(found) = server::walk(chain, &hallmark, client.as_deref()).await else { return };
    let live = live.then(|| Live { scope: scope.unwrap_or_default() });
    for client in found.clients {
        client::walk(chain, &hallmark, client, found.keys.as_ref(), &authorities(&hallmark), live.as_ref()).await;
    }
}
