//! A JWK Set as it was found, read leniently, and what is wrong with it.

use std::collections::HashMap;

use base64::Engine;
use serde_json::{Map, Value};

use super::{Cited, Report, Severity, TooLarge, compact::LENIENT, text::quoted};
use crate::{
    key::Alg,
    known_keys,
    public_key::{Curve, Numbers, PublicKey},
};

/// The largest that is read, in bytes: several verifiers read a quarter of it.
pub const LARGEST_JWKS: usize = 1024 * 1024;

/// The keys of a JWK Set, in its order.
#[derive(Clone, Debug, Default)]
pub struct KeySet {
    pub(super) keys: Vec<Key>,
    /// Why it is no JWK Set.
    problem: Option<String>,
}

/// One of them.
#[derive(Clone, Debug)]
pub(super) struct Key {
    pub(super) kid: Option<String>,
    pub(super) alg: Option<String>,
    pub(super) kty: String,
    /// Or why it can't be used.
    pub(super) public: Result<PublicKey, String>,
    /// What is wrong with it, whatever it is used for.
    complaints: Vec<Complaint>,
}

#[derive(Clone, Debug)]
struct Complaint {
    severity: Severity,
    what: String,
    hint: &'static str,
    rule: Cited,
}

impl KeySet {
    /// Reads `document`; what does not parse becomes a finding of those who ask with it.
    pub fn parse(document: &[u8]) -> Result<Self, TooLarge> {
        if document.len() > LARGEST_JWKS {
            return Err(TooLarge { what: "a JWK Set", bytes: document.len(), most: LARGEST_JWKS });
        }
        let json: Value = match serde_json::from_slice(document) {
            Ok(json) => json,
            Err(error) => return Ok(Self::broken(format!("it is no JSON: {error}"))),
        };
        let entries = match json {
            Value::Object(mut set) => match set.remove("keys") {
                Some(Value::Array(keys)) => keys,
                Some(_) => return Ok(Self::broken("its `keys` is no array")),
                None if set.contains_key("kty") => {
                    let keys = vec![read(&set)];
                    return Ok(Self { keys, problem: Some("it is a single key, not a set with `keys`".to_owned()) });
                }
                None => return Ok(Self::broken("it has no `keys`")),
            },
            _ => return Ok(Self::broken("it is no JSON object")),
        };
        let keys = entries.iter().filter_map(Value::as_object).map(read).collect::<Vec<_>>();
        let problem = (keys.len() < entries.len()).then(|| "some of its `keys` are no objects".to_owned());
        Ok(Self { keys, problem })
    }

    /// Those whose private halves everybody has, each with where from.
    pub fn known(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.keys.iter().filter_map(|key| known_keys::known(key.public.as_ref().ok()?))
    }

    /// How many it has.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    fn broken(problem: impl Into<String>) -> Self {
        Self { keys: Vec::new(), problem: Some(problem.into()) }
    }
}

impl Key {
    /// As findings name it.
    pub(super) fn name(&self) -> String {
        self.kid.as_deref().map_or_else(|| "without a `kid`".to_owned(), quoted)
    }

    /// Whether a verifier may use it for `alg`, by its kind and by what it says of itself.
    pub(super) fn serves(&self, alg: Alg) -> bool {
        let says = self.alg.as_deref().is_none_or(|says| says == alg.as_str());
        says && self.public.as_ref().is_ok_and(|key| key.suits(alg))
    }
}

/// Says what is wrong with the set, and with each of its keys.
pub(super) fn check(set: &KeySet, report: &mut Report) {
    if let Some(problem) = &set.problem {
        let hint = "it must be `{\"keys\":[…]}`; is the URL the right one?";
        report.add(Severity::Error, "jwks", super::printable(problem), hint, Cited::specified("RFC 7517 §5"));
    }
    if set.keys.len() > MOST_KEYS {
        let what = format!("the JWKS has {} keys, and some verifiers read {MOST_KEYS}", set.keys.len());
        report.add(Severity::Warning, "jwks", what, "retire old keys", Cited::heard("limits of verifiers"));
    }
    for key in set.keys.iter().take(MOST_KEYS) {
        for Complaint { severity, what, hint, rule } in &key.complaints {
            report.add(*severity, "jwks", format!("key {}: {what}", key.name()), *hint, rule.clone());
        }
    }
    let mut seen: HashMap<(&str, &str), usize> = HashMap::new();
    for key in &set.keys {
        *seen.entry((key.kid.as_deref().unwrap_or_default(), &key.kty)).or_default() += 1;
    }
    let mut twice: Vec<_> = seen.into_iter().filter(|((kid, _), count)| *count > 1 && !kid.is_empty()).collect();
    twice.sort_unstable();
    for ((kid, _), count) in twice.into_iter().take(MOST_KEYS) {
        let what = format!("{count} keys have the `kid` {}: verification fails", quoted(kid));
        let rule = Cited::specified("SMART App Launch 2.2, client-confidential-asymmetric");
        report.add(Severity::Error, "jwks", what, "give each key a `kid` of its own", rule);
    }
}

fn read(jwk: &Map<String, Value>) -> Key {
    let text = |name: &str| jwk.get(name).and_then(Value::as_str);
    let public = public(jwk);
    let mut key = Key {
        kid: text("kid").map(str::to_owned),
        alg: text("alg").map(str::to_owned),
        kty: text("kty").unwrap_or_default().to_owned(),
        public,
        complaints: Vec::new(),
    };
    key.complaints = complaints(jwk, &key);
    key
}

