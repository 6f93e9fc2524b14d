//! What a token must say.

use hallmark_core::{
    error::{Error, Reason},
    policy::{Identity, Scope},
    time::Timestamp,
};
use serde_json::{Map, Value};

use super::{IssuerSpec, Naming, Parts, invalid};

/// Takes a compact JWS apart. Nothing in it counts yet.
pub(super) fn decoded(token: &str) -> Result<Parts, Error> {
    use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
    let mut parts = token.split('.');
    let (Some(header), Some(payload), Some(_), None) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
        return Err(invalid("is no JWT"));
    };
    let object = |part: &str| -> Option<Map<String, Value>> {
        let bytes = BASE64_URL_SAFE_NO_PAD.decode(part).ok()?;
        serde_json::from_slice(&bytes).ok()
    };
    let (Some(header), Some(claims)) = (object(header), object(payload)) else { return Err(invalid("is no JWT")) };
    // RFC 7515 §4.1.11: whoever does not know all of it must refuse.
    if header.contains_key("crit") {
        return Err(invalid("has a `crit` header, which nothing here understands"));
    }
    let text = |name: &str| header.get(name).and_then(Value::as_str);
    Ok(Parts { alg: text("alg").and_then(|alg| alg.parse().ok()), kid: text("kid").map(str::to_owned), claims })
}

impl IssuerSpec {
    /// Whether the token says that it is this issuer's.
    pub(super) fn is_of(&self, claims: &Map<String, Value>) -> bool {
        let said = claims.get("iss").and_then(Value::as_str);
        let by_name = self.issuer.as_deref().is_none_or(|issuer| said == Some(issuer));
        match &self.naming {
            Naming::Subject => by_name && self.issuer.is_some(),
            Naming::Spiffe { trust_domain } => {
                let id = claims.get("sub").and_then(Value::as_str).and_then(Identity::spiffe);
                by_name && id.is_some_and(|id| Scope::TrustDomain(trust_domain.clone()).covers(&id))
            }
        }
    }

    /// Who the bearer is, and until when, by claims whose signature holds.
    pub(super) fn check(&self, claims: &Map<String, Value>, now: Timestamp) -> Result<(Identity, Timestamp), Error> {
        let audience = match claims.get("aud") {
            Some(Value::String(one)) => *one == self.audience,
            Some(Value::Array(several)) => several.iter().any(|one| one.as_str() == Some(self.audience.as_str())),
            _ => false,
        };
        if !audience {
            return Err(invalid("is not for this server: its `aud` lacks the `audience` of its [[issuer]]"));
        }
        let end = date(claims, "exp")?.ok_or_else(|| invalid("has no `exp`, and would be good for ever"))?;
        if now >= end {
            return Err(Error::new(Reason::TokenExpired, "the bearer token has expired; send a new one"));
        }
        for name in ["nbf", "iat"] {
            if date(claims, name)?.is_some_and(|start| start > now.plus(SKEW)) {
                return Err(invalid("is not valid yet; compare the clocks"));
            }
        }
        let subject = claims.get("sub").and_then(Value::as_str).unwrap_or_default();
        self.check_subject(subject)?;
        self.check_required(claims)?;
        Ok((self.identity(subject)?, end))
    }

    fn check_subject(&self, subject: &str) -> Result<(), Error> {
        let is = |rule: &String| match rule.strip_suffix('*') {
            Some(start) => subject.starts_with(start),
            None => subject == rule,
        };
        if self.subjects.is_empty() || self.subjects.iter().any(is) {
            return Ok(());
        }
        Err(invalid("is of a `sub` that its [[issuer]] does not list in `subjects`"))
    }

    fn check_required(&self, claims: &Map<String, Value>) -> Result<(), Error> {
        for (path, expected) in &self.require {
            let mut segments = path.split('/');
            let first = segments.next().and_then(|name| claims.get(name));
            let found = segments.fold(first, |value, name| value.and_then(|value| value.get(name)));
            if found.and_then(Value::as_str) != Some(expected.as_str()) {
                return Err(invalid("lacks what `require` of its [[issuer]] wants"));
            }
        }
        Ok(())
    }

    fn identity(&self, subject: &str) -> Result<Identity, Error> {
        let fits = (1..=MAX_SUBJECT).contains(&subject.len()) && !subject.contains('#');
        let plain = subject.chars().all(|c| !c.is_control());
        match (&self.naming, &self.issuer) {
            (Naming::Spiffe { .. }, _) => Identity::spiffe(subject).ok_or_else(|| invalid("has no SPIFFE ID as `sub`")),
            (Naming::Subject, Some(issuer)) if fits && plain => {
                Ok(Identity::Jwt { issuer: issuer.clone(), subject: subject.to_owned() })
            }
            _ => Err(invalid("has no `sub`, or one that is no name: 1 to 255 bytes without `#`")),
        }
    }
}

/// NumericDate (RFC 7519 §2); one that is no number is no date.
fn date(claims: &Map<String, Value>, name: &str) -> Result<Option<Timestamp>, Error> {
    match claims.get(name) {
        None => Ok(None),
        Some(value) => {
            let whole =
                value.as_i64().or_else(|| value.as_f64().filter(|date| date.abs() < 1e12).map(|date| date as i64));
            let whole = whole.filter(|date| (0..=LAST_DATE).contains(date));
            whole.map(|date| Some(Timestamp::from_secs(date))).ok_or_else(|| invalid("has a date that is none"))
        }
    }
}

/// Between the issuer's clock and ours, for what begins. An end is an end.
const SKEW: std::time::Duration = std::time::Duration::from_secs(60);
/// OpenID Connect Core §2.
const MAX_SUBJECT: usize = 255;
/// The end of the year 9999.
const LAST_DATE: i64 = 253_402_300_799;
