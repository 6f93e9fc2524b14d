//! A JWKS URL as an authorization server sees it: through DNS and TLS, with a verifier's limits, from where this process is.

use std::{
    collections::BTreeSet,
    fs,
    path::Path,
    time::{Duration, Instant},
};

use bytes::{Bytes, BytesMut};
use reqwest::{Certificate, Client, Response, StatusCode, header::HeaderMap, redirect::Policy};
use serde::Deserialize;

/// Fetches JWKS URLs.
#[derive(Clone, Debug)]
pub struct Verifier {
    http: Client,
}

/// What a verifier would have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub keys: Vec<SeenKey>,
    pub body: Bytes,
    pub etag: Option<String>,
    /// For how long it may be kept, as far as its headers say.
    pub max_age: Option<Duration>,
    /// For how long a cache on the way has had it (`Age`).
    pub age: Duration,
    pub took: Duration,
    /// What some verifier would trip over.
    pub findings: Vec<String>,
}

/// One key of a set, as far as verifiers choose by it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct SeenKey {
    #[serde(default)]
    pub kid: String,
    #[serde(default)]
    pub alg: String,
    #[serde(default)]
    pub kty: String,
}

/// Why a verifier would have nothing.
#[derive(Debug, thiserror::Error)]
pub enum Unseen {
    #[error("can't be fetched: {}", with_causes(.0))]
    Failed(#[source] reqwest::Error),
    /// Verifiers do not follow redirects, or should not.
    #[error("answers {0}, and verifiers do not follow redirects")]
    Redirected(StatusCode),
    #[error("answers {0}")]
    Status(StatusCode),
    #[error("is larger than {} bytes", MOST_BYTES)]
    TooLarge,
    #[error("is no JWK Set: {0}")]
    NotASet(serde_json::Error),
    #[error("the CA file `{0}` can't be used: {1}")]
    Ca(String, String),
}

impl Verifier {
    /// Trusts what the system trusts, and the CAs in `ca`, PEM.
    pub fn new(ca: Option<&Path>) -> Result<Self, Unseen> {
        let mut http = Client::builder()
            .redirect(Policy::none())
            // A proxy of ours is not the verifier's.
            .no_proxy()
            .connect_timeout(CONNECT)
            .timeout(WHOLE)
            .user_agent(concat!("hallmark/", env!("CARGO_PKG_VERSION")));
        if let Some(path) = ca {
            let bad = |why: String| Unseen::Ca(path.display().to_string(), why);
            let pem = fs::read(path).map_err(|error| bad(error.to_string()))?;
            let bundle = Certificate::from_pem_bundle(&pem).map_err(|error| bad(error.to_string()))?;
            http = http.tls_certs_merge(bundle);
        }
        Ok(Self { http: http.build().map_err(Unseen::Failed)? })
    }

    /// Fetches `url`, past every cache of ours: there is none.
    pub async fn fetch(&self, url: &str) -> Result<Seen, Unseen> {
        let began = Instant::now();
        let answer = self.http.get(url).header("accept", "application/json").send().await.map_err(Unseen::Failed)?;
        match answer.status() {
            StatusCode::OK => {}
            status if status.is_redirection() => return Err(Unseen::Redirected(status)),
            status => return Err(Unseen::Status(status)),
        }
        let headers = answer.headers().clone();
        let body = read(answer).await?;
        let keys = serde_json::from_slice::<Set>(&body).map_err(Unseen::NotASet)?.keys;
        let findings = findings(url, &headers, &keys);
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let age = text("age").and_then(|age| age.trim().parse().ok()).map_or(Duration::ZERO, Duration::from_secs);
        let max_age = text("cache-control").and_then(max_age);
        Ok(Seen { keys, body, etag: text("etag").map(str::to_owned), max_age, age, took: began.elapsed(), findings })
    }
}

impl Seen {
    /// The `kid`s, in the order of the set.
    pub fn kids(&self) -> Vec<&str> {
        self.keys.iter().map(|key| key.kid.as_str()).collect()
    }

