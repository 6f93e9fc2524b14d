//! A JWKS URL as an authorization server sees it: through DNS and TLS, with a verifier's limits, from where this process is.

use std::{
    collections::BTreeSet,
    fs,
    net::IpAddr,
    path::Path,
    time::{Duration, Instant},
};

use bytes::Bytes;
use hallmark_core::inspect::KeySet;
use reqwest::{Certificate, Client, Response, Url, redirect::Policy, retry};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

/// Fetches JWKS URLs.
#[derive(Clone, Debug)]
pub struct Verifier {
    http: Client,
}

/// What an HTTP server answered, whatever it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct HttpAnswer {
    pub status: u16,
    /// Names in lower case; values without control characters, for they end up on terminals.
    pub headers: Vec<(String, String)>,
    /// `None` where it was too long to be read.
    pub body: Option<Vec<u8>>,
}

/// How far a question goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The longest body.
    pub bytes: usize,
    /// How many redirects are followed, all within one scheme, host and port.
    pub redirects: usize,
    /// The `Accept` header.
    pub accept: &'static str,
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
    #[error("can't be fetched: {0}")]
    Failed(Unreached),
    /// Verifiers do not follow redirects, or should not.
    #[error("answers {0}, and verifiers do not follow redirects")]
    Redirected(Status),
    #[error("answers {0}")]
    Status(Status),
    #[error("is larger than {} bytes", MOST_BYTES)]
    TooLarge,
    #[error("is no JWK Set: {0}")]
    NotASet(serde_json::Error),
    #[error("is no URL: {0}")]
    NoUrl(String),
    #[error("the CA file `{0}` can't be used: {1}")]
    Ca(String, String),
    #[error("the CA file `{0}` can't be used: there is no certificate in it")]
    NoCa(String),
}

/// What kept an answer away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreached {
    /// In words, from the outermost cause to the innermost.
    pub why: String,
    /// The same without the URL, for where that is said already.
    pub without_url: String,
    /// Nothing came in time.
    pub timed_out: bool,
}

/// An HTTP status: its number, and what that means.
pub type Status = reqwest::StatusCode;

impl Verifier {
    /// Trusts what the system trusts; with `ca`, PEM, the authorities there and no others.
    pub fn new(ca: Option<&Path>) -> Result<Self, Unseen> {
        let mut http = Client::builder()
            .redirect(Policy::none())
            .retry(retry::never())
            // A proxy of ours is not the verifier's.
            .no_proxy()
            .connect_timeout(CONNECT)
            .timeout(WHOLE)
            .user_agent(concat!("hallmark/", env!("CARGO_PKG_VERSION")));
        if let Some(path) = ca {
            http = http.tls_certs_only(authorities(path)?);
        }
        Ok(Self { http: http.build().map_err(|error| Unseen::Failed(error.into()))? })
    }

    /// Asks once, past every cache of ours: there is none. No cookies and no credentials, for a verifier has none.
    pub async fn ask(&self, url: &str) -> Result<HttpAnswer, Unseen> {
        self.ask_within(url, VERIFIERS).await
    }

    /// The same, with other limits than a verifier's. Redirects to another scheme, host or port are never followed: the
    /// answer is the redirect then.
    pub async fn ask_within(&self, url: &str, limits: Limits) -> Result<HttpAnswer, Unseen> {
        let mut url = Url::parse(url).map_err(|error| Unseen::NoUrl(error.to_string()))?;
        for _ in 0..limits.redirects {
            let answer = self.get(&url, &limits).await?;
            match answer.redirected_to(&url) {
                Some(next) if next.origin() == url.origin() => url = next,
                _ => return Ok(answer),
            }
        }
        self.get(&url, &limits).await
    }

    /// Posts a JSON document, once. No redirect is followed: it would be another place than the one that was named.
    /// `bearer` is sent as access token.
    pub async fn post(
        &self,
        url: &str,
        document: &serde_json::Value,
        bearer: Option<&SecretString>,
        limits: Limits,
    ) -> Result<HttpAnswer, Unseen> {
        let url = Url::parse(url).map_err(|error| Unseen::NoUrl(error.to_string()))?;
        let mut question = self.http.post(url).header("accept", limits.accept).json(document);
        if let Some(bearer) = bearer {
            question = question.bearer_auth(bearer.expose_secret());
        }
        read(question, limits.bytes).await.map_err(|error| Unseen::Failed(error.into()))
    }

    async fn get(&self, url: &Url, limits: &Limits) -> Result<HttpAnswer, Unseen> {
        let question = self.http.get(url.clone()).header("accept", limits.accept);
        read(question, limits.bytes).await.map_err(|error| Unseen::Failed(error.into()))
    }

