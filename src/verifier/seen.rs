//! A JWKS as a verifier reads it, and what some would trip over.

use std::{collections::BTreeSet, time::Duration};

use bytes::Bytes;
use hallmark_core::inspect::KeySet;
use serde::Deserialize;

use super::HttpAnswer;

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
pub(super) struct Set {
    pub(super) keys: Vec<SeenKey>,
}

/// Keys that are no secret.
pub(super) fn known(document: &[u8]) -> Vec<String> {
    let set = KeySet::parse(document).unwrap_or_default();
    set.known().map(|origin| format!("everybody has the private half of a key in it: it is {origin}")).collect()
}

/// What some verifier would trip over.
pub(super) fn findings(url: &str, answer: &HttpAnswer, keys: &[SeenKey]) -> Vec<String> {
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
pub(super) fn max_age(header: &str) -> Option<Duration> {
    let mut directives = header.split(',').map(str::trim);
    if directives.clone().any(|directive| directive == "no-store") {
        return Some(Duration::ZERO);
    }
    let seconds = directives.find_map(|directive| directive.strip_prefix("max-age="))?;
    seconds.trim_matches('"').parse().ok().map(Duration::from_secs)
}

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
}
