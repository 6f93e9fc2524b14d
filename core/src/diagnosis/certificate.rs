//! The certificate that a system holds, or is shown.

use aws_lc_rs::digest;
use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use der::{Decode, Encode};
use serde_json::Value;
use x509_cert::Certificate as X509;

use super::{About, Cause, Facts, Members, Outcome, key_set::text};
use crate::{
    profile::Certificate,
    public_key::{Numbers, PublicKey},
    time::Timestamp,
};

pub(super) fn certificate(facts: &Facts<'_>) -> Outcome {
    let rule = &facts.profile.accepts.certificate;
    let header = facts.assertion.map(|assertion| &assertion.header);
    let shown = header.is_some_and(|header| MEMBERS.iter().any(|name| header.contains_key(*name)));
    if rule.is == Certificate::None && !shown {
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
    let Ok(certificate) = X509::from_der(der) else {
        return bad("the certificate can't be read", "it is no DER of X.509".to_owned());
    };
    let validity = certificate.tbs_certificate().validity();
    let seconds =
        |time: &x509_cert::time::Time| i64::try_from(time.to_unix_duration().as_secs()).map_or(i64::MAX, |secs| secs);
    let (from, until) = (seconds(&validity.not_before), seconds(&validity.not_after));
    let now = facts.server_time.unwrap_or(facts.our_time);
    if now.secs() > until {
        let days = now.since(Timestamp::from_secs(until)).as_secs() / 86_400;
        return bad("the certificate has expired", format!("`notAfter` was {}, {days} days ago", validity.not_after));
    }
    if now.secs() < from {
        return bad("the certificate is not valid yet", format!("`notBefore` is {}", validity.not_before));
    }
    let thumbprints = [("x5t", &digest::SHA1_FOR_LEGACY_USE_ONLY), ("x5t#S256", &digest::SHA256)];
    for (name, algorithm) in thumbprints {
        let made = URL_SAFE_NO_PAD.encode(digest::digest(algorithm, der));
        if let Some(sent) = header.map(|header| text(header, name)).filter(|sent| !sent.is_empty() && *sent != made) {
            return bad(
                "the thumbprint in the header is another certificate's",
                format!("`{name}` is `{sent}`, and that of the certificate `{made}`"),
            );
        }
    }
    let spki = certificate.tbs_certificate().subject_public_key_info().to_der().ok();
    let public = spki.and_then(|spki| PublicKey::from_spki(&spki).ok());
    if let (Some(public), Some(key)) = (public, key)
        && !is_key(&public, key)
    {
        return bad(
            "the certificate is for another key than the one that signs",
            "their public keys differ".to_owned(),
        );
    }
    let days = Timestamp::from_secs(until).since(now).as_secs() / 86_400;
    Ok(format!("the certificate is the key's, and good for {days} more days"))
}

fn is_key(public: &PublicKey, key: &Members) -> bool {
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
