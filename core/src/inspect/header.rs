//! The JOSE header.

use serde_json::Value;

use super::{
    Cited, Context, Part, Report, Severity,
    text::{kind, quoted},
};
use crate::{
    key::Alg,
    profile::{Need, Rule, Typ},
};

/// Gives the algorithm, if it is one that can be verified.
pub(super) fn check(header: &Part, context: &Context<'_>, report: &mut Report) -> Option<Alg> {
    let alg = alg(header, context, report);
    typ(header, context, report);
    kid(header, context, report);
    jku(header, context, report);
    if header.get("crit").is_some() {
        let what = "`crit` asks for extensions, and whoever does not know one must refuse the JWT";
        report.add(Severity::Error, "crit", what, "leave it out", Cited::specified("RFC 7515 §4.1.11"));
    }
    if header.get("jwk").is_some() {
        let what = "`jwk` is there: a verifier that trusted it would trust anybody";
        report.add(
            Severity::Warning,
            "jwk",
            what,
            "leave it out, and register the key",
            Cited::specified("RFC 8725 §3.10"),
        );
    }
    for claim in ["iss", "sub", "aud", "exp", "jti"] {
        if header.get(claim).is_some() {
            let what = format!("`{claim}` is in the header, where only encrypted JWTs have claims");
            report.add(Severity::Warning, claim, what, "put it into the claims", Cited::specified("RFC 7519 §5.3"));
        }
    }
    alg
}

/// Whether a member is there that must be, or must not.
pub(super) fn presence(name: &str, is_there: bool, rule: &Rule<Need>, hint: &str, report: &mut Report) {
    match (rule.is, is_there) {
        (Need::Required, false) => report.broken(name, format!("`{name}` is missing"), hint, Cited::of(rule)),
        (Need::Unwanted, true) => {
            let what = format!("`{name}` is there, and this system does not want it");
            report.broken(name, what, "leave it out", Cited::of(rule));
        }
        _ => {}
    }
}

fn alg(header: &Part, context: &Context<'_>, report: &mut Report) -> Option<Alg> {
    let rule = &context.profile.accepts.algs;
    let taken: Vec<_> = rule.is.iter().map(|alg| alg.as_str()).collect();
    let hint = format!("sign with {}", taken.join(" or "));
    let name = match header.get("alg") {
        Some(Value::String(name)) => name,
        Some(other) => {
            let what = format!("`alg` is {}, not a string", kind(other));
            report.add(Severity::Error, "alg", what, hint, Cited::specified("RFC 7515 §4.1.1"));
            return None;
        }
        None => {
            let what = "`alg` is missing: the JOSE header was lost, or never set";
            report.add(Severity::Error, "alg", what, hint, Cited::specified("RFC 7515 §4.1.1"));
            return None;
        }
    };
    let Ok(alg) = name.parse::<Alg>() else {
        let (what, rule) = unusable(name);
        report.add(Severity::Error, "alg", what, hint, rule);
        return None;
    };
    if !rule.is.contains(&alg) {
        let what = format!("`alg` is {alg}, and {} takes {}", context.profile.system, taken.join(", "));
        report.broken("alg", what, hint, Cited::of(rule));
    }
    Some(alg)
}

fn unusable(name: &str) -> (String, Cited) {
    if name.eq_ignore_ascii_case("none") {
        let what = "`alg` is none: nothing proves who made it; often the settings for signing were lost on the way";
        return (what.to_owned(), Cited::specified("RFC 7523 §3, point 9"));
    }
    if name.starts_with("HS") {
        let what = format!("`alg` is {}: a shared secret, where a private key is asked for", quoted(name));
        return (what, Cited::specified("OpenID Connect Core §9, private_key_jwt"));
    }
    let known = Alg::ALL.into_iter().find(|alg| alg.as_str().eq_ignore_ascii_case(name));
    let what = match known {
        Some(alg) => format!("`alg` is {}: names of algorithms are case-sensitive, it is {alg}", quoted(name)),
        None => format!("`alg` is {}, which is no signature algorithm that client assertions have", quoted(name)),
    };
    (what, Cited::specified("RFC 7518 §3.1"))
}

fn typ(header: &Part, context: &Context<'_>, report: &mut Report) {
    let rule = &context.profile.accepts.typ;
    let taken: Vec<_> = rule.is.iter().map(|typ| typ.value().unwrap_or("none at all")).collect();
    let hint = format!("`typ` may be {}", taken.join(", "));
    let typ = match header.get("typ") {
        None => Some(Typ::Absent),
        Some(Value::String(text)) => {
            [Typ::Jwt, Typ::ClientAuthentication].into_iter().find(|typ| typ.value() == Some(text))
        }
        Some(_) => None,
    };
    match typ {
        Some(typ) if rule.is.contains(&typ) => {}
        Some(Typ::Absent) => report.broken("typ", "`typ` is missing", hint, Cited::of(rule)),
        Some(_) | None => {
            let value = header.get("typ").map_or(String::new(), |value| quoted(&as_text(value)));
            report.broken("typ", format!("`typ` is {value}"), hint, Cited::of(rule));
        }
    }
}

fn kid(header: &Part, context: &Context<'_>, report: &mut Report) {
    let hint = "name the key: `kid` as in the JWKS";
    presence("kid", header.get("kid").is_some(), &context.profile.accepts.kid, hint, report);
    if let Some(value) = header.get("kid").filter(|value| !value.is_string()) {
        let what = format!("`kid` is {}, not a string", kind(value));
        report.add(Severity::Error, "kid", what, hint, Cited::specified("RFC 7515 §4.1.4"));
    }
}

fn jku(header: &Part, context: &Context<'_>, report: &mut Report) {
    let rule = &context.profile.accepts.jku;
    presence("jku", header.get("jku").is_some(), rule, "the JWKS URL as registered", report);
    let (Some(jku), Some(registered)) = (header.get("jku"), &context.expect.jwks_url) else { return };
    if jku.as_str() != Some(registered) && rule.is != Need::Ignored {
        let what = format!("`jku` is {}, and {} is registered", quoted(&as_text(jku)), quoted(registered));
        let hint = "leave it out, or make it the registered URL, byte for byte";
        report.add(Severity::Error, "jku", what, hint, Cited::of(rule));
    }
}

/// A string without its quotes, anything else as JSON.
pub(super) fn as_text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}
