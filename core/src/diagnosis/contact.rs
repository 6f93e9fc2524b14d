//! Whether the authorization server can be reached at all.

use super::{About, Cause, Facts, Outcome};

/// What came of asking the token endpoint's host for anything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Contact {
    /// Nobody asked, and why.
    NotAsked(String),
    /// It answered, with a document or without.
    Answered {
        /// Scheme, host and port.
        at: String,
    },
    /// No question was answered: what kept the answers away, and what to do.
    Nothing {
        /// Not one connection could be made, so that a token request can't be sent from here either. Else answers stayed
        /// away for questions of ours, and a token request may fare better.
        unconnected: bool,
        what: String,
        next: String,
    },
}

pub(super) fn contact(facts: &Facts<'_>) -> Outcome {
    match facts.contact {
        // What refused was there, from where the token request came.
        _ if facts.answer.is_some() => Outcome::Good("it answered the token request".to_owned()),
        Contact::NotAsked(why) => Outcome::Skipped(why.clone()),
        Contact::Answered { at } => Outcome::Good(format!("`{at}` answers")),
        Contact::Nothing { unconnected, what, next } => {
            let why = "no assertion was sent: the discovery documents were asked for, and not one of these questions came through";
            Outcome::Bad(Cause::found(About::Contact, what.clone(), why, next.clone()).likely(!unconnected))
        }
    }
}
