//! The links of the server: whether it is there, who asks, its HSMs, whether it signs.

use std::{collections::BTreeSet, path::PathBuf, time::Duration};

use hallmark_client::{Client, Error, KeyList, OAuthClient, Remedy};
use tokio::time::{Instant, sleep};

use super::link::Chain;
use crate::cli::{
    Failure,
    connect::{self, As, failure},
};

/// The server, as a workload and as an operator sees it. With one connection both are the same.
pub(super) struct Asked {
    pub(super) workload: Client,
    pub(super) operator: Client,
    pub(super) token_endpoint_ca: Option<PathBuf>,
}

/// What the server says of its clients and keys.
pub(super) struct Found {
    pub(super) clients: Vec<OAuthClient>,
    /// `None` where nobody who asks is an operator.
    pub(super) keys: Option<KeyList>,
}

/// Reads the connection files. One may be missing; with none there is no server to ask, and that is a broken link.
pub(super) fn connect(chain: &mut Chain, named: Option<PathBuf>, operator: Option<PathBuf>) -> Option<Asked> {
    chain.begin("server");
    let operator = connect::connect(operator.or_else(|| named.clone()), As::Operator);
    let token_endpoint_ca = connect::token_endpoint_ca(named.clone(), As::Workload);
    let workload = connect::connect(named, As::Workload);
    let (workload, operator) = match (workload, operator) {
        (Ok(workload), Ok(operator)) => (workload, operator),
        (Ok(one), Err(_)) | (Err(_), Ok(one)) => (one.clone(), one),
        (Err(error), Err(_)) => {
            broken(chain, "connection", &error, USUAL_NEXT);
            return None;
        }
    };
    Some(Asked { workload, operator, token_endpoint_ca })
}

/// `None` where there is nothing more to look at.
pub(super) async fn walk(chain: &mut Chain, hallmark: &Asked, name: Option<&str>) -> Option<Found> {
    let signing = match is_signing(&hallmark.workload).await {
        Ok(signing) => signing,
        Err(error) => {
            broken(chain, "connection", &failure(&error, name.unwrap_or("CLIENT")), USUAL_NEXT);
            return None;
        }
    };
    chain.good("connection", "the server answers");
    let clients = clients(chain, hallmark, name).await?;
    let keys = keys(chain, hallmark, name).await;
    hsms(chain, &clients, keys.as_ref());
    if signing {
        chain.good("health", "the server signs");
    } else {
        let next = "its log, and /readyz/sign on its metrics listener, say which of HSM, audit log and store is away; with --config FILE \
                    on its host this command looks at the HSMs";
        chain.broken("health", "the server is up, and can't sign", next);
    }
    Some(Found { clients, keys })
}

/// A server that has just become able to sign says so a little later.
async fn is_signing(hallmark: &Client) -> Result<bool, Error> {
    let end = Instant::now() + HEALTH_LAG;
    loop {
        let signing = hallmark.is_signing().await?;
        if signing || Instant::now() >= end {
            return Ok(signing);
        }
        sleep(HEALTH_LAG / 10).await;
    }
}

/// The clients to look at: the one that was named, or all that an operator sees.
async fn clients(chain: &mut Chain, hallmark: &Asked, name: Option<&str>) -> Option<Vec<OAuthClient>> {
    let found = match name {
        Some(name) => one(hallmark, name).await.map(|client| vec![client]),
        None => hallmark.operator.oauth_clients().await,
    };
    match found {
        Ok(clients) => {
            chain.good("identity", "the server knows who asks");
            Some(clients)
        }
        Err(error) if name.is_none() && error.reason() == NOT_AN_OPERATOR => {
            let next = "name one: hallmark doctor CLIENT; or ask as an operator: --operator FILE";
            chain.broken("identity", "only operators see all clients, and this is a workload", next);
            None
        }
        Err(error) => {
            let next = if error.reason() == NOT_PERMITTED { name.map(not_yours) } else { None };
            let next = next.as_deref().unwrap_or(USUAL_NEXT);
            broken(chain, "identity", &failure(&error, name.unwrap_or("CLIENT")), next);
            None
        }
    }
}

async fn one(hallmark: &Asked, name: &str) -> Result<OAuthClient, Error> {
    match hallmark.workload.oauth_client(name).await {
        Ok(client) => Ok(client),
        Err(error) => hallmark.operator.oauth_client(name).await.map_err(|_| error),
    }
}

async fn keys(chain: &mut Chain, hallmark: &Asked, name: Option<&str>) -> Option<KeyList> {
    let mut listed = hallmark.operator.compare_keys_now(name).await;
    if listed.as_ref().is_err_and(|error| error.remedy() == Remedy::AskPermission) {
        // Who may only look is told of the last time.
        listed = hallmark.operator.compare_keys(name).await;
    }
    match listed {
        Ok(keys) => Some(keys),
        Err(error) if error.reason() == NOT_AN_OPERATOR => {
            chain.skipped("keys", "only operators see them: --operator FILE");
            None
        }
        Err(error) => {
            broken(chain, "keys", &failure(&error, name.unwrap_or("CLIENT")), USUAL_NEXT);
            None
        }
    }
}

/// The HSMs of these clients, as the server sees them.
fn hsms(chain: &mut Chain, clients: &[OAuthClient], keys: Option<&KeyList>) {
    let Some(keys) = keys else { return };
    let names: BTreeSet<_> = clients.iter().flat_map(|client| &client.hsms).collect();
    for name in names {
        let link = format!("HSM {name}");
        if keys.unanswered_hsms.contains(name) {
            let next = "is the token plugged in and its service up? on its host: hallmark doctor --config FILE";
            chain.broken(link, format!("the HSM `{name}` does not answer the server"), next);
        } else {
            chain.good(link, "it answers the server");
        }
    }
}

/// What to type where the server knows no such client for who asks. It does not tell which of both it is.
pub(super) fn not_yours(client: &str) -> String {
    format!(
        "is there such a client, and may this workload sign for it? an operator sees: hallmark keys list --client {client}; \
         then name it in `clients` of the [[workload]] in the server's configuration"
    )
}

/// What a failed command would have said; `usual_next` where it would have had no hint.
pub(super) fn broken(chain: &mut Chain, name: &str, failure: &Failure, usual_next: &str) {
    let rendered = failure.render(false);
    let text = rendered.trim_end().strip_prefix("error: ").unwrap_or(&rendered);
    chain.failed(name, text, usual_next);
}

/// Longer than the server takes from one look at its health to the next.
const HEALTH_LAG: Duration = Duration::from_secs(3);
const NOT_AN_OPERATOR: &str = "NOT_AN_OPERATOR";
const NOT_PERMITTED: &str = "CLIENT_NOT_PERMITTED";
/// For links of the server that have no advice of their own.
pub(super) const USUAL_NEXT: &str = "the server's log says more";
