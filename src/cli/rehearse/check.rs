//! Whether an answer of a JWKS URL is what a verifier needs, now and after the next rotation. Pure.

use std::collections::BTreeMap;

use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use hallmark_client::{Key, KeyState};
use hallmark_core::public_key::{Numbers, PublicKey};
use serde_json::{Map, Value};

use crate::verifier::HttpAnswer;

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Finding {
    pub(super) good: bool,
    pub(super) what: String,
    /// What to do about it.
    pub(super) hint: Option<String>,
}

impl Finding {
    fn good(what: impl Into<String>) -> Self {
        Self { good: true, what: what.into(), hint: None }
    }

    pub(super) fn bad(what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { good: false, what: what.into(), hint: Some(hint.into()) }
    }
}

/// Whether it waits for its turn, and verifiers are to know it already.
pub(super) fn is_standby(key: &Key) -> bool {
    key.state == KeyState::PreActive && is_published(key)
}

/// Plain HTTP is for trying out, and not for verifiers.
pub(super) fn scheme(url: &str) -> Finding {
    let rest = url.strip_prefix("http://").unwrap_or_default();
    let local = ["localhost", "127.", "[::1]"].iter().any(|host| rest.starts_with(host));
    match url.split_once("://") {
        Some(("https", _)) => Finding::good("the URL is https"),
        _ if local => Finding::good("the URL is http, on this machine: for trying out"),
        _ => Finding::bad(
            "the URL is not https",
            "verifiers refuse it, and anyone on the way can put in a key of their own",
        ),
    }
}

/// Looks at what a verifier would rely on. `keys` are the client's as Hallmark has them.
pub(super) fn check(keys: &[Key], answer: &HttpAnswer) -> Vec<Finding> {
    let mut findings = vec![status(answer)];
    if !findings[0].good {
        return findings;
    }
    findings.extend([content_type(answer), cookies(answer), caching(answer)]);
    match set(answer) {
        Err(bad) => findings.push(bad),
        Ok(set) => {
            findings.push(Finding::good(format!("it is a JWK Set with {} keys", set.len())));
            findings.push(private_members(&set));
            let served = by_kid(&set, &mut findings);
            findings.extend(published(keys, &served));
            findings.extend(strangers(keys, &served));
            findings.extend(standbys(keys, &served));
        }
    }
    findings
}

fn status(answer: &HttpAnswer) -> Finding {
    let what = format!("status {}", answer.status);
    match answer.status {
        200 => Finding::good(what),
        300..=399 => {
            let to = answer.header("location").unwrap_or("nowhere");
            Finding::bad(
                format!("{what}, a redirect to `{to}`"),
                "verifiers do not follow it: serve the document at the URL itself",
            )
        }
        404 => Finding::bad(what, "is it the URL of `hallmark jwks`? a client without keys answers so too"),
        401 | 403 => Finding::bad(what, "the document is public: whatever guards this URL must let everyone read it"),
        _ => Finding::bad(what, "see the log of the JWKS listener, or of the proxy before it"),
    }
}

fn content_type(answer: &HttpAnswer) -> Finding {
    let given = answer.header("content-type").unwrap_or_default();
    let essence = given.split(';').next().unwrap_or_default().trim();
    if essence.eq_ignore_ascii_case("application/json") {
        return Finding::good(format!("Content-Type `{given}`"));
    }
    let what = if given.is_empty() { "no Content-Type".to_owned() } else { format!("Content-Type `{given}`") };
    Finding::bad(what, "some verifiers take `application/json` only; a static host may go by the file's name")
}

fn cookies(answer: &HttpAnswer) -> Finding {
    if answer.header("set-cookie").is_none() {
        return Finding::good("no cookie");
    }
    Finding::bad(
        "it sets a cookie",
        "a proxy or firewall adds it: have it leave this path alone, or caches keep nothing",
    )
}