fn complaints(jwk: &Map<String, Value>, key: &Key) -> Vec<Complaint> {
    let of_public = key.public.as_ref().map_or_else(|why| vec![unusable(why)], weak);
    private_half(jwk).into_iter().chain(of_public).chain(members(jwk, key)).collect()
}

/// Whether anyone who reads the set can sign.
fn private_half(jwk: &Map<String, Value>) -> Option<Complaint> {
    let secret = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"].iter().any(|name| jwk.contains_key(*name));
    secret.then(|| {
        let what = "it shows its private half, or is a shared secret: whoever reads the JWKS can sign";
        let rule = Cited::measured("oidc-provider refuses the whole set");
        complaint(Severity::Error, what, "revoke it now, and publish public members only", rule)
    })
}

fn unusable(why: &str) -> Complaint {
    let hint = "harmless if it is for something else";
    complaint(Severity::Note, format!("it can't be used here: {why}"), hint, Cited::specified("RFC 7518 §6"))
}

/// Whether others can sign because of the key itself.
fn weak(public: &PublicKey) -> Vec<Complaint> {
    let known = known_keys::known(public).map(|origin| {
        let what = format!("everybody has its private half: it is {origin}");
        complaint(Severity::Error, what, "make a key of your own, in an HSM", Cited::specified("RFC 7515 §10.1"))
    });
    let short = rsa_bits(public).filter(|bits| *bits < 2048).map(|bits| {
        let what = format!("its modulus has {bits} bits");
        complaint(Severity::Error, what, "RSA keys have 2048 bits or more", Cited::specified("RFC 7518 §3.3"))
    });
    known.into_iter().chain(short).collect()
}

/// What verifiers look at beside the key.
fn members(jwk: &Map<String, Value>, key: &Key) -> Vec<Complaint> {
    let mut found = Vec::new();
    let mut warn = |what, hint, rule| found.push(complaint(Severity::Warning, what, hint, rule));
    if key.kid.is_none() {
        let rule = Cited::specified("SMART App Launch 2.2, client-confidential-asymmetric");
        warn("it has no `kid`", "publish `kid` on all keys", rule);
    }
    match jwk.get("use").map(Value::as_str) {
        None => warn("it has no `use`", USE, Cited::heard("Hydra and older Keycloaks need it")),
        Some(Some("sig")) => {}
        Some(_) => warn("its `use` is not `sig`", USE, Cited::specified("RFC 7517 §4.2")),
    }
    if key.alg.is_none() {
        warn("it has no `alg`", "publish `alg` on all keys", Cited::heard("SMART's launcher needs it"));
    }
    let ops = jwk.get("key_ops").map(|ops| ops.as_array().is_some_and(|ops| ops.iter().any(|op| op == "verify")));
    if ops == Some(false) {
        let rule = Cited::measured("SMART's bulk data server and oidc-provider refuse it");
        let hint = "leave `key_ops` out, or make it [\"verify\"]";
        found.push(complaint(Severity::Error, "its `key_ops` lacks `verify`", hint, rule));
    }
    found
}

fn complaint(severity: Severity, what: impl Into<String>, hint: &'static str, rule: Cited) -> Complaint {
    Complaint { severity, what: what.into(), hint, rule }
}

fn rsa_bits(key: &PublicKey) -> Option<usize> {
    match key.numbers() {
        Numbers::Rsa { n, .. } => Some(n.len() * 8 - n.first().map_or(0, |byte| byte.leading_zeros() as usize)),
        Numbers::Ec { .. } | Numbers::Ed25519 { .. } => None,
    }
}

/// The key of a JWK, read as leniently as verifiers do.
pub(crate) fn public(jwk: &Map<String, Value>) -> Result<PublicKey, String> {
    let text =
        |name: &str| jwk.get(name).and_then(Value::as_str).ok_or_else(|| format!("`{name}` is missing or no string"));
    let number = |name: &str| {
        let bytes = LENIENT.decode(text(name)?.replace('+', "-").replace('/', "_"));
        bytes.map_err(|_| format!("`{name}` is no base64url")).and_then(|bytes| {
            if bytes.len() <= LONGEST_NUMBER { Ok(bytes) } else { Err(format!("`{name}` has {} bytes", bytes.len())) }
        })
    };
    let curve = |name: &str| [Curve::P256, Curve::P384].into_iter().find(|curve| curve.name() == name);
    let key = match (text("kty")?, jwk.get("crv").and_then(Value::as_str)) {
        ("RSA", _) => PublicKey::from_rsa(&number("n")?, &number("e")?),
        ("EC", Some(crv)) => {
            let curve = curve(crv).ok_or_else(|| format!("its curve is {}", quoted(crv)))?;
            PublicKey::from_ec_point(curve, &[&[4][..], &number("x")?, &number("y")?].concat())
        }
        ("OKP", Some("Ed25519")) => PublicKey::from_ed25519(&number("x")?),
        (kty, crv) => return Err(format!("its kind is {}, {}", quoted(kty), quoted(crv.unwrap_or("no curve")))),
    };
    key.map_err(|error| error.to_string())
}

const USE: &str = "publish `use` as `sig` on all keys";
/// What the strictest verifier reads (OpenEMR 8).
const MOST_KEYS: usize = 50;
/// Of 16384 bits: no verifier takes longer ones.
const LONGEST_NUMBER: usize = 2048;
