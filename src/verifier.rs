//! The one HTTP client of the commands, and of the server where it looks at itself and at its clients' authorization
//! servers from outside: through DNS and TLS, with a verifier's limits, from where this process is.

mod answer;
mod place;
mod seen;

use std::{
    fs,
    path::Path,
    time::{Duration, Instant},
};

use bytes::Bytes;
use reqwest::{Certificate, Client, Url, redirect::Policy, retry};
use secrecy::{ExposeSecret, SecretString};

pub use self::{
    answer::{HttpAnswer, Limits, Obstacle, Status, Unreached, Unseen},
    place::{is_exposed, origin, same_origin},
    seen::{Seen, SeenKey, kids_of},
};
use self::{
    answer::{read, with_causes},
    seen::{Set, findings, known, max_age},
};

/// Fetches JWKS URLs.
#[derive(Clone, Debug)]
pub struct Verifier {
    http: Client,
}

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

fn authorities(path: &Path) -> Result<Vec<Certificate>, Unseen> {
    let bad = |why: String| Unseen::Ca(path.display().to_string(), why);
    let pem = fs::read(path).map_err(|error| bad(error.to_string()))?;
    let bundle = Certificate::from_pem_bundle(&pem).map_err(|error| bad(with_causes(&error)))?;
    if bundle.is_empty() {
        return Err(Unseen::NoCa(path.display().to_string()));
    }
    Ok(bundle)
}

const CONNECT: Duration = Duration::from_secs(5);
const WHOLE: Duration = Duration::from_secs(10);
/// A set of 48 keys with certificates is well below it.
const MOST_BYTES: usize = 1024 * 1024;
const VERIFIERS: Limits = Limits { bytes: MOST_BYTES, redirects: 0, accept: "application/json" };

#[cfg(test)]
mod tests {
    use super::*;

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