/// Hallmark says for how long its document may be kept, and counts on it.
fn caching(answer: &HttpAnswer) -> Finding {
    let Some(given) = answer.header("cache-control") else {
        let hint = "without it verifiers keep the keys as long as they like; is there a proxy that drops it?";
        return Finding::bad("no Cache-Control", hint);
    };
    let what = format!("Cache-Control `{given}`");
    let directives: Vec<_> = given.split(',').map(|part| part.trim().to_ascii_lowercase()).collect();
    let has = |name: &str| directives.iter().any(|directive| directive == name);
    let max_age = directives.iter().find_map(|directive| directive.strip_prefix("max-age="));
    match max_age.map(|age| age.trim_matches('"').parse::<u64>()) {
        Some(Ok(age)) if age <= LONGEST_MAX_AGE && !has("immutable") => Finding::good(what),
        None if has("no-store") || has("no-cache") => Finding::good(what),
        None => Finding::bad(what, "without max-age verifiers keep the keys as long as they like"),
        Some(_) => Finding::bad(
            what,
            "Hallmark does not say so: a proxy lets verifiers keep the keys for longer, and they miss the next one",
        ),
    }
}

fn set(answer: &HttpAnswer) -> Result<Vec<Map<String, Value>>, Finding> {
    let Some(body) = &answer.body else {
        return Err(Finding::bad(
            "the document is larger than 1 MiB",
            "that is no JWK Set of Hallmark: what else is at this URL?",
        ));
    };
    let document: Value = serde_json::from_slice(body).map_err(|error| {
        let coded = answer.header("content-encoding").map(|coding| format!(" (Content-Encoding `{coding}`)"));
        let what = format!("the document is no JSON{}: {error}", coded.unwrap_or_default());
        Finding::bad(what, "what is at this URL? try: curl -v URL")
    })?;
    let keys = document.get("keys").and_then(Value::as_array).cloned();
    let keys = keys.and_then(|keys| keys.into_iter().map(|key| key.as_object().cloned()).collect::<Option<Vec<_>>>());
    keys.ok_or_else(|| {
        Finding::bad("the document is no JWK Set: it has no `keys`", "what is at this URL? try: curl -v URL")
    })
}

fn private_members(set: &[Map<String, Value>]) -> Finding {
    let found: Vec<_> = PRIVATE.iter().filter(|name| set.iter().any(|key| key.contains_key(**name))).collect();
    if found.is_empty() {
        return Finding::good("no private members");
    }
    let names: Vec<_> = found.into_iter().map(|name| format!("`{name}`")).collect();
    let hint = "take it down now: this is not Hallmark's document, and whoever read it can sign with that key";
    Finding::bad(format!("private members: {}", names.join(", ")), hint)
}

fn by_kid<'a>(set: &'a [Map<String, Value>], findings: &mut Vec<Finding>) -> BTreeMap<&'a str, &'a Map<String, Value>> {
    let mut served = BTreeMap::new();
    for key in set {
        let Some(kid) = key.get("kid").and_then(Value::as_str) else {
            findings
                .push(Finding::bad("a key without `kid`", "Hallmark publishes none: who else writes this document?"));
            continue;
        };
        if served.insert(kid, key).is_some() {
            let hint = "verifiers take either: who else writes this document?";
            findings.push(Finding::bad(format!("two keys with kid `{}`", shown(kid)), hint));
        }
    }
    served
}

type Served<'a> = BTreeMap<&'a str, &'a Map<String, Value>>;

/// Those that verifiers must find already: every published key but the standbys, which are looked at by themselves.
fn published(keys: &[Key], served: &Served<'_>) -> Vec<Finding> {
    let needed = keys.iter().filter(|key| is_published(key) && !is_standby(key));
    needed.map(|key| presence(key, served, &format!("the {} key", key.state))).collect()
}

fn standbys(keys: &[Key], served: &Served<'_>) -> Vec<Finding> {
    let ours = || keys.iter().filter(|key| key.purpose == "assertion");
    let lines = ours().filter(|key| key.state == KeyState::Active);
    let lacking =
        lines.filter(|active| !ours().any(|key| is_standby(key) && (&key.alg, &key.hsm) == (&active.alg, &active.hsm)));
    let lack = |key: &Key| {
        let hint = "Hallmark makes one as soon as the HSM lets it; see: hallmark keys list, and the server's log";
        Finding::bad(format!("no next key for {} on {}", key.alg, key.hsm), hint)
    };
    let mut findings: Vec<_> = lacking.map(lack).collect();
    findings.extend(ours().filter(|key| is_standby(key)).map(|key| presence(key, served, "the next key")));
    if findings.is_empty() {
        let hint = "make the client's first keys: hallmark keys create CLIENT --reason TEXT";
        findings.push(Finding::bad("there is no next key", hint));
    }
    findings
}

