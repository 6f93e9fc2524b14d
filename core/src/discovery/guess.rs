//! Which profile a server may want, by what its documents show.

use std::cmp::Reverse;

use super::{Discovery, Document, Kind};
use crate::profile::Profile;

/// A profile that may be meant, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guess {
    pub profile: &'static Profile,
    pub why: String,
}

/// What gives a system away.
enum Sign {
    /// A part of the host's name, of any URL in the documents or the one that was asked.
    Host(&'static str),
    /// A part of the token endpoint.
    TokenEndpoint(&'static str),
    /// The beginning of the FHIR server's software, in lower case.
    Software(&'static str),
    /// There is such a document.
    Has(Kind),
    /// A `capabilities` entry or an authentication method.
    Lists(&'static str),
}

/// By profile, with how much each sign says. Names and paths are those that verifiers of this kind are installed with.
const SIGNS: &[(&str, u8, Sign)] = &[
    ("webchart", 9, Sign::TokenEndpoint("/webchart.cgi/")),
    ("openemr-8", 9, Sign::Software("openemr 8")),
    ("openemr-7", 8, Sign::Software("openemr")),
    ("openemr-7", 4, Sign::TokenEndpoint("/oauth2/default/token")),
    ("epic", 8, Sign::Software("epic")),
    ("epic", 6, Sign::TokenEndpoint("/interconnect")),
    ("oracle-health", 9, Sign::TokenEndpoint("/protocols/oauth2/profiles/smart-v1/token")),
    ("oracle-health", 6, Sign::Host("cerner.com")),
    ("careevolution", 9, Sign::Host("careevolution.com")),
    ("careevolution", 3, Sign::TokenEndpoint("/identityserver/connect/token")),
    ("ecw-healow", 9, Sign::Host("eclinicalworks.com")),
    ("ecw-healow", 9, Sign::Host("healow.com")),
    ("smart-bulk-data-server", 8, Sign::Host("bulk-data.smarthealthit.org")),
    ("keycloak", 9, Sign::TokenEndpoint("/protocol/openid-connect/token")),
    ("entra", 9, Sign::Host("login.microsoftonline.")),
    ("auth0", 9, Sign::Host(".auth0.com")),
    ("okta", 9, Sign::Host(".okta.com")),
    ("okta", 9, Sign::Host(".oktapreview.com")),
    ("udap-b2b", 5, Sign::Has(Kind::Udap)),
    ("smart-v2", 3, Sign::Lists("client-confidential-asymmetric")),
    ("smart-v2", 2, Sign::Has(Kind::Smart)),
    ("generic", 1, Sign::Lists("private_key_jwt")),
];

/// Likeliest first; the default profile where nothing gives the system away.
pub(super) fn guesses(discovery: &Discovery) -> Vec<Guess> {
    let mut signs: Vec<_> = SIGNS.iter().filter_map(|sign| Some((sign, seen(discovery, &sign.2)?))).collect();
    // Who refuses every algorithm that the server lists is hardly meant, whatever the address looks like.
    signs.sort_by_key(|((name, weight, _), _)| {
        let shares = Profile::find(name).is_some_and(|profile| discovery.shares_alg(profile));
        Reverse((shares, *weight))
    });
    let mut guesses: Vec<Guess> = Vec::new();
    for ((name, ..), why) in signs {
        let Some(profile) = Profile::find(name) else { continue };
        if !guesses.iter().any(|guess| guess.profile == profile) {
            guesses.push(Guess { profile, why });
        }
    }
    if guesses.is_empty() {
        let why = "nothing in its documents gives the system away".to_owned();
        guesses.extend(Profile::find(Profile::DEFAULT).map(|profile| Guess { profile, why }));
    }
    guesses
}

/// Why, where the sign is there.
fn seen(discovery: &Discovery, sign: &Sign) -> Option<String> {
    let documents = || discovery.documents.iter().map(|(_, document)| document);
    match sign {
        Sign::Host(part) => {
            let mut found = documents().flat_map(urls).chain([discovery.url.as_str()]).map(host);
            found.find(|host| host.contains(part)).map(|host| format!("the host is `{host}`"))
        }
        Sign::TokenEndpoint(part) => {
            let found = documents().filter_map(|document| document.token_endpoint.as_deref());
            let holds = |url: &&str| url.to_ascii_lowercase().contains(part);
            found.into_iter().find(holds).map(|_| format!("the token endpoint has `{part}`"))
        }
        Sign::Software(name) => {
            let found = documents().filter_map(|document| document.software.as_deref());
            let begins = |software: &&str| software.to_ascii_lowercase().starts_with(name);
            found.into_iter().find(begins).map(|software| format!("the software is `{software}`"))
        }
        Sign::Has(kind) => {
            let has = discovery.documents.iter().any(|(other, _)| other == kind);
            has.then(|| format!("it has a document `{}`", kind.as_str()))
        }
        Sign::Lists(word) => {
            let lists = |document: &Document| {
                [&document.capabilities, &document.auth_methods].map(|list| list.iter().any(|item| item == word))
            };
            documents().any(|document| lists(document).contains(&true)).then(|| format!("it lists `{word}`"))
        }
    }
}

fn urls(document: &Document) -> impl Iterator<Item = &str> {
    [&document.token_endpoint, &document.issuer].into_iter().filter_map(Option::as_deref)
}

/// The host of a URL, with its port, as it is written.
fn host(url: &str) -> &str {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let authority = rest.split(['/', '?', '#']).next().unwrap_or(rest);
    authority.rsplit('@').next().unwrap_or(authority)
}

/// The profiles that can be guessed.
#[cfg(test)]
pub(super) fn guessable() -> impl Iterator<Item = &'static str> {
    SIGNS.iter().map(|(name, ..)| *name)
}
