//! What can be seen from here: the JWKS URL, and what the authorization server's host says of itself.

use std::time::Duration;

use futures_util::future::join_all;
use hallmark_client::{Client, OAuthClient};
use hallmark_core::{
    diagnosis::{Contact, KeySet, Members, Outside, printable},
    discovery::{Discovery, Document, Kind},
    time::Timestamp,
};
use serde_json::Value;
use tokio::{net::lookup_host, time::timeout};

use super::{
    timestamp,
    unreached::{contact, proxy},
};
use crate::{
    cli::{Failure, connect::failure, output::now},
    verifier::{HttpAnswer, Limits, Obstacle, Unseen, Verifier},
};

/// What the authorization server's host says.
pub(super) struct Met {
    pub(super) contact: Contact,
    pub(super) discovery: Option<Discovery>,
    pub(super) server_time: Option<Timestamp>,
    pub(super) our_time: Timestamp,
}

/// The set as Hallmark publishes it, and as a verifier sees it.
pub(super) async fn key_set(hallmark: &Client, verifier: &Verifier, client: &OAuthClient) -> Result<KeySet, Failure> {
    let jwks = hallmark.jwks(&client.name).await.map_err(|error| failure(&error, &client.name))?;
    let ours = members(&jwks.document);
    let outside = match verifier.fetch(&jwks.url).await {
        Ok(seen) => {
            let mut doubts = seen.findings;
            // Where all is on plain http, it is for trying out.
            doubts.retain(|doubt| !doubt.contains("not https") || client.token_endpoint.starts_with("https://"));
            doubts.extend(private_address(&jwks.url, &client.token_endpoint).await);
            Outside::Keys { keys: members(&seen.body), doubts }
        }
        Err(error) => Outside::Nothing { what: printable(&error.to_string(), 500), next: next(&error, &client.name) },
    };
    Ok(KeySet { url: jwks.url, ours, outside })
}

/// Asks for the discovery documents that belong to the token endpoint. What they say of themselves is not followed to
/// other hosts; a `Date` comes with each answer, also with those that have no document.
pub(super) async fn meet(verifier: &Verifier, client: &OAuthClient) -> Met {
    let bases = bases(&client.token_endpoint, client.issuer.as_deref());
    let places =
        bases.iter().flat_map(|base| KINDS.map(|kind| kind.urls(base).into_iter().map(move |url| (kind, url))));
    let mut places: Vec<_> = places.flatten().collect();
    let mut asked = std::collections::BTreeSet::new();
    places.retain(|(_, url)| asked.insert(url.clone()));
    let answers = join_all(
        places.iter().map(|(kind, url)| async move { (*kind, verifier.ask_within(url, LIMITS).await, now()) }),
    )
    .await;
    let asked = answers.iter().map(|(_, answer, _)| answer.as_ref());
    let contact = contact(&client.token_endpoint, asked, proxy());
    let answers: Vec<_> = answers.into_iter().filter_map(|(kind, answer, at)| Some((kind, answer.ok()?, at))).collect();
    let time = answers.iter().find_map(|(_, answer, at)| Some((http_date(answer.header("date")?)?, timestamp(*at))));
    let documents: Vec<_> =
        answers.iter().filter_map(|(kind, answer, _)| Some((*kind, document(*kind, answer)?))).collect();
    Met {
        contact,
        discovery: (!documents.is_empty()).then(|| Discovery { url: client.token_endpoint.clone(), documents }),
        server_time: time.map(|(theirs, _)| theirs),
        our_time: time.map_or_else(|| timestamp(now()), |(_, ours)| ours),
    }
}

/// RFC 9110 §5.6.7.
pub(super) fn http_date(text: &str) -> Option<Timestamp> {
    httpdate::parse_http_date(text).ok().map(timestamp)
}

pub(super) fn unusable(error: Unseen) -> Failure {
    Failure::new("can't fetch URLs").caused_by(&error).hint("a CA file must be PEM: -----BEGIN CERTIFICATE-----")
}

/// Base URLs that the token endpoint may belong to, the longest first: it is somewhere below its issuer.
fn bases(token_endpoint: &str, issuer: Option<&str>) -> Vec<String> {
    let url = token_endpoint.split(['?', '#']).next().unwrap_or_default().trim_end_matches('/');
    let origin = url.match_indices('/').nth(2).map_or(url.len(), |(at, _)| at);
    let mut bases: Vec<_> =
        url.match_indices('/').filter(|(at, _)| *at >= origin).map(|(at, _)| url[..at].to_owned()).collect();
    // Paths below a site's root are few; where they are many, the middle ones are no issuers.
    bases.reverse();
    // Without a path the site's root is all there is to ask.
    bases.extend((bases.is_empty() && url.contains("://")).then(|| url.to_owned()));
    if bases.len() > MOST_BASES {
        bases.drain(MOST_BASES - 1..bases.len() - 1);
    }
    let issuer = issuer.map(|issuer| issuer.trim_end_matches('/')).filter(|issuer| issuer.starts_with(&url[..origin]));
    bases.extend(issuer.map(str::to_owned));
    bases.retain(|base| base.contains("://"));
    bases.dedup();
    bases
}

