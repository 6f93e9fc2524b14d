//! Why an authorization server says no.
//!
//! Most of them answer `invalid_client` whatever is wrong. What was sent, what came back and what can be seen from outside
//! go in; causes come out, the likeliest first. `hallmark token` shows the causes, `hallmark doctor` each check.

use std::cmp::Reverse;

use serde_json::{Map, Value};

use crate::{
    discovery::Discovery,
    profile::{Evidence, Profile},
    time::Timestamp,
};

mod audience;
mod certificate;
mod clock;
mod contact;
mod key_set;
mod registration;
mod rules;
mod text;
mod words;

pub use certificate::is_key;
pub use contact::Contact;
pub use key_set::doubts;
pub use text::printable;

/// The members of a JSON object.
pub type Members = Map<String, Value>;

/// What is known. What is not was not asked, or could not be.
#[derive(Clone, Debug)]
pub struct Facts<'a> {
    pub client: Registered<'a>,
    pub profile: &'a Profile,
    pub assertion: Option<&'a Assertion>,
    /// Of the key that signs.
    pub kid: Option<&'a str>,
    pub key_set: &'a KeySet,
    /// Whether the authorization server's host answers at all.
    pub contact: &'a Contact,
    /// What the authorization server says of itself.
    pub discovery: Option<&'a Discovery>,
    /// The authorization server's clock: the `Date` of its answer.
    pub server_time: Option<Timestamp>,
    /// This machine's, at that moment. It counts where there is no assertion, whose dates are Hallmark's clock.
    pub our_time: Timestamp,
    /// Its answer to a token request that it refused.
    pub answer: Option<&'a Answer>,
}

/// The client as Hallmark's configuration has it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Registered<'a> {
    /// Hallmark's name of it.
    pub name: &'a str,
    pub client_id: Option<&'a str>,
    /// What `iss` is, where that is not the `client_id`.
    pub iss: Option<&'a str>,
    pub token_endpoint: &'a str,
}

/// An assertion without its signature.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Assertion {
    pub header: Members,
    pub claims: Members,
}

/// An authorization server's refusal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub body: String,
}

/// The client's keys, as Hallmark publishes them and as they are seen from outside.
#[derive(Clone, Debug)]
pub struct KeySet {
    pub url: String,
    pub ours: Vec<Members>,
    pub outside: Outside,
}

/// What is at the JWKS URL.
#[derive(Clone, Debug)]
pub enum Outside {
    /// Nobody looked, and why.
    NotAsked(String),
    /// Nothing that a verifier could use: what, and what to do.
    Nothing { what: String, next: String },
    Keys {
        keys: Vec<Members>,
        /// What some verifiers, or those elsewhere, trip over.
        doubts: Vec<String>,
    },
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Check {
    pub about: About,
    pub outcome: Outcome,
}

/// How it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    Good(String),
    Bad(Cause),
    /// It could not be looked at, or does not matter here.
    Skipped(String),
}

/// What may have made the authorization server refuse.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    pub about: About,
    pub certainty: Certainty,
    pub what: String,
    /// Why it is thought so.
    pub why: String,
    /// What to type or do next.
    pub next: String,
    /// How it is known that the system minds.
    pub evidence: Option<(Evidence, &'static str)>,
}

/// How sure it is, surest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Certainty {
    /// It was looked at now, and is wrong.
    Found,
    /// The authorization server says so, in words that are known.
    Said,
    Likely,
    Possible,
    /// Nobody knows how the system does this.
    Open,
}

/// What a check or a cause is about, in the order of the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum About {
    ClientId,
    Algorithm,
    /// Other rules of the profile.
    Rules,
    KeySet,
    Kid,
    SameKey,
    FirstRsaKey,
    Certificate,
    /// Whether the authorization server can be reached.
    Contact,
    Clock,
    Audience,
    Answer,
    Unverified,
}

/// Everything that can be checked at once, in the order of the chain.
pub fn checks(facts: &Facts<'_>) -> Vec<Check> {
    CHECKS.iter().map(|(about, check)| Check { about: *about, outcome: check(facts) }).collect()
}

