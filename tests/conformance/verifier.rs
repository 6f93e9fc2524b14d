//! Judges token requests by the rules of one system.

use std::collections::HashSet;

use base64::{
    Engine,
    prelude::{BASE64_STANDARD, BASE64_URL_SAFE_NO_PAD},
};
use serde_json::{Map, Value};

use super::{
    keys::{self, Certificate},
    presented::{ASSERTION_TYPE, Presented},
    rules::{Iss, Jwk, Keys, Kid, System, Typ},
};

/// The name of the rule that was broken, and how.
pub(super) type Refused = (&'static str, String);

/// One system, with what it remembers.
pub(super) struct Verifier {
    system: &'static System,
    used: HashSet<String>,
}

fn refuse<T>(rule: &'static str, why: impl Into<String>) -> Result<T, Refused> {
    Err((rule, why.into()))
}

fn check(holds: bool, rule: &'static str, why: impl Into<String>) -> Result<(), Refused> {
    if holds { Ok(()) } else { refuse(rule, why) }
}

impl Verifier {
    pub(super) fn new(system: &'static System) -> Self {
        Self { system, used: HashSet::new() }
    }

    /// Takes the request, or says which rule it breaks: the first, in the order in which most systems look.
    pub(super) fn judge(&mut self, request: &Presented) -> Result<(), Refused> {
        let assertion = self.form(request)?;
        let parts: Vec<_> = assertion.split('.').collect();
        let [header, payload, signature] = parts[..] else { return refuse("form", "no JWS in compact form") };
        let (header, claims) = (object(header)?, object(payload)?);
        self.header(&header, request)?;
        let key = self.key(&header, request)?;
        let Ok(signature) = BASE64_URL_SAFE_NO_PAD.decode(signature) else {
            return refuse("signature", "no base64url");
        };
        let signed = &assertion[..assertion.rfind('.').unwrap_or_default()];
        check(keys::verifies(&key, text(&header, "alg"), signed, &signature), "signature", "it is of another key")?;
        self.who(&claims, request)?;
        self.audience(&claims, request)?;
        self.times(&claims, request.now)?;
        self.extensions(&claims)?;
        self.use_up(&claims)
    }

    fn form<'a>(&self, request: &'a Presented) -> Result<&'a str, Refused> {
        let one = |name| <[&str; 1]>::try_from(request.field(name)).map(|[value]| value).ok();
        check(one("grant_type") == Some("client_credentials"), "form", "`grant_type` is not client_credentials")?;
        check(
            one("client_assertion_type") == Some(ASSERTION_TYPE),
            "form",
            "`client_assertion_type` is not jwt-bearer",
        )?;
        check(request.field("client_secret").is_empty(), "form", "two ways to authenticate (RFC 6749 §2.3)")?;
        let id = request.registered.client_id.as_str();
        for (name, value) in self.system.form {
            let wanted = if value.is_empty() { id } else { *value };
            check(one(name) == Some(wanted), "form", format!("`{name}` is not `{wanted}`"))?;
        }
        // Wherever it is sent, it must be that of the assertion (RFC 7521 §4.2).
        check(request.field("client_id").iter().all(|sent| *sent == id), "form", "`client_id` is another's")?;
        one("client_assertion").map_or_else(|| refuse("form", "no single `client_assertion`"), Ok)
    }

    fn header(&self, header: &Map<String, Value>, request: &Presented) -> Result<(), Refused> {
        let system = self.system;
        let alg = text(header, "alg");
        let registered = !system.alg_registered || alg == request.registered.alg;
        check(system.algs.contains(&alg) && registered, "alg", alg)?;
        let typ = header.get("typ").map(|typ| typ.as_str().unwrap_or_default());
        let good = match system.typ {
            Typ::Any => true,
            Typ::Jwt => typ == Some("JWT"),
            Typ::JwtIfPresent => typ.is_none_or(|typ| typ == "JWT"),
            Typ::ClientAuthentication => typ == Some("client-authentication+jwt"),
            Typ::Absent => typ.is_none(),
        };
        check(good, "typ", format!("{typ:?}"))?;
        let kid = header.get("kid");
        check(kid.is_none_or(Value::is_string), "kid", "it is no string")?;
        check(system.kid != Kid::Required || kid.is_some(), "kid", "there is none")?;
        check(system.kid != Kid::Absent || kid.is_none(), "kid", "there is one")?;
        let jku = header.get("jku").filter(|_| system.jku);
        check(jku.is_none_or(|jku| *jku == *request.registered.jwks_url), "jku", "not the registered URL")
    }

    fn key(&self, header: &Map<String, Value>, request: &Presented) -> Result<keys::Public, Refused> {
        let uploaded =
            || request.registered.certificate.as_ref().ok_or(("certificate", "none is registered".to_owned()));
        match self.system.keys {
            Keys::Set => self.by_kid(header, request),
            Keys::FirstRsa => {
                let first = self.set(request)?.into_iter().find(|key| key["kty"] == "RSA");
                first.as_ref().and_then(keys::of_jwk).ok_or(("jwks", "no RSA key".to_owned()))
            }
            Keys::Leaf => leaf(header, request),
            Keys::Uploaded(member) => {
                let certificate = uploaded()?;
                let named = certificate.thumbprint(member);
                check(
                    text(header, member) == named,
                    if member == "x5t" { "x5t" } else { "x5t#S256" },
                    "not the uploaded one's",
                )?;
                Ok(certificate.key.clone())
            }
            Keys::Pem => Ok(request.registered.key.clone()),
        }
    }

    fn set(&self, request: &Presented) -> Result<Vec<Value>, Refused> {
        let keys = request.jwks.as_ref().and_then(|set| set["keys"].as_array().cloned());
        let Some(keys) = keys else { return refuse("jwks", "it can't be fetched") };
        for key in &keys {
            for rule in self.system.jwk {
                check(fits(*rule, key), "jwks", format!("{rule:?}: {key}"))?;
            }
        }
        Ok(keys)
    }

    fn by_kid(&self, header: &Map<String, Value>, request: &Presented) -> Result<keys::Public, Refused> {
        let set = self.set(request)?;
        let kty = keys::kty(text(header, "alg"));
        let kid = header.get("kid");
        let fitting: Vec<_> =
            set.iter().filter(|key| key["kty"] == kty && kid.is_none_or(|kid| key["kid"] == *kid)).collect();
        match fitting[..] {
            [key] => keys::of_jwk(key).ok_or(("jwks", format!("no key: {key}"))),
            [] => refuse("kid", "the set has no such key"),
            _ => refuse("kid", "several keys of the set fit"),
        }
    }

    fn who(&self, claims: &Map<String, Value>, request: &Presented) -> Result<(), Refused> {
        let registered = &request.registered;
        let iss = match self.system.iss {
            Iss::ClientId => &registered.client_id,
            Iss::Registered => &registered.iss,
        };
        check(claims.get("iss").is_some_and(|value| *value == **iss), "iss", format!("not `{iss}`"))?;
        let sub = claims.get("sub").is_some_and(|value| *value == *registered.client_id);
        check(sub, "sub", "not the client_id")
    }

    fn audience(&self, claims: &Map<String, Value>, request: &Presented) -> Result<(), Refused> {
        let (rule, registered) = (self.system.aud, &request.registered);
        let good = |value: &Value| {
            rule.token_endpoint && *value == *registered.token_endpoint || rule.issuer && *value == *registered.issuer
        };
        match claims.get("aud") {
            Some(Value::Array(_)) if !rule.array => refuse("aud", "an array"),
            Some(Value::Array(several)) => check(several.iter().any(good), "aud", "none of them"),
            Some(one) => check(good(one), "aud", one.to_string()),
            None => refuse("aud", "there is none"),
        }
    }

    fn times(&self, claims: &Map<String, Value>, now: i64) -> Result<(), Refused> {
        let rule = self.system.times;
        let (exp, iat, nbf) = (date(claims, "exp")?, date(claims, "iat")?, date(claims, "nbf")?);
        let Some(exp) = exp else { return refuse("exp", "there is none") };
        check(exp + rule.skew > now, "exp", "it is over")?;
        check(rule.ahead.is_none_or(|most| exp - now <= most), "exp", "too far ahead")?;
        check(iat.is_some() || !rule.iat, "iat", "there is none")?;
        check(nbf.is_some() || !rule.nbf, "nbf", "there is none")?;
        check(iat.is_none_or(|iat| iat <= now + rule.skew), "iat", "in the future")?;
        check(nbf.is_none_or(|nbf| nbf <= now + rule.skew), "nbf", "in the future")?;
        check(nbf != Some(exp), "nbf", "never valid")?;
        let span = |from: Option<i64>| rule.long.is_none_or(|most| from.is_none_or(|from| exp - from <= most));
        check(span(iat) && span(nbf), "exp", "too long")?;
        check(rule.old.is_none_or(|most| iat.is_none_or(|iat| now - iat <= most)), "iat", "too old")?;
        let ahead = rule.ahead_without_iat.filter(|_| iat.is_none());
        check(ahead.is_none_or(|most| exp - now <= most), "exp", "too far ahead for one without `iat`")
    }

    fn extensions(&self, claims: &Map<String, Value>) -> Result<(), Refused> {
        if !self.system.b2b {
            return Ok(());
        }
        let Some(b2b) = claims.get("extensions").and_then(|all| all.get("hl7-b2b")) else {
            return refuse("extensions", "no `hl7-b2b`");
        };
        check(b2b["version"] == "1", "extensions", "`version` is not \"1\"")?;
        check(b2b["organization_id"].is_string(), "extensions", "no `organization_id`")?;
        let purpose = b2b["purpose_of_use"].as_array().is_some_and(|purposes| !purposes.is_empty());
        check(purpose, "extensions", "no `purpose_of_use`")
    }

    fn use_up(&mut self, claims: &Map<String, Value>) -> Result<(), Refused> {
        let rule = self.system.jti;
        let Some(jti) = claims.get("jti").and_then(Value::as_str).filter(|jti| !jti.is_empty()) else {
            return check(!rule.required, "jti", "there is none");
        };
        check(jti.chars().count() <= rule.longest, "jti", "too long")?;
        check(self.used.insert(jti.to_owned()) || !rule.once, "jti", "used before")
    }
}