/// Whether it is there, with the numbers of our record.
fn presence(key: &Key, served: &Served<'_>, which: &str) -> Finding {
    let kid = key.kid.as_deref().unwrap_or_default();
    let Some(there) = served.get(kid) else {
        let hint = "a cache before the listener has an older document, or this is another server: compare with `hallmark jwks`; \
                    `edge_ttl` of the [[client]] tells Hallmark of caches";
        return Finding::bad(format!("{which} `{kid}` is not there"), hint);
    };
    let foreign =
        "someone else's key under our kid: whoever has it can sign as this client. Find out who writes this document";
    let Ok(public) = PublicKey::from_spki(&key.spki) else {
        return Finding::bad(
            format!("{which} `{kid}` can't be compared: Hallmark's record can't be read"),
            "see: hallmark keys show KID",
        );
    };
    let differing: Vec<_> =
        numbers(&public).into_iter().filter(|(name, value)| text(there, name) != Some(value)).collect();
    if let Some((name, _)) = differing.first() {
        return Finding::bad(format!("{which} `{kid}` has another `{name}` than Hallmark's record"), foreign);
    }
    if text(there, "alg").is_some_and(|alg| alg != key.alg) {
        return Finding::bad(format!("{which} `{kid}` is there with another `alg` than {}", key.alg), foreign);
    }
    Finding::good(format!("{which} `{kid}` is there ({})", key.alg))
}

/// Keys that should not be there: such as one that was revoked, which an older copy still shows.
fn strangers(keys: &[Key], served: &Served<'_>) -> Vec<Finding> {
    let known = |kid: &str| keys.iter().find(|key| key.kid.as_deref() == Some(kid));
    let stranger = |kid: &str| match known(kid) {
        Some(key) if is_published(key) => None,
        Some(key) => {
            let hint =
                "a cache before the listener has an older document; purge it, and see `edge_ttl` of the [[client]]";
            Some(Finding::bad(format!("`{kid}` is still there, and is {}", key.state), hint))
        }
        None => {
            let hint = "whoever has that key can sign as this client. Find out who else writes this document";
            Some(Finding::bad(format!("`{}` is there, and Hallmark has no such key", shown(kid)), hint))
        }
    };
    served.keys().filter_map(|kid| stranger(kid)).collect()
}

fn is_published(key: &Key) -> bool {
    let state = matches!(key.state, KeyState::PreActive | KeyState::Active | KeyState::Deactivated);
    state && key.published_at.is_some() && key.purpose == "assertion" && key.kid.is_some()
}

/// As a JWK has them.
fn numbers(key: &PublicKey) -> Vec<(&'static str, String)> {
    let b64 = |bytes: &[u8]| BASE64_URL_SAFE_NO_PAD.encode(bytes);
    match key.numbers() {
        Numbers::Rsa { n, e } => vec![("kty", "RSA".into()), ("n", b64(n)), ("e", b64(e))],
        Numbers::Ec { curve, x, y } => {
            vec![("kty", "EC".into()), ("crv", curve.name().into()), ("x", b64(x)), ("y", b64(y))]
        }
        Numbers::Ed25519 { x } => vec![("kty", "OKP".into()), ("crv", "Ed25519".into()), ("x", b64(x))],
    }
}

fn text<'a>(key: &'a Map<String, Value>, name: &str) -> Option<&'a str> {
    key.get(name).and_then(Value::as_str)
}

/// It comes from outside, and goes to a terminal.
fn shown(text: &str) -> String {
    text.chars().filter(|char| !char.is_control()).take(80).collect()
}

/// RFC 7518 §6: of every key type.
const PRIVATE: [&str; 8] = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"];
/// Above all that Hallmark serves.
const LONGEST_MAX_AGE: u64 = 24 * 3600;
