//! `aud` against what the authorization server calls itself. Verifiers compare bytes.

use super::{About, Cause, Facts, Outcome, printable};
use crate::{
    discovery::{Discovery, Kind},
    profile::Audience,
};

pub(super) fn audience(facts: &Facts<'_>) -> Outcome {
    let Some(discovery) = facts.discovery.filter(|discovery| !discovery.documents.is_empty()) else {
        return Outcome::Skipped(
            "the authorization server publishes no discovery document that could be found".to_owned(),
        );
    };
    let sent = match facts.assertion {
        Some(assertion) => match assertion.claim("aud") {
            Some(aud) => aud,
            None => return no_text(facts),
        },
        None => facts.client.token_endpoint,
    };
    let published = names(discovery, facts.profile.accepts.aud.is);
    if published.iter().any(|name| name.value == sent) {
        return Outcome::Good(format!("`aud` is `{}`, as the server publishes it", printable(sent, 200)));
    }
    match closest(&published, sent) {
        Some(name) => Outcome::Bad(differs(facts, sent, name)),
        None => Outcome::Skipped("no discovery document names a token endpoint".to_owned()),
    }
}

/// A name by which the server knows itself.
struct Name<'a> {
    kind: Kind,
    which: Audience,
    value: &'a str,
}

fn names<'a>(discovery: &'a Discovery, taken: &[Audience]) -> Vec<Name<'a>> {
    let of = |(kind, document): &'a (Kind, crate::discovery::Document)| {
        let endpoints = [&document.token_endpoint, &document.carequality_token_endpoint]
            .map(|value| (Audience::TokenEndpoint, value));
        let all = endpoints.into_iter().chain([(Audience::Issuer, &document.issuer)]);
        all.filter(|(which, _)| taken.contains(which))
            .filter_map(|(which, value)| Some(Name { kind: *kind, which, value: value.as_deref()? }))
            .collect::<Vec<_>>()
    };
    discovery.documents.iter().flat_map(of).collect()
}

/// The name that is likeliest meant: the one that agrees the longest.
fn closest<'a, 'b>(names: &'b [Name<'a>], sent: &str) -> Option<&'b Name<'a>> {
    // Of two that agree alike, the one that is more believed comes first.
    names.iter().rev().max_by_key(|name| first_difference(sent, name.value))
}

fn differs(facts: &Facts<'_>, sent: &str, name: &Name<'_>) -> Cause {
    let at = first_difference(sent, name.value);
    let (how, trivial) = kind_of_difference(sent, name.value);
    let is = match name.which {
        Audience::TokenEndpoint => "token endpoint",
        Audience::Issuer => "issuer",
    };
    let what = format!(
        "`aud` is `{}`, and the server calls its {is} `{}`: {how}",
        printable(sent, 200),
        printable(name.value, 200)
    );
    let why = format!(
        "in its {} the first difference is at byte {at}: {} is sent, {} is published",
        name.kind.as_str(),
        from(sent, at),
        from(name.value, at)
    );
    let setting = if name.which == Audience::Issuer { "issuer" } else { "token_endpoint" };
    let next =
        format!("set `{setting} = \"{}\"` in the [[client]] of `{}`", printable(name.value, 200), facts.client.name);
    let rule = &facts.profile.accepts.aud;
    // A server may have other names than the one that it publishes; it has none that differs by a slash alone.
    let cause = Cause::found(About::Audience, what, why, next);
    if trivial { cause } else { cause.known(rule.evidence, rule.source).likely(true) }
}

fn no_text(facts: &Facts<'_>) -> Outcome {
    let rule = &facts.profile.accepts.aud_array;
    let next = format!("take an `aud` out of the extra claims of `{}`", facts.client.name);
    let cause = Cause::found(About::Audience, "`aud` is no text", "many verifiers take one text only", next);
    Outcome::Bad(cause.known(rule.evidence, rule.source))
}

fn first_difference(one: &str, other: &str) -> usize {
    one.bytes().zip(other.bytes()).take_while(|(one, other)| one == other).count()
}

/// What is at that byte, and a little after it.
fn from(text: &str, at: usize) -> String {
    let start = (0..=at.min(text.len())).rev().find(|start| text.is_char_boundary(*start)).unwrap_or(0);
    match &text[start..] {
        "" => "nothing more".to_owned(),
        rest => format!("`{}`", printable(rest, 24)),
    }
}

/// In words; and whether the two can't both be names of one server.
fn kind_of_difference(sent: &str, published: &str) -> (&'static str, bool) {
    let (sent_scheme, sent_rest) = sent.split_once("://").unwrap_or(("", sent));
    let (scheme, rest) = published.split_once("://").unwrap_or(("", published));
    let squeezed = |text: &str| {
        let mut text = text.to_owned();
        while text.contains("//") {
            text = text.replace("//", "/");
        }
        text
    };
    if sent.strip_suffix('/') == Some(published) {
        return ("a slash at the end that does not belong there", true);
    }
    if published.strip_suffix('/') == Some(sent) {
        return ("the slash at the end is missing", true);
    }
    if sent.trim() == published {
        return ("white space around it", true);
    }
    if sent_rest == rest && sent_scheme != scheme {
        return ("http and https", true);
    }
    if sent.eq_ignore_ascii_case(published) {
        return ("upper and lower case", true);
    }
    if squeezed(sent_rest) == squeezed(rest) {
        return ("a double slash", true);
    }
    let host = |rest: &str| rest.split('/').next().unwrap_or_default().to_owned();
    if host(sent_rest) == host(rest) { ("another path", false) } else { ("another host", false) }
}
