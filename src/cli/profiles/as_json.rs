//! A profile for programs.

use hallmark_core::profile::{Audience, Iss, Profile};
use serde_json::{Map, Value, json};

use super::sheet::{self, Fact, Known};

pub(super) fn profile(profile: &Profile) -> Value {
    let refusals = profile.refusals.iter();
    let refusals = refusals.map(|r| json!({ "says": r.says, "means": r.means, "remedy": r.remedy }));
    json!({
        "name": profile.name,
        "system": profile.system,
        "makes": makes(profile),
        "accepts": Value::Object(sheet::checked(profile).iter().map(|rule| (key(rule.name), known(rule))).collect()),
        "token_request": facts(&sheet::form(profile)),
        "registration": sheet::registration(profile),
        "jwks": {
            "first_rsa_key": profile.jwks.first_rsa_key,
            "pem": profile.jwks.pem,
            "lead_seconds": profile.jwks.lead.as_secs(),
            "rules": sheet::jwks_rules(profile).iter().map(known).collect::<Vec<_>>(),
        },
        "binding": profile.binding.as_str(),
        "on_revocation": profile.on_revocation,
        "unverified": profile.unverified,
        "refusals": refusals.collect::<Vec<_>>(),
    })
}

/// With the values of `override` in a `[[client]]`.
fn makes(profile: &Profile) -> Value {
    let makes = &profile.makes;
    json!({
        "alg": profile.default_alg().as_str(),
        "typ": makes.typ,
        "kid": makes.kid,
        "jku": makes.jku,
        "x5c": makes.x5c,
        "x5t": makes.x5t,
        "x5t_s256": makes.x5t_s256,
        "iss": match makes.iss { Iss::ClientId => "client_id", Iss::Registered => "registered" },
        "audience": match makes.aud { Audience::TokenEndpoint => "token-endpoint", Audience::Issuer => "issuer" },
        "lifetime_seconds": makes.lifetime.as_secs(),
        "backdate_seconds": makes.backdate.as_secs(),
        "iat": makes.iat,
        "nbf": makes.nbf,
    })
}

fn known(rule: &Known) -> Value {
    json!({ "about": rule.name, "is": rule.is, "evidence": rule.evidence, "source": rule.source })
}

fn facts(facts: &[Fact]) -> Value {
    let members: Map<_, _> = facts.iter().map(|(name, what)| ((*name).to_owned(), json!(what))).collect();
    Value::Object(members)
}

fn key(name: &str) -> String {
    name.replace(' ', "_")
}
