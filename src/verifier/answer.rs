//! What came back, whatever was asked, and what kept it away.

use std::fmt;

use reqwest::{RequestBuilder, Response, Url};

use super::MOST_BYTES;

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
    /// There was no connection to ask over: no such name, nobody listens there, or TLS failed.
    pub unconnected: bool,
}

/// An HTTP status: its number, and what that means.
pub type Status = reqwest::StatusCode;

impl HttpAnswer {
    /// Where it says that the answer is.
    pub(super) fn redirected_to(&self, url: &Url) -> Option<Url> {
        let is_redirect = matches!(self.status, 301 | 302 | 303 | 307 | 308);
        self.header("location").filter(|_| is_redirect).and_then(|location| url.join(location).ok())
    }

    /// The first header of that name, in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(there, _)| there == name).map(|(_, value)| value.as_str())
    }
}

/// What kept a connection or an answer away, as far as that can be told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// TLS, or the certificate.
    Tls,
    /// The name is not known.
    Name,
    /// Nothing came in time.
    Time,
    /// Anything else: mostly nobody listens there.
    Other,
}

impl Unreached {
    /// By what the libraries say, for they do not sort it.
    pub fn obstacle(&self) -> Obstacle {
        let lower = self.without_url.to_lowercase();
        let says = |words: &[&str]| words.iter().any(|word| lower.contains(word));
        if says(&["certificate", "tls", "invalidcontenttype"]) {
            Obstacle::Tls
        } else if says(&["dns", "lookup"]) {
            Obstacle::Name
        } else if self.timed_out {
            Obstacle::Time
        } else {
            Obstacle::Other
        }
    }

    /// What went wrong in the end: the innermost cause, which says more than all that wrap it.
    pub fn innermost(&self) -> &str {
        let shells = ["client error (Connect): ", "tcp connect error: ", "dns error: "];
        let inner = shells.iter().filter_map(|shell| self.without_url.split_once(shell)).map(|(_, inner)| inner);
        inner.min_by_key(|inner| inner.len()).unwrap_or(&self.without_url)
    }
}

impl fmt::Display for Unreached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}

impl From<reqwest::Error> for Unreached {
    fn from(error: reqwest::Error) -> Self {
        let (why, timed_out, unconnected) = (with_causes(&error), error.is_timeout(), error.is_connect());
        Self { why, without_url: with_causes(&error.without_url()), timed_out, unconnected }
    }
}

/// Sends a question, and reads the answer.
pub(super) async fn read(question: RequestBuilder, most_bytes: usize) -> Result<HttpAnswer, reqwest::Error> {
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

/// In words, with what is behind it.
pub(super) fn with_causes(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut next = std::error::Error::source(error);
    while let Some(cause) = next {
        text += &format!(": {cause}");
        next = cause.source();
    }
    text
}
