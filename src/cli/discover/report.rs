//! What was found, for printing.

use hallmark_core::{
    discovery::{Discovery, Document, Guess, Kind},
    key::ClientName,
    profile::Profile,
};
use serde_json::{Value, json};

use super::{Output, place, printable, section::sections, unanswered};
use crate::{cli::diagnose::Unanswered, verifier::Unreached};

/// One document that was asked for.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    pub(super) kind: Kind,
    /// Where it was looked for last.
    pub(super) url: String,
    /// Why there is none.
    pub(super) outcome: String,
    /// The same where nothing answered, at any place of this document.
    pub(super) unreached: Option<Unreached>,
    pub(super) document: Option<Document>,
}

impl Asked {
    pub(super) fn of(kind: Kind) -> Self {
        Self { kind, url: String::new(), outcome: String::new(), unreached: None, document: None }
    }
}

pub(super) struct Report {
    asked: Vec<Asked>,
    discovery: Discovery,
    /// Likeliest first; the one that was asked for alone where one was.
    guesses: Vec<Guess>,
    /// The `[[client]]` section; empty without a token endpoint.
    sections: String,
    /// Why there is less of it than the server says.
    refused: Vec<String>,
}

impl Report {
    pub(super) fn new(
        asked: Vec<Asked>,
        discovery: Discovery,
        profile: Option<&'static Profile>,
        name: Option<&ClientName>,
    ) -> Self {
        let chosen = profile.map(|profile| vec![Guess { profile, why: "it was asked for".to_owned() }]);
        let guesses = chosen.unwrap_or_else(|| discovery.guesses());
        let mut refused = Vec::new();
        let sections = sections(&discovery, guesses.first(), name, &mut refused);
        Self { asked, discovery, guesses, sections, refused }
    }

    /// Whether there is something to paste.
    pub(super) fn has_section(&self) -> bool {
        !self.sections.is_empty()
    }

    /// The section on standard output, so that it can be appended to a file; the rest beside it.
    pub(super) fn as_text(&self) -> Output {
        if let Some(Unanswered { what, next, .. }) = self.unanswered() {
            return Output { stdout: String::new(), stderr: format!("{what}\nhint: {next}\n") };
        }
        let mut stderr = String::new();
        for asked in &self.asked {
            match &asked.document {
                Some(document) => {
                    stderr += &format!("✓ {} at {}\n", asked.kind.as_str(), asked.url);
                    stderr.extend(document.oddities.iter().map(|odd| format!("    odd: {}\n", printable(odd))));
                }
                None => stderr += &format!("– no {}: {} {}\n", asked.kind.as_str(), asked.url, asked.outcome),
            }
        }
        for remark in self.remarks() {
            stderr += &format!("{remark}\n");
        }
        stderr += match self.sections.is_empty() {
            true => {
                "hint: ask the site for its token endpoint, byte for byte, and write the section by hand; see `docs/profiles/`\n"
            }
            false => "hint: append the section to the configuration, then: hallmark check-config --config FILE\n",
        };
        Output { stdout: self.sections.clone(), stderr }
    }

    pub(super) fn as_json(&self) -> Value {
        let documents: Vec<_> = self.asked.iter().map(document_json).collect();
        let guess = |guess: &Guess| json!({ "profile": guess.profile.name, "why": guess.why });
        json!({
            "url": self.discovery.url,
            "unreached": self.unanswered().map(|unanswered| unanswered.what),
            "documents": documents,
            "token_endpoint": self.discovery.token_endpoint().map(|(_, url)| url),
            "issuer": self.discovery.issuer().map(|(_, url)| url),
            "registration_endpoint": self.discovery.registration_endpoint().map(|(_, url)| url),
            "signing_algs": self.discovery.signing_algs(),
            "guesses": self.guesses.iter().map(guess).collect::<Vec<_>>(),
            "refused": self.refused,
            "section": (!self.sections.is_empty()).then_some(&self.sections),
        })
    }

    /// Where no question for a document had any answer.
    fn unanswered(&self) -> Option<Unanswered> {
        let kept_away: Option<Vec<_>> = self.asked.iter().map(|asked| asked.unreached.as_ref()).collect();
        unanswered(&place(&self.discovery.url), &kept_away?)
    }

    fn remarks(&self) -> Vec<String> {
        let Some((kind, endpoint)) = self.discovery.token_endpoint() else {
            return vec!["no document names a token endpoint".to_owned()];
        };
        let mut remarks = self.refused.clone();
        for (other, url) in self.discovery.other_token_endpoints() {
            let (url, kind, other) = (printable(url), kind.as_str(), other.as_str());
            remarks.push(format!("{other} names another token endpoint, `{url}`; {kind} is believed"));
        }
        if endpoint.ends_with('/') {
            remarks.push("the token endpoint ends with a slash, which is a part of `aud`: keep it".to_owned());
        }
        if let Some(Guess { profile, why }) = self.guesses.first() {
            remarks.push(format!("profile `{}` ({}): {}", profile.name, profile.system, printable(why)));
            let listed = self.discovery.signing_algs();
            if !self.discovery.shares_alg(profile) {
                let listed = printable(&listed.join(", "));
                remarks.push(format!("it takes none of the algorithms that the server lists: {listed}"));
            }
        }
        for Guess { profile, why } in self.guesses.iter().skip(1) {
            remarks.push(format!("  or `{}`: {}", profile.name, printable(why)));
        }
        remarks
    }
}

fn document_json(asked: &Asked) -> Value {
    let document = asked.document.as_ref();
    json!({
        "kind": asked.kind.as_str(),
        "url": asked.url,
        "read": document.is_some(),
        "why_not": document.is_none().then_some(&asked.outcome),
        "token_endpoint": document.and_then(|document| document.token_endpoint.as_ref()),
        "oddities": document.map(|document| &document.oddities),
    })
}
