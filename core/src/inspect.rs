//! Everything that is wrong with a JWT, for one kind of authorization server: worst first, each with its rule.
//!
//! Takes what people have in their hands: a JWT as it was copied, a JWK Set as it was found. What does not parse is a
//! finding, not an error. Time is linear in the input, whose size is limited.

use std::{borrow::Cow, fmt};

use serde::Serialize;

use crate::{
    profile::{Evidence, Profile, Rule},
    time::Timestamp,
};

mod audience;
mod certificates;
mod claims;
mod compact;
mod dates;
mod header;
mod keyset;
mod signature;
mod text;

pub(crate) use self::keyset::public as public_key_of;
pub use self::{
    compact::Part,
    keyset::{KeySet, LARGEST_JWKS},
    text::printable,
};

/// The longest text that is looked at, in bytes: several servers take less.
pub const LONGEST_JWT: usize = 64 * 1024;

/// What a JWT is compared with.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    /// Whose rules; `None` for those of the specifications.
    pub profile: Option<&'a Profile>,
    /// The keys that a verifier would have.
    pub keys: Option<&'a KeySet>,
    pub expect: &'a Expectations,
    pub now: Timestamp,
}

/// What is known of the client and its authorization server; whatever is empty is not compared.
#[derive(Clone, Debug, Default)]
pub struct Expectations {
    pub client_id: Option<String>,
    /// What was registered beside the `client_id`.
    pub iss: Option<String>,
    /// Each that is right as `aud`, byte for byte.
    pub audiences: Vec<String>,
    /// Addresses of the same server that are often taken for the audience, each with what it is: the issuer, the FHIR base.
    pub elsewhere: Vec<(String, String)>,
    /// The JWKS URL as registered: `jku`, if it is there, must be it.
    pub jwks_url: Option<String>,
    /// DER certificates as registered, leaf first.
    pub chain: Vec<Vec<u8>>,
}

/// What a JWT says, and what is wrong with it.
#[derive(Clone, Debug, Serialize)]
pub struct Inspection {
    /// `None` where it could not be decoded.
    pub header: Option<Part>,
    /// `None` where they could not be decoded.
    pub claims: Option<Part>,
    pub signature: Signature,
    /// Worst first.
    pub findings: Vec<Finding>,
}

/// Whether the signature verifies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "state", content = "why", rename_all = "kebab-case")]
pub enum Signature {
    /// With that key.
    Verified(String),
    Failed(String),
    NotChecked(String),
}

/// Something that is wrong, or may be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    pub severity: Severity,
    /// What it is about: a member of the header, a claim, `signature`, `jwks`, …
    pub about: String,
    pub what: String,
    /// What to do about it.
    pub hint: String,
    pub rule: Cited,
}

/// How bad it is, worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// It will be refused, or must not be used.
    Error,
    /// Some systems refuse it, or nobody knows.
    Warning,
    /// May be a sign of something.
    Note,
}

/// Where a rule can be read, and how it is known.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Cited {
    pub source: Cow<'static, str>,
    pub evidence: Evidence,
}

/// The input is larger than anybody would take.
#[derive(Debug, thiserror::Error)]
#[error("{what} of {bytes} bytes is too large: at most {most} are looked at")]
pub struct TooLarge {
    pub what: &'static str,
    pub bytes: usize,
    pub most: usize,
}

/// Looks at `text`: a JWT in its compact form, also with white space, `Bearer` or line breaks from copying.
pub fn inspect(text: &str, question: Question<'_>) -> Result<Inspection, TooLarge> {
    if text.len() > LONGEST_JWT {
        return Err(TooLarge { what: "a JWT", bytes: text.len(), most: LONGEST_JWT });
    }
    let mut report = Report::default();
    let compact = compact::read(text, &mut report);
    let context = Context::of(question);
    let alg = compact.header.as_ref().and_then(|part| header::check(part, &context, &mut report));
    if let Some(part) = &compact.claims {
        claims::check(part, &context, &mut report);
        dates::check(part, &context, &mut report);
        audience::check(part, &context, &mut report);
    }
    let chain = compact.header.as_ref().map(|part| certificates::check(part, &context, &mut report));
    if let Some(keys) = context.keys {
        keyset::check(keys, &mut report);
    }
    let signature = signature::check(&compact, alg, chain.unwrap_or_default(), &context, &mut report);
    Ok(Inspection { header: compact.header, claims: compact.claims, signature, findings: report.sorted() })
}

impl Inspection {
    /// Whether anything is wrong for sure.
    pub fn has_errors(&self) -> bool {
        self.findings.iter().any(|finding| finding.severity == Severity::Error)
    }
}

impl Severity {
    /// In texts.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warning => "warning",
            Self::Note => "note",
        }
    }
}

impl fmt::Display for Cited {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.source, self.evidence.as_str())
    }
}

impl Cited {
    fn of<T>(rule: &Rule<T>) -> Self {
        Self { source: Cow::Borrowed(rule.source), evidence: rule.evidence }
    }

    const fn specified(source: &'static str) -> Self {
        Self { source: Cow::Borrowed(source), evidence: Evidence::Specification }
    }

    const fn measured(source: &'static str) -> Self {
        Self { source: Cow::Borrowed(source), evidence: Evidence::Measured }
    }

    /// Seen with users, and no rule of anybody's.
    const fn heard(source: &'static str) -> Self {
        Self { source: Cow::Borrowed(source), evidence: Evidence::Hearsay }
    }

    /// How bad it is to break this rule: what nobody vouches for is a warning.
    fn severity(&self) -> Severity {
        match self.evidence {
            Evidence::Hearsay | Evidence::Unverified => Severity::Warning,
            Evidence::Measured | Evidence::Source | Evidence::Specification | Evidence::Documentation => {
                Severity::Error
            }
        }
    }
}

/// What every check reads.
#[derive(Clone, Copy)]
struct Context<'a> {
    profile: &'a Profile,
    keys: Option<&'a KeySet>,
    expect: &'a Expectations,
    now: Timestamp,
}

impl<'a> Context<'a> {
    fn of(question: Question<'a>) -> Self {
        let Question { profile, keys, expect, now } = question;
        Self { profile: profile.unwrap_or(Profile::generic()), keys, expect, now }
    }
}

/// Gathers what is found.
#[derive(Debug, Default)]
struct Report {
    findings: Vec<Finding>,
}

impl Report {
    fn add(&mut self, severity: Severity, about: &str, what: impl Into<String>, hint: impl Into<String>, rule: Cited) {
        let (about, what, hint) = (about.to_owned(), what.into(), hint.into());
        self.findings.push(Finding { severity, about, what, hint, rule });
    }

    /// An error, or a warning where nobody vouches for the rule.
    fn broken(&mut self, about: &str, what: impl Into<String>, hint: impl Into<String>, rule: Cited) {
        self.add(rule.severity(), about, what, hint, rule);
    }

    fn sorted(mut self) -> Vec<Finding> {
        self.findings.sort_by_key(|finding| finding.severity);
        self.findings
    }
}

#[cfg(test)]
mod tests;