    /// The set at `url`.
    pub async fn fetch(&self, url: &str) -> Result<Seen, Unseen> {
        let began = Instant::now();
        let answer = self.ask(url).await?;
        match Status::from_u16(answer.status).unwrap_or_default() {
            Status::OK => {}
            status if status.is_redirection() => return Err(Unseen::Redirected(status)),
            status => return Err(Unseen::Status(status)),
        }
        let body = Bytes::from(answer.body.clone().ok_or(Unseen::TooLarge)?);
        let keys = serde_json::from_slice::<Set>(&body).map_err(Unseen::NotASet)?.keys;
        let mut findings = findings(url, &answer, &keys);
        findings.extend(known(&body));
        let age = answer.header("age").and_then(|age| age.trim().parse().ok());
        Ok(Seen {
            keys,
            body,
            etag: answer.header("etag").map(str::to_owned),
            max_age: answer.header("cache-control").and_then(max_age),
            age: age.map_or(Duration::ZERO, Duration::from_secs),
            took: began.elapsed(),
            findings,
        })
    }
}

impl HttpAnswer {
    /// Where it says that the answer is.
    fn redirected_to(&self, url: &Url) -> Option<Url> {
        let is_redirect = matches!(self.status, 301 | 302 | 303 | 307 | 308);
        self.header("location").filter(|_| is_redirect).and_then(|location| url.join(location).ok())
    }

    /// The first header of that name, in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(there, _)| there == name).map(|(_, value)| value.as_str())
    }
}

impl std::fmt::Display for Unreached {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.why)
    }
}