fn document(kind: Kind, answer: &HttpAnswer) -> Option<Document> {
    let read = kind.read(answer.body.as_ref().filter(|_| answer.status == 200)?).ok()?;
    (read.token_endpoint.is_some() || read.issuer.is_some()).then_some(read)
}

fn members(document: &[u8]) -> Vec<Members> {
    let set: Value = serde_json::from_slice(document).unwrap_or_default();
    let keys = set.get("keys").and_then(Value::as_array).cloned().unwrap_or_default();
    keys.into_iter().filter_map(|key| key.as_object().cloned()).collect()
}

/// Whether the JWKS URL leads into a network of one's own, and the token endpoint does not.
async fn private_address(jwks: &str, token_endpoint: &str) -> Option<String> {
    let jwks = private(jwks).await?;
    if private(token_endpoint).await.is_some() {
        return None;
    }
    Some(format!("the JWKS URL leads to `{jwks}`, an address that others can't reach"))
}

async fn private(url: &str) -> Option<std::net::IpAddr> {
    let (scheme, rest) = url.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next()?.rsplit('@').next()?;
    let has_port = authority.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
    let with_port = match (has_port, scheme) {
        (true, _) => authority.to_owned(),
        (false, "https") => format!("{authority}:443"),
        (false, _) => format!("{authority}:80"),
    };
    // A name server that says nothing keeps the system asking for half a minute, and it is a doubt alone.
    let found = timeout(LONGEST_LOOKUP, lookup_host(with_port)).await.ok()?.ok()?;
    let addresses: Vec<_> = found.map(|address| address.ip()).collect();
    addresses.iter().find(|address| !is_private(address)).map_or(addresses.first().copied(), |_| None)
}

fn is_private(address: &std::net::IpAddr) -> bool {
    match address.to_canonical() {
        std::net::IpAddr::V4(v4) => {
            let shared = v4.octets()[0] == 100 && v4.octets()[1] & 0xc0 == 64;
            v4.is_private() || v4.is_loopback() || v4.is_link_local() || v4.is_unspecified() || shared
        }
        std::net::IpAddr::V6(v6) => {
            v6.is_loopback() || v6.is_unspecified() || v6.is_unique_local() || v6.is_unicast_link_local()
        }
    }
}

/// What to do about it.
fn next(error: &Unseen, client: &str) -> String {
    match error {
        Unseen::Failed(unreached) => {
            let hint = match unreached.obstacle() {
                Obstacle::Tls => {
                    "its certificate must be for this name, valid, and from an authority that verifiers trust; --ca FILE for one of your own"
                }
                Obstacle::Name => "does the name exist outside of your network? try: getent hosts NAME",
                Obstacle::Time => {
                    "nothing answered in time: a firewall, or an address that is reachable from inside only"
                }
                Obstacle::Other => "is the JWKS listener, or the proxy before it, up? try: curl -v URL",
            };
            hint.to_owned()
        }
        Unseen::Redirected(_) => "serve the document at the URL itself: `public_url` of [jwks]".to_owned(),
        Unseen::Status(_) => format!(
            "a client without keys answers 404 (hallmark keys list --client {client}); else see what is there: curl -i URL"
        ),
        Unseen::TooLarge | Unseen::NotASet(_) => "something else is at that URL: see `public_url` of [jwks]".to_owned(),
        Unseen::NoUrl(_) | Unseen::Ca(..) | Unseen::NoCa(_) => "see `public_url` of [jwks]".to_owned(),
    }
}

const KINDS: [Kind; 3] = [Kind::Smart, Kind::OpenId, Kind::OAuth];
const MOST_BASES: usize = 4;
/// Of one name.
const LONGEST_LOOKUP: Duration = Duration::from_secs(5);
/// As `hallmark discover` reads them, but for the CapabilityStatement.
const LIMITS: Limits = Limits { bytes: 1024 * 1024, redirects: 3, accept: "application/json" };

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bases_are_above_the_token_endpoint() {
        assert_eq!(bases("https://as.example/token/", None), ["https://as.example"]);
        let long = bases("https://as.example/a/b/c/d/e/token?x=/y", Some("https://as.example/i/"));
        let expected = ["a/b/c/d/e", "a/b/c/d", "a/b/c", "", "i"]
            .map(|path| format!("https://as.example/{path}").trim_end_matches('/').to_owned());
        assert_eq!(long, expected);
        assert_eq!(bases("https://as.example", Some("https://other.example")), ["https://as.example"]);
    }

    #[tokio::test]
    async fn addresses_of_ones_own_are_told() {
        assert!(private_address("http://10.1.2.3/jwks", "https://192.0.2.1/token").await.is_some());
        assert!(private_address("http://127.0.0.1:8080/jwks", "http://[::1]:3000/token").await.is_none());
        assert!(private_address("https://192.0.2.2/jwks", "https://192.0.2.1/token").await.is_none());
    }
}
