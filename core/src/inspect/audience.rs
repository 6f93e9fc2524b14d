//! `aud`: byte for byte what the authorization server calls itself, or why not.

use serde_json::Value;

use super::{
    Cited, Context, Part, Report, Severity,
    text::{kind, quoted},
};

pub(super) fn check(claims: &Part, context: &Context<'_>, report: &mut Report) {
    let rule = Cited::specified("RFC 7523 §3, point 3");
    let single = match claims.get("aud") {
        Some(Value::String(text)) => text,
        Some(Value::Array(values)) => return array(values, context, report),
        Some(other) => {
            let what = format!("`aud` is {}, not a string", kind(other));
            return report.add(Severity::Error, "aud", what, HINT, rule);
        }
        None => return report.add(Severity::Error, "aud", "`aud` is missing", HINT, rule),
    };
    if context.expect.audiences.is_empty() {
        return by_its_looks(single, report);
    }
    compare(single, context, report);
}

fn array(values: &[Value], context: &Context<'_>, report: &mut Report) {
    let rule = &context.profile.accepts.aud_array;
    let hint = "send the one audience as a string";
    let what = format!("`aud` is an array of {}", values.len());
    if rule.is {
        report.add(Severity::Note, "aud", what + ": taken here, and refused by many", hint, Cited::of(rule));
    } else {
        report.broken("aud", what, hint, Cited::of(rule));
    }
    let texts: Vec<_> = values.iter().filter_map(Value::as_str).collect();
    let wanted = &context.expect.audiences;
    if texts.len() < values.len() || texts.is_empty() {
        let what = "`aud` has members that are no strings, or none at all";
        report.add(Severity::Error, "aud", what, hint, Cited::specified("RFC 7519 §4.1.3"));
    } else if !wanted.is_empty() && !texts.iter().any(|text| wanted.iter().any(|wanted| wanted == text)) {
        compare(texts[0], context, report);
    }
}

fn compare(is: &str, context: &Context<'_>, report: &mut Report) {
    let rule = Cited::of(&context.profile.accepts.aud);
    let wanted = &context.expect.audiences;
    if wanted.iter().any(|wanted| wanted == is) {
        return;
    }
    if let Some((what, _)) = context.expect.elsewhere.iter().find(|(_, url)| same_place(url, is)) {
        let what = format!("`aud` is the {}, and not {}: {}", super::printable(what), quoted(&wanted[0]), quoted(is));
        return report.add(rule.severity(), "aud", what, HINT, rule);
    }
    let Some(nearest) = wanted.iter().max_by_key(|wanted| first_difference(is, wanted)) else { return };
    let at = first_difference(is, nearest);
    let what = format!(
        "`aud` is not the audience: {}; from byte {at} on it has {} instead of {}: is {}, should be {}",
        difference(is, nearest),
        rest(is, at),
        rest(nearest, at),
        quoted(is),
        quoted(nearest)
    );
    report.add(Severity::Error, "aud", what, HINT, rule);
}

/// In which way they differ, by the pitfall that people know it by.
fn difference(is: &str, wanted: &str) -> &'static str {
    if is.trim() == wanted {
        return "there are blanks around it";
    }
    if is.trim_end_matches('/') == wanted.trim_end_matches('/') {
        return if is.len() < wanted.len() {
            "the trailing slash is missing"
        } else {
            "there is a trailing slash too many"
        };
    }
    if single_slashes(is) == single_slashes(wanted) {
        return "a slash is doubled, or lost";
    }
    if is.eq_ignore_ascii_case(wanted) {
        return "upper and lower case differ";
    }
    let (Some((scheme, after)), Some((wanted_scheme, wanted_after))) = (is.split_once("://"), wanted.split_once("://"))
    else {
        return "it is another text";
    };
    if scheme != wanted_scheme && after == wanted_after {
        return "http and https are mixed up";
    }
    let [host, wanted_host] = [after, wanted_after].map(|text| text.split(['/', '?', '#']).next().unwrap_or_default());
    if host != wanted_host {
        let [name, wanted_name] = [host, wanted_host].map(|host| host.split(':').next().unwrap_or_default());
        return if name == wanted_name { "the port differs" } else { "the host differs" };
    }
    "the path differs"
}

/// Without expectations: what no audience looks like.
fn by_its_looks(aud: &str, report: &mut Report) {
    let rule = || Cited::heard("seen with audiences that were written from memory");
    let path = aud.split_once("://").map_or(aud, |(_, after)| after);
    let last = aud.trim_end_matches('/').rsplit('/').next().unwrap_or_default().to_ascii_lowercase();
    let mut odd = |what: &str| report.add(Severity::Warning, "aud", format!("{what}: {}", quoted(aud)), HINT, rule());
    if !aud.contains("://") && !aud.starts_with("urn:") {
        odd("`aud` is no URL");
    } else if aud.starts_with("http://") {
        odd("`aud` is http, and token endpoints are https");
    }
    if path.contains("//") {
        odd("`aud` has a double slash in its path");
    }
    if aud.trim() != aud {
        odd("`aud` has blanks around it");
    }
    if matches!(last.as_str(), "fhir" | "r4" | "r4b" | "r5" | "stu3" | "dstu2") {
        odd("`aud` looks like a FHIR base URL, and not like a token endpoint");
    }
}

fn same_place(a: &str, b: &str) -> bool {
    !a.is_empty() && a.trim_end_matches('/') == b.trim_end_matches('/')
}

fn single_slashes(url: &str) -> String {
    let (scheme, path) = url.split_once("://").unwrap_or(("", url));
    let segments: Vec<_> = path.split('/').filter(|segment| !segment.is_empty()).collect();
    format!("{scheme}://{}", segments.join("/"))
}

/// The index of the first byte that differs.
fn first_difference(a: &str, b: &str) -> usize {
    a.bytes().zip(b.bytes()).take_while(|(a, b)| a == b).count()
}

/// What stands there, some characters long.
fn rest(text: &str, at: usize) -> String {
    let bytes = text.as_bytes().get(at..).unwrap_or_default();
    let rest: String = String::from_utf8_lossy(bytes).chars().take(12).collect();
    if rest.is_empty() { "nothing".to_owned() } else { quoted(&rest) }
}

const HINT: &str = "copy the audience from the server's discovery document, byte for byte: hallmark discover URL";