/// What may have made the authorization server refuse; the likeliest first.
pub fn causes(facts: &Facts<'_>) -> Vec<Cause> {
    let bad = checks(facts).into_iter().filter_map(|check| match check.outcome {
        Outcome::Bad(cause) => Some(cause),
        Outcome::Good(_) | Outcome::Skipped(_) => None,
    });
    let mut causes: Vec<_> = bad.collect();
    causes.extend(doubts(facts));
    causes.extend(words::causes(facts));
    causes.extend(registration::questions(facts));
    // What an answer says that comes after the assertion was taken is true whatever else is odd.
    let taken = facts.answer.is_some_and(words::assertion_was_taken);
    causes.sort_by_key(|cause| {
        (Reverse(taken && cause.certainty == Certainty::Said), cause.certainty, rank(cause.about))
    });
    causes
}

type CheckOf = fn(&Facts<'_>) -> Outcome;

const CHECKS: [(About, CheckOf); 11] = [
    (About::ClientId, registration::client_id),
    (About::Algorithm, registration::algorithm),
    (About::Rules, rules::rules),
    (About::KeySet, key_set::reachable),
    (About::Kid, key_set::kid),
    (About::SameKey, key_set::same_key),
    (About::FirstRsaKey, key_set::first_rsa_key),
    (About::Certificate, certificate::certificate),
    (About::Contact, contact::contact),
    (About::Clock, clock::clock),
    (About::Audience, audience::audience),
];

/// What is likelier where several things are wrong in the same way: what no other fault could bring about comes first.
fn rank(about: About) -> usize {
    const LIKELIEST: [About; 13] = [
        About::Contact,
        About::KeySet,
        About::Kid,
        About::SameKey,
        About::FirstRsaKey,
        About::Audience,
        About::Clock,
        About::Certificate,
        About::Algorithm,
        About::Rules,
        About::ClientId,
        About::Answer,
        About::Unverified,
    ];
    LIKELIEST.iter().position(|other| *other == about).unwrap_or(LIKELIEST.len())
}

impl Assertion {
    /// From the JSON of both parts; `None` where one is no object.
    pub fn read(header: &str, claims: &str) -> Option<Self> {
        Some(Self { header: serde_json::from_str(header).ok()?, claims: serde_json::from_str(claims).ok()? })
    }

    fn header(&self, name: &str) -> Option<&str> {
        self.header.get(name).and_then(Value::as_str)
    }

    fn claim(&self, name: &str) -> Option<&str> {
        self.claims.get(name).and_then(Value::as_str)
    }

    fn date(&self, name: &str) -> Option<Timestamp> {
        self.claims.get(name).and_then(Value::as_i64).map(Timestamp::from_secs)
    }
}

impl Cause {
    fn found(about: About, what: impl Into<String>, why: impl Into<String>, next: impl Into<String>) -> Self {
        let (what, why, next) = (what.into(), why.into(), next.into());
        Self { about, certainty: Certainty::Found, what, why, next, evidence: None }
    }

    fn likely(self, likely: bool) -> Self {
        if likely { Self { certainty: Certainty::Likely, ..self } } else { self }
    }

    fn known(self, evidence: Evidence, source: &'static str) -> Self {
        // A guess about the system makes no certainty.
        let guessed = matches!(evidence, Evidence::Hearsay | Evidence::Unverified);
        Self { evidence: Some((evidence, source)), ..self }.likely(guessed)
    }
}

impl Certainty {
    /// For programs.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Found => "found",
            Self::Said => "said",
            Self::Likely => "likely",
            Self::Possible => "possible",
            Self::Open => "open",
        }
    }
}

impl About {
    /// For programs, and in the chain of `hallmark doctor`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ClientId => "client_id",
            Self::Algorithm => "algorithm",
            Self::Rules => "assertion",
            Self::KeySet => "JWKS URL",
            Self::Kid => "kid",
            Self::SameKey => "same key",
            Self::FirstRsaKey => "first RSA key",
            Self::Certificate => "certificate",
            Self::Contact => "authorization server",
            Self::Clock => "clock",
            Self::Audience => "audience",
            Self::Answer => "answer",
            Self::Unverified => "unverified",
        }
    }
}

#[cfg(test)]
mod tests;
