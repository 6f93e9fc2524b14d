//! The certificate that a system holds, or is shown.

use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use serde_json::Value;

use super::{About, Cause, Facts, Members, Outcome, key_set::text};
use crate::{
    certificate::{Certificate, key_of},
    profile,
    public_key::{Numbers, PublicKey},
    time::Timestamp,
};

pub(super) fn certificate(facts: &Facts<'_>) -> Outcome {
    let rule = &facts.profile.accepts.certificate;
    let header = facts.assertion.map(|assertion| &assertion.header);
    let shown = header.is_some_and(|header| MEMBERS.iter().any(|name| header.contains_key(*name)));
    if rule.is == profile::Certificate::None && !shown {
        return Outcome::Skipped(format!("{} looks at none", facts.profile.system));
    }
    let key = facts.key_set.ours.iter().find(|key| facts.kid == Some(text(key, "kid")));
    let Some(der) = header.and_then(first_of_x5c).or_else(|| key.and_then(first_of_x5c)) else {
        let next = format!("ask for one, and install it: hallmark csr {}", facts.client.name);
        let what = format!("{} wants a certificate, and the key has none", facts.profile.system);
        let cause = Cause::found(About::Certificate, what, "neither the assertion nor the JWKS shows one", next);
        return Outcome::Bad(cause.known(rule.evidence, rule.source));
    };
    match judge(facts, &der, header, key) {
        Ok(good) => Outcome::Good(good),
        Err((what, why)) => {
            let next =
                format!("have the certificate renewed, and registered anew there: hallmark csr {}", facts.client.name);
            Outcome::Bad(Cause::found(About::Certificate, what, why, next))
        }
    }
}

/// What is wrong with it, and why that is thought.
fn judge(
    facts: &Facts<'_>,
    der: &[u8],
    header: Option<&Members>,
    key: Option<&Members>,
) -> Result<String, (String, String)> {
    let bad = |what: &str, why: String| Err((what.to_owned(), why));
    let read = match Certificate::parse(der) {
        Ok(read) => read,
        Err(error) => return bad("the certificate can't be read", error.to_string()),
    };
    let now = facts.server_time.unwrap_or(facts.our_time);
    let days = |from: Timestamp, to: Timestamp| to.since(from).as_secs() / 86_400;
    let validity = read.validity;
    if !validity.holds(now) && validity.not_before > now {
        return bad(
            "the certificate is not valid yet",
            format!("it begins in {} days", days(now, validity.not_before)),
        );
    }
    if !validity.holds(now) {
        return bad("the certificate has expired", format!("that was {} days ago", days(validity.not_after, now)));
    }
    for (name, made) in [("x5t", read.thumbprints.x5t()), ("x5t#S256", read.thumbprints.x5t_s256())] {
        let sent = header.map(|header| text(header, name)).unwrap_or_default();
        if !sent.is_empty() && sent != made {
            let why = format!("`{name}` is `{sent}`, and that of the certificate `{made}`");
            return bad("the thumbprint in the header is another certificate's", why);
        }
    }
    if let (Some(public), Some(key)) = (key_of(der), key)
        && !is_key(&public, key)
    {
        return bad(
            "the certificate is for another key than the one that signs",
            "their public keys differ".to_owned(),
        );
    }
    Ok(format!("the certificate is the key's, and good for {} more days", days(now, validity.not_after)))
}

/// Whether a JWK is that key.
pub fn is_key(public: &PublicKey, key: &Members) -> bool {
    let is = |name: &str, bytes: &[u8]| text(key, name) == URL_SAFE_NO_PAD.encode(bytes);
    match public.numbers() {
        Numbers::Rsa { n, e } => is("n", n) && is("e", e),
        Numbers::Ec { x, y, .. } => is("x", x) && is("y", y),
        Numbers::Ed25519 { x } => is("x", x),
    }
}

fn first_of_x5c(members: &Members) -> Option<Vec<u8>> {
    let first = members.get("x5c").and_then(Value::as_array)?.first()?.as_str()?;
    STANDARD.decode(first).ok()
}

const MEMBERS: [&str; 3] = ["x5c", "x5t", "x5t#S256"];
