//! Who says it, for whom, and once: `iss`, `sub`, `jti`, and what else must be there.

use serde_json::Value;

use super::{
    Cited, Context, Part, Report, Severity,
    header::{as_text, presence},
    text::{is_guid, kind, quoted},
};
use crate::profile::{Iss, Need, Rule};

pub(super) fn check(claims: &Part, context: &Context<'_>, report: &mut Report) {
    let iss = party("iss", claims, "RFC 7523 §3, point 1", report);
    let sub = party("sub", claims, "RFC 7523 §3, point 2", report);
    if let (Some(iss), Some(sub)) = (iss, sub) {
        equal(iss, sub, context, report);
    }
    if let (Some(sub), Some(client_id)) = (sub, context.expect.client_id.as_deref()) {
        compare("sub", sub, client_id, "client_id", &looks(sub), report);
    }
    let registered = match context.profile.accepts.iss.is {
        Iss::ClientId => context.expect.iss.as_deref().or(context.expect.client_id.as_deref()),
        Iss::Registered => context.expect.iss.as_deref(),
    };
    // Where both must be one, and are, the word about `sub` says it all.
    if let (Some(iss), Some(registered)) = (iss, registered)
        && (Some(iss) != sub || context.expect.iss.is_some())
    {
        compare("iss", iss, registered, "registered issuer", "", report);
    }
    jti(claims, context, report);
    let rule = &context.profile.accepts.claims;
    for name in rule.is.iter().filter(|name| claims.get(name).is_none()) {
        report.broken(name, format!("the claim `{name}` is missing"), "this system looks for it", Cited::of(rule));
    }
}

fn party<'a>(name: &str, claims: &'a Part, source: &'static str, report: &mut Report) -> Option<&'a str> {
    let rule = Cited::specified(source);
    let text = match claims.get(name) {
        Some(Value::String(text)) => text,
        Some(other) => {
            let what = format!("`{name}` is {}, not a string", kind(other));
            report.add(Severity::Error, name, what, "the client_id as registered, as a string", rule);
            return None;
        }
        None => {
            let what = format!("`{name}` is missing");
            report.add(Severity::Error, name, what, "the client_id as registered", rule);
            return None;
        }
    };
    if text.trim() != text || text.is_empty() {
        let what = format!("`{name}` is empty, or has blanks around it: {}", quoted(text));
        report.add(Severity::Error, name, what, "the client_id as registered, byte for byte", rule);
    }
    Some(text)
}

fn equal(iss: &str, sub: &str, context: &Context<'_>, report: &mut Report) {
    let rule = &context.profile.accepts.iss;
    match rule.is {
        Iss::ClientId if iss != sub => {
            let what = format!("`iss` and `sub` differ: {} and {}{}", quoted(iss), quoted(sub), looks(sub));
            report.broken("sub", what, "both are the client_id here", Cited::of(rule));
        }
        Iss::Registered if iss == sub => {
            let what = "`iss` equals `sub`, and this system has an issuer registered beside the client_id";
            report.add(Severity::Warning, "iss", what, "`iss` is that issuer, `sub` the client_id", Cited::of(rule));
        }
        _ => {}
    }
}

fn compare(name: &str, is: &str, wanted: &str, what_wanted: &str, looks: &str, report: &mut Report) {
    if is == wanted {
        return;
    }
    let what = format!("`{name}` is {}, and the {what_wanted} is {}{looks}", quoted(is), quoted(wanted));
    let hint = "take the client_id that belongs to this environment: sandbox and production have different ones";
    report.add(Severity::Error, name, what, hint, Cited::specified("RFC 7523 §3, points 1 and 2"));
}

/// What it may be instead of a `client_id`.
fn looks(sub: &str) -> String {
    if is_guid(sub) || (sub.contains('@') && !sub.contains("://")) {
        return "; it looks like a user's id, and no user is involved here".to_owned();
    }
    String::new()
}

fn jti(claims: &Part, context: &Context<'_>, report: &mut Report) {
    let rule = &context.profile.accepts.jti;
    let need = Rule { is: rule.is.need, evidence: rule.evidence, source: rule.source };
    presence("jti", claims.get("jti").is_some(), &need, "a fresh UUID for each token request", report);
    let text = match claims.get("jti") {
        None => return,
        Some(Value::String(text)) => text,
        Some(other) => {
            let what = format!("`jti` is {}, not a string: {}", kind(other), quoted(&as_text(other)));
            report.add(Severity::Error, "jti", what, "write it as a string", Cited::specified("RFC 7519 §4.1.7"));
            return;
        }
    };
    let length = text.chars().count();
    if length == 0 && rule.is.need == Need::Required {
        report.broken("jti", "`jti` is empty", "a fresh UUID for each token request", Cited::of(rule));
    } else if length < 8 && rule.is.once {
        let what = format!("`jti` has {length} characters: it will come again by chance, and then be refused");
        report.add(Severity::Note, "jti", what, "use a UUID", Cited::of(rule));
    }
    if let Some(longest) = rule.is.longest.filter(|longest| length > *longest) {
        let what = format!("`jti` has {length} characters, and {longest} are taken");
        report.broken("jti", what, "use a UUID: 36 characters", Cited::of(rule));
    }
}