fn leaf(header: &Map<String, Value>, request: &Presented) -> Result<keys::Public, Refused> {
    let chain = header.get("x5c").and_then(Value::as_array).filter(|chain| !chain.is_empty());
    let Some(chain) = chain else { return refuse("x5c", "there is none") };
    let decoded: Option<Vec<_>> =
        chain.iter().map(|der| Certificate::read(&BASE64_STANDARD.decode(der.as_str()?).ok()?)).collect();
    let Some([leaf, ..]) = decoded.as_deref() else { return refuse("x5c", "not certificates in standard base64") };
    check(leaf.is_by(&request.registered.authority), "x5c", "the leaf is not by the trusted authority")?;
    check((leaf.not_before..leaf.not_after).contains(&request.now), "x5c", "the leaf is not valid now")?;
    Ok(leaf.key.clone())
}

fn fits(rule: Jwk, key: &Value) -> bool {
    let has = |name: &str| key.get(name).is_some();
    match rule {
        Jwk::Kid => key["kid"].is_string() && key["kty"].is_string(),
        Jwk::Use => key["use"] == "sig",
        Jwk::UseIfPresent => !has("use") || key["use"] == "sig",
        Jwk::Rs384IfPresent => !has("alg") || key["alg"] == "RS384",
        Jwk::VerifyIfPresent => key["key_ops"].as_array().is_none_or(|all| all.iter().any(|one| one == "verify")),
        Jwk::NoPrivate => !["d", "p", "q", "dp", "dq", "qi", "oth", "k"].into_iter().any(has),
        Jwk::RsaOnly => key["kty"] == "RSA",
    }
}

fn object(part: &str) -> Result<Map<String, Value>, Refused> {
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(part).ok();
    bytes
        .and_then(|bytes| serde_json::from_slice(&bytes).ok())
        .ok_or(("form", "no JSON object in base64url".to_owned()))
}

fn text<'a>(map: &'a Map<String, Value>, name: &str) -> &'a str {
    map.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// Whole seconds, as a number.
fn date(claims: &Map<String, Value>, name: &'static str) -> Result<Option<i64>, Refused> {
    match claims.get(name) {
        None => Ok(None),
        Some(value) => value.as_i64().map(Some).ok_or((name, format!("no integer: {value}"))),
    }
}
