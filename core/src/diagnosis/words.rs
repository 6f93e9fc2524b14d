//! What the authorization server said.

use serde_json::Value;

use super::{About, Answer, Cause, Certainty, Facts, printable};
use crate::profile::{Profile, Refusal};

/// What the words are known to mean, by the profile, else by the specifications; and what the status alone says.
pub(super) fn causes(facts: &Facts<'_>) -> Vec<Cause> {
    let Some(answer) = facts.answer else { return Vec::new() };
    let said = Said::read(answer);
    let mut causes: Vec<_> = matching(facts.profile, &said).map(|refusal| meaning(facts, refusal)).collect();
    if causes.is_empty() {
        let usual = Profile::find(Profile::DEFAULT);
        causes
            .extend(usual.into_iter().flat_map(|usual| matching(usual, &said)).map(|refusal| meaning(facts, refusal)));
    }
    causes.extend(by_status(facts, answer, &said));
    causes
}

/// Whether the answer is about what was asked for, and not about who asks: the assertion was taken then.
pub(super) fn assertion_was_taken(answer: &Answer) -> bool {
    let error = Said::read(answer).error;
    error.is_some_and(|error| AFTER_AUTHENTICATION.contains(&error.as_str()))
}

/// The body, and what OAuth has in it.
struct Said {
    /// As it came, and as JSON without white space: profiles quote either.
    texts: [String; 2],
    error: Option<String>,
}

impl Said {
    fn read(answer: &Answer) -> Self {
        let json: Option<Value> = serde_json::from_str(&answer.body).ok();
        let error = json.as_ref().and_then(|json| json.get("error")?.as_str().map(str::to_owned));
        let compact = json.map(|json| json.to_string()).unwrap_or_default();
        Self { texts: [answer.body.clone(), compact], error }
    }

    fn has(&self, words: &str) -> bool {
        self.texts.iter().any(|text| text.contains(words))
    }
}

fn matching<'a>(profile: &'a Profile, said: &'a Said) -> impl Iterator<Item = &'a Refusal> {
    profile.refusals.iter().filter(|refusal| said.has(refusal.says))
}

fn meaning(facts: &Facts<'_>, refusal: &Refusal) -> Cause {
    let Refusal { says, means, remedy } = *refusal;
    let certainty = match says {
        "" => Certainty::Open,
        code if ANYTHING.contains(&code) => Certainty::Open,
        _ => Certainty::Said,
    };
    let why = match says {
        "" => format!("every refusal of {} may mean it", facts.profile.system),
        says => format!("the answer has `{}`", printable(says, 200)),
    };
    // The profile writes for any client.
    let next = remedy.replace("CLIENT", facts.client.name);
    Cause { about: About::Answer, certainty, what: means.to_owned(), why, next, evidence: None }
}

fn by_status(facts: &Facts<'_>, answer: &Answer, said: &Said) -> Option<Cause> {
    let endpoint = printable(facts.client.token_endpoint, 200);
    let (what, next) = match answer.status {
        300..=399 => (
            "the token endpoint sends elsewhere, and an assertion is not sent on",
            "take the token endpoint from `hallmark discover URL`",
        ),
        404 | 405 if said.error.is_none() => {
            ("there is no token endpoint at that URL", "take it from `hallmark discover URL`, byte for byte")
        }
        403 if said.error.is_none() => (
            "something before the authorization server keeps the request out",
            "ask the site whether a firewall or a list of addresses lets this machine in",
        ),
        429 => ("too many requests", "wait, and let callers keep their access tokens until these expire"),
        500..=599 => (
            "the authorization server is out of order, or can't reach something that it needs",
            "try again later; it may be the JWKS URL that it can't read",
        ),
        _ => return None,
    };
    let why = format!("`{endpoint}` answered {}", answer.status);
    let (what, next) = (what.to_owned(), next.to_owned());
    Some(Cause { about: About::Answer, certainty: Certainty::Said, what, why, next, evidence: None })
}

/// Said for whatever is wrong.
const ANYTHING: [&str; 3] = ["invalid_client", "invalid_grant", "invalid_request"];
/// RFC 6749 §5.2: these come when the client is known.
const AFTER_AUTHENTICATION: [&str; 4] =
    ["invalid_scope", "unauthorized_client", "unsupported_grant_type", "access_denied"];