    /// Those of `kids` that a verifier would not find.
    pub fn lacks<'a>(&self, kids: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
        let seen: BTreeSet<_> = self.kids().into_iter().collect();
        kids.into_iter().filter(|kid| !seen.contains(kid)).collect()
    }
}

/// The `kid`s of a document, in its order.
pub fn kids_of(document: &[u8]) -> Result<Vec<String>, serde_json::Error> {
    let set: Set = serde_json::from_slice(document)?;
    Ok(set.keys.into_iter().map(|key| key.kid).collect())
}

#[derive(Deserialize)]
struct Set {
    keys: Vec<SeenKey>,
}

async fn read(mut answer: Response) -> Result<Bytes, Unseen> {
    let mut body = BytesMut::new();
    while let Some(chunk) = answer.chunk().await.map_err(Unseen::Failed)? {
        body.extend_from_slice(&chunk);
        if body.len() > MOST_BYTES {
            return Err(Unseen::TooLarge);
        }
    }
    Ok(body.freeze())
}

fn findings(url: &str, headers: &HeaderMap, keys: &[SeenKey]) -> Vec<String> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let mut found = Vec::new();
    if !url.starts_with("https://") {
        found.push("the URL is not https: most authorization servers refuse it".to_owned());
    }
    let content_type = text("content-type").split(';').next().unwrap_or_default().trim();
    if !content_type.eq_ignore_ascii_case("application/json") {
        found.push(format!("`Content-Type` is `{content_type}`: some verifiers take `application/json` only"));
    }
    if headers.contains_key("content-encoding") {
        found.push(format!("it is compressed (`{}`), and nobody asked for that", text("content-encoding")));
    }
    if max_age(text("cache-control")).is_none() {
        found.push("`Cache-Control` has no `max-age`: each verifier keeps it as long as it likes".to_owned());
    }
    let kids: BTreeSet<_> = keys.iter().map(|key| &key.kid).collect();
    if kids.len() < keys.len() {
        found.push("two keys have one `kid`".to_owned());
    }
    if keys.len() > MOST_KEYS {
        found.push(format!("it has {} keys, and some verifiers read {MOST_KEYS}", keys.len()));
    }
    found
}

/// `max-age` of a `Cache-Control` header.
fn max_age(header: &str) -> Option<Duration> {
    let seconds = header.split(',').find_map(|part| part.trim().strip_prefix("max-age="))?;
    seconds.trim_matches('"').parse().ok().map(Duration::from_secs)
}

fn with_causes(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut next = std::error::Error::source(error);
    while let Some(cause) = next {
        text += &format!(": {cause}");
        next = cause.source();
    }
    text
}

const CONNECT: Duration = Duration::from_secs(5);
const WHOLE: Duration = Duration::from_secs(10);
/// A set of 48 keys with certificates is well below it.
const MOST_BYTES: usize = 1024 * 1024;
const MOST_KEYS: usize = 50;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_verifiers_trip_over_is_found() {
        let key = SeenKey { kid: "a".to_owned(), ..SeenKey::default() };
        let mut headers = HeaderMap::new();
        headers.insert("content-type", "application/json; charset=utf-8".parse().unwrap());
        headers.insert("cache-control", "public, max-age=300, s-maxage=0".parse().unwrap());
        assert_eq!(findings("https://keys.example/a", &headers, std::slice::from_ref(&key)), [] as [&str; 0]);
        headers.insert("content-type", "application/jwk-set+json".parse().unwrap());
        headers.insert("content-encoding", "gzip".parse().unwrap());
        headers.insert("cache-control", "s-maxage=60".parse().unwrap());
        assert_eq!(findings("http://keys.example/a", &headers, &[key.clone(), key]).len(), 5);
    }

    #[test]
    fn max_age_is_its_own() {
        assert_eq!(max_age("public, max-age=17, s-maxage=0"), Some(Duration::from_secs(17)));
        assert_eq!(max_age("s-maxage=0"), None);
        assert_eq!(max_age("no-store"), None);
    }
}
