//! The JWKS as it is seen from outside, against what Hallmark signs with.

use serde_json::Value;

use super::{About, Cause, Certainty, Facts, Members, Outcome, Outside, printable};
use crate::profile::Binding;

pub(super) fn reachable(facts: &Facts<'_>) -> Outcome {
    if facts.profile.binding != Binding::Jwks {
        return Outcome::Skipped(format!("{} does not read the JWKS", facts.profile.system));
    }
    let url = printable(&facts.key_set.url, 200);
    match &facts.key_set.outside {
        Outside::NotAsked(why) => Outcome::Skipped(why.clone()),
        Outside::Keys { keys, .. } => Outcome::Good(format!("`{url}` has {} keys", keys.len())),
        Outside::Nothing { what, next } => {
            let why = format!("a verifier that reads `{url}` as this machine does finds no key there");
            Outcome::Bad(Cause::found(About::KeySet, format!("the JWKS URL {what}"), why, next.clone()))
        }
    }
}

pub(super) fn kid(facts: &Facts<'_>) -> Outcome {
    let (kid, keys) = match seen(facts) {
        Ok(seen) => seen,
        Err(why) => return Outcome::Skipped(why),
    };
    let url = printable(&facts.key_set.url, 200);
    match keys.iter().filter(|key| text(key, "kid") == kid).count() {
        1 => Outcome::Good(format!("the key that signs, `{kid}`, is there")),
        0 => {
            let there: Vec<_> = keys.iter().map(|key| printable(text(key, "kid"), 64)).collect();
            let there =
                if there.is_empty() { "it has no key".to_owned() } else { format!("it has `{}`", there.join("`, `")) };
            let next = format!(
                "whatever is at that URL is not what Hallmark publishes: hallmark jwks check {}; a cache or a static host has an \
                 old document, or `public_url` of [jwks] leads elsewhere",
                facts.client.name
            );
            Outcome::Bad(Cause::found(
                About::Kid,
                format!("the key that signs, `{kid}`, is not at the JWKS URL"),
                format!("`{url}`: {there}"),
                next,
            ))
        }
        more => {
            let next = "find out who else writes that document: Hallmark gives no `kid` twice";
            Outcome::Bad(Cause::found(
                About::Kid,
                format!("{more} keys at the JWKS URL have the kid `{kid}`"),
                format!("`{url}`"),
                next,
            ))
        }
    }
}

pub(super) fn same_key(facts: &Facts<'_>) -> Outcome {
    let (kid, keys) = match seen(facts) {
        Ok(seen) => seen,
        Err(why) => return Outcome::Skipped(why),
    };
    let find = |set: &'_ [Members]| set.iter().find(|key| text(key, "kid") == kid).cloned();
    let (Some(theirs), Some(ours)) = (find(keys), find(&facts.key_set.ours)) else {
        return Outcome::Skipped("there are no two keys to compare".to_owned());
    };
    let next = "someone else's key is under our kid: whoever has it can sign as this client. Find out who writes that document";
    let bad = |what: String, why: &str| Outcome::Bad(Cause::found(About::SameKey, what, why, next));
    if let Some(member) = NUMBERS.iter().find(|member| ours.get(**member) != theirs.get(**member)) {
        return bad(
            format!("another key is under `{kid}` at the JWKS URL"),
            &format!("its `{member}` differs from Hallmark's"),
        );
    }
    let alg = facts.assertion.and_then(|assertion| assertion.header("alg")).unwrap_or_else(|| text(&ours, "alg"));
    if !text(&theirs, "alg").is_empty() && text(&theirs, "alg") != alg {
        return bad(
            format!("`{kid}` is at the JWKS URL for {}", printable(text(&theirs, "alg"), 20)),
            &format!("assertions are signed with {alg}"),
        );
    }
    Outcome::Good("it is the same key as Hallmark's".to_owned())
}

pub(super) fn first_rsa_key(facts: &Facts<'_>) -> Outcome {
    if !facts.profile.jwks.first_rsa_key {
        return Outcome::Skipped(format!("{} goes by `kid`, as far as is known", facts.profile.system));
    }
    let (kid, keys) = match seen(facts) {
        Ok(seen) => seen,
        Err(why) => return Outcome::Skipped(why),
    };
    let first = keys.iter().find(|key| text(key, "kty") == "RSA").map(|key| text(key, "kid"));
    if first == Some(kid) {
        return Outcome::Good("the key that signs is the first RSA key of the set".to_owned());
    }
    let what =
        format!("{} takes the first RSA key of the set, and that is not the one that signs", facts.profile.system);
    let why = first.map_or("there is no RSA key".to_owned(), |first| {
        format!("the first is `{}`, `{kid}` signs", printable(first, 64))
    });
    let next = "have nothing between Hallmark and the authorization server that keeps or sorts the document: hallmark jwks check ".to_owned() + facts.client.name;
    let cause = Cause::found(About::FirstRsaKey, what, why, next);
    let rule = facts.profile.jwks.demands.first();
    Outcome::Bad(rule.map_or(cause.clone(), |rule| cause.known(rule.evidence, rule.source)))
}

/// What some verifiers trip over, though not the one that asks from here.
pub fn doubts(facts: &Facts<'_>) -> Vec<Cause> {
    let Outside::Keys { doubts, .. } = &facts.key_set.outside else { return Vec::new() };
    if facts.profile.binding != Binding::Jwks {
        return Vec::new();
    }
    let cause = |doubt: &String| Cause {
        about: About::KeySet,
        certainty: Certainty::Possible,
        what: printable(doubt, 300),
        why: format!("`{}`, as seen from this machine", printable(&facts.key_set.url, 200)),
        next: format!("look from where the authorization server is: hallmark jwks check {}", facts.client.name),
        evidence: None,
    };
    doubts.iter().map(cause).collect()
}

/// The kid that signs, and the keys that a verifier sees; or why these are not to be compared.
fn seen<'a>(facts: &Facts<'a>) -> Result<(&'a str, &'a [Members]), String> {
    if facts.profile.binding != Binding::Jwks {
        return Err(format!("{} does not read the JWKS", facts.profile.system));
    }
    let Outside::Keys { keys, .. } = &facts.key_set.outside else { return Err("the JWKS was not read".to_owned()) };
    let kid = facts.kid.ok_or_else(|| "it is not known which key signs".to_owned())?;
    Ok((kid, keys))
}

pub(super) fn text<'a>(key: &'a Members, name: &str) -> &'a str {
    key.get(name).and_then(Value::as_str).unwrap_or_default()
}

/// RFC 7518 §6: what makes a public key.
const NUMBERS: [&str; 6] = ["kty", "n", "e", "crv", "x", "y"];