impl From<reqwest::Error> for Unreached {
    fn from(error: reqwest::Error) -> Self {
        let (why, timed_out) = (with_causes(&error), error.is_timeout());
        Self { why, without_url: with_causes(&error.without_url()), timed_out }
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

/// Whether others could read what is sent there: plain http to another machine.
pub fn is_exposed(url: &str) -> bool {
    let Ok(url) = Url::parse(url) else { return true };
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    let is_here = host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    url.scheme() != "https" && !is_here
}

/// Whether both are at one scheme, host and port.
pub fn same_origin(one: &str, other: &str) -> bool {
    matches!((Url::parse(one), Url::parse(other)), (Ok(one), Ok(other)) if one.origin() == other.origin())
}

/// Scheme, host and port of a URL.
pub fn origin(url: &str) -> Option<String> {
    Url::parse(url).ok().map(|url| url.origin().ascii_serialization())
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

/// Keys that are no secret.
fn known(document: &[u8]) -> Vec<String> {
    let set = KeySet::parse(document).unwrap_or_default();
    set.known().map(|origin| format!("everybody has the private half of a key in it: it is {origin}")).collect()
}

fn authorities(path: &Path) -> Result<Vec<Certificate>, Unseen> {
    let bad = |why: String| Unseen::Ca(path.display().to_string(), why);
    let pem = fs::read(path).map_err(|error| bad(error.to_string()))?;
    let bundle = Certificate::from_pem_bundle(&pem).map_err(|error| bad(with_causes(&error)))?;
    if bundle.is_empty() {
        return Err(Unseen::NoCa(path.display().to_string()));
    }
    Ok(bundle)
}

async fn read(question: reqwest::RequestBuilder, most_bytes: usize) -> Result<HttpAnswer, reqwest::Error> {
    let answer = question.send().await?;
    let status = answer.status().as_u16();
    let headers = answer.headers().iter().map(|(name, value)| {
        let value = String::from_utf8_lossy(value.as_bytes()).chars().filter(|char| !char.is_control()).collect();
        (name.as_str().to_owned(), value)
    });
    let headers = headers.collect();
    Ok(HttpAnswer { status, headers, body: body(answer, most_bytes).await? })
}

/// `None` where it is longer than `most_bytes`.
async fn body(mut answer: Response, most_bytes: usize) -> Result<Option<Vec<u8>>, reqwest::Error> {
    let mut body = Vec::new();
    while let Some(chunk) = answer.chunk().await? {
        if body.len() + chunk.len() > most_bytes {
            return Ok(None);
        }
        body.extend_from_slice(&chunk);
    }
    Ok(Some(body))
}

fn findings(url: &str, answer: &HttpAnswer, keys: &[SeenKey]) -> Vec<String> {
    let text = |name: &str| answer.header(name).unwrap_or_default();
    let mut found = Vec::new();
    if !url.starts_with("https://") {
        found.push("the URL is not https: most authorization servers refuse it".to_owned());
    }
    let content_type = text("content-type").split(';').next().unwrap_or_default().trim();
    if !content_type.eq_ignore_ascii_case("application/json") {
        found.push(format!("`Content-Type` is `{content_type}`: some verifiers take `application/json` only"));
    }
    if answer.header("content-encoding").is_some() {
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

/// `max-age` of a `Cache-Control` header; zero where nobody may keep it at all.
fn max_age(header: &str) -> Option<Duration> {
    let mut directives = header.split(',').map(str::trim);
    if directives.clone().any(|directive| directive == "no-store") {
        return Some(Duration::ZERO);
    }
    let seconds = directives.find_map(|directive| directive.strip_prefix("max-age="))?;
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
const VERIFIERS: Limits = Limits { bytes: MOST_BYTES, redirects: 0, accept: "application/json" };
const MOST_KEYS: usize = 50;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_verifiers_trip_over_is_found() {
        let key = SeenKey { kid: "a".to_owned(), ..SeenKey::default() };
        let answer = |headers: &[(&str, &str)]| HttpAnswer {
            status: 200,
            headers: headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
            body: None,
        };
        let good = answer(&[
            ("content-type", "application/json; charset=utf-8"),
            ("cache-control", "public, max-age=300, s-maxage=0"),
        ]);
        assert_eq!(findings("https://keys.example/a", &good, std::slice::from_ref(&key)), [] as [&str; 0]);
        let bad = answer(&[
            ("content-type", "application/jwk-set+json"),
            ("content-encoding", "gzip"),
            ("cache-control", "s-maxage=60"),
        ]);
        assert_eq!(findings("http://keys.example/a", &bad, &[key.clone(), key]).len(), 5);
    }

    #[test]
    fn a_key_from_a_tutorial_is_found() {
        let x = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo";
        let set = format!(r#"{{"keys":[{{"kty":"OKP","crv":"Ed25519","x":"{x}"}}]}}"#);
        assert_eq!(
            known(set.as_bytes()),
            ["everybody has the private half of a key in it: it is RFC 8037 appendix A.1"]
        );
    }

    #[test]
    fn max_age_is_its_own() {
        assert_eq!(max_age("public, max-age=17, s-maxage=0"), Some(Duration::from_secs(17)));
        assert_eq!(max_age("s-maxage=0"), None);
        assert_eq!(max_age("no-store"), Some(Duration::ZERO));
    }

    /// Answers one question with `answer`, as it is.
    async fn serving(answer: Vec<u8>) -> String {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/jwks.json", listener.local_addr().unwrap());
        tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 4096]).await;
            // Whoever has read enough goes away.
            let _ = stream.write_all(&answer).await;
        });
        url
    }

    #[test]
    fn plain_http_is_exposed_beyond_this_machine() {
        for exposed in ["http://as.example/register", "http://10.0.0.1/", "ftp://as.example", "nonsense"] {
            assert!(is_exposed(exposed), "{exposed}");
        }
        for safe in ["https://as.example/", "http://localhost:80/a", "http://127.0.0.1/", "http://[::1]:3000/"] {
            assert!(!is_exposed(safe), "{safe}");
        }
        assert!(same_origin("https://as.example/a", "https://as.example:443/b"));
        assert!(!same_origin("https://as.example/a", "http://as.example/a"));
    }

    #[tokio::test]
    async fn a_post_goes_to_the_place_that_was_named_and_no_other() {
        let url =
            serving(b"HTTP/1.1 307 X\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n".to_vec()).await;
        let limits = Limits { bytes: 10, redirects: 9, accept: "application/json" };
        let verifier = Verifier::new(None).unwrap();
        let answer = verifier.post(&url, &serde_json::json!({}), None, limits).await.unwrap();
        assert_eq!(answer.status, 307);
        let url = serving(b"HTTP/1.1 201 X\r\ncontent-length: 11\r\n\r\n0123456789a".to_vec()).await;
        let answer = verifier.post(&url, &serde_json::json!({}), None, limits).await.unwrap();
        assert_eq!((answer.status, answer.body), (201, None));
    }

    #[tokio::test]
    async fn what_no_verifier_takes_is_no_set() {
        let verifier = Verifier::new(None).unwrap();
        let url = serving(b"HTTP/1.1 302 Found\r\nlocation: /other\r\ncontent-length: 0\r\n\r\n".to_vec()).await;
        assert!(matches!(verifier.fetch(&url).await, Err(Unseen::Redirected(Status::FOUND))));
        let long = [b"HTTP/1.1 200 OK\r\n\r\n{\"keys\":[".to_vec(), vec![b' '; MOST_BYTES + 1]].concat();
        assert!(matches!(verifier.fetch(&serving(long).await).await, Err(Unseen::TooLarge)));
        let text = serving(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n[]".to_vec()).await;
        assert!(matches!(verifier.fetch(&text).await, Err(Unseen::NotASet(_))));
        assert!(matches!(verifier.fetch("keys.example").await, Err(Unseen::NoUrl(_))));
    }
}
