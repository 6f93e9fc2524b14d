//! What was registered: the `client_id` and the algorithm; and what can't be seen from here.

use super::{About, Cause, Certainty, Facts, Outcome, printable};
use crate::profile::{Iss, Profile};

/// What of the `client_id` can be judged without asking.
pub(super) fn client_id(facts: &Facts<'_>) -> Outcome {
    let name = facts.client.name;
    let bad = |what: String, why: &str| {
        let next = format!(
            "set `client_id` in the [[client]] of `{name}`, byte for byte as the authorization server shows it"
        );
        Outcome::Bad(Cause::found(About::ClientId, what, why, next))
    };
    let Some(id) = facts.client.client_id.filter(|id| !id.is_empty()) else {
        return bad("the client has no `client_id`".to_owned(), "it is empty in the configuration");
    };
    let shown = printable(id, 80);
    if id.trim().is_empty() || id.chars().any(|char| char.is_whitespace() || char.is_control()) {
        return bad(format!("the `client_id` has white space in it: `{shown}`"), "no server hands out such a one");
    }
    if let Some(assertion) = facts.assertion {
        let iss = match facts.profile.accepts.iss.is {
            Iss::ClientId => id,
            Iss::Registered => facts.client.iss.unwrap_or(id),
        };
        for (claim, expected) in [("sub", id), ("iss", iss)] {
            let sent = assertion.claim(claim);
            if sent != Some(expected) {
                let sent = sent.map_or("nothing".to_owned(), |sent| format!("`{}`", printable(sent, 80)));
                let what = format!("`{claim}` is {sent} and not `{}`", printable(expected, 80));
                return bad(what, "the authorization server looks the client up by it");
            }
        }
    }
    Outcome::Good(format!("`client_id` is `{shown}`"))
}

/// The algorithm against the profile, and against what the server lists.
pub(super) fn algorithm(facts: &Facts<'_>) -> Outcome {
    let Some(alg) = facts.assertion.and_then(|assertion| assertion.header("alg")) else {
        return Outcome::Skipped("nothing was signed".to_owned());
    };
    let (accepts, name) = (&facts.profile.accepts.algs, facts.client.name);
    let takes = |list: &[String]| list.is_empty() || list.iter().any(|listed| listed == alg);
    let next = |other: &str| {
        format!("give the client a key that it takes: `keys = [{{ alg = \"{other}\" }}]` in the [[client]] of `{name}`")
    };
    let listed = facts.discovery.map(|discovery| discovery.signing_algs()).unwrap_or_default();
    if !takes(listed) {
        let list = printable(&listed.join(", "), 200);
        let why = format!("it lists {list} in `token_endpoint_auth_signing_alg_values_supported`");
        let other = accepts.is.iter().map(|alg| alg.as_str()).find(|alg| listed.iter().any(|listed| listed == alg));
        let next = next(other.unwrap_or(printable(&listed[0], 20).as_str()));
        return Outcome::Bad(Cause::found(
            About::Algorithm,
            format!("the authorization server takes no {alg}"),
            why,
            next,
        ));
    }
    if !accepts.is.iter().any(|known| known.as_str() == alg) {
        let known: Vec<_> = accepts.is.iter().map(|alg| alg.as_str()).collect();
        let why = format!("{} takes {}", facts.profile.system, known.join(", "));
        let cause =
            Cause::found(About::Algorithm, format!("{} takes no {alg}", facts.profile.system), why, next(known[0]));
        // The site at hand lists it: it knows better than we do.
        return Outcome::Bad(cause.known(accepts.evidence, accepts.source).likely(!listed.is_empty()));
    }
    Outcome::Good(if listed.is_empty() {
        format!("{alg}, as {} takes it", facts.profile.system)
    } else {
        format!("{alg} is in the server's list")
    })
}

/// What only the authorization server's side can say.
pub(super) fn questions(facts: &Facts<'_>) -> Vec<Cause> {
    let mut causes = Vec::new();
    if !facts.answer.is_some_and(super::words::assertion_was_taken) {
        causes.push(unknown_client(facts));
    }
    let open = facts.profile.unverified.iter().map(|question| Cause {
        about: About::Unverified,
        certainty: Certainty::Open,
        what: format!("not known of {}: {question}", facts.profile.system),
        why: "nobody was found who says so".to_owned(),
        next: "ask the site".to_owned(),
        evidence: None,
    });
    causes.extend(open);
    causes
}

fn unknown_client(facts: &Facts<'_>) -> Cause {
    let id = printable(facts.client.client_id.unwrap_or_default(), 80);
    let Profile { registration, .. } = facts.profile;
    let steps = registration.steps.iter().map(|step| format!("; {step}")).collect::<String>();
    let environment = if looks_like_a_trial(facts.client.token_endpoint) {
        "this token endpoint looks like one for trying out, which wants the `client_id` for trying out"
    } else {
        "it may also be that of another environment: many systems have one for production and one for trying out"
    };
    Cause {
        about: About::ClientId,
        certainty: Certainty::Possible,
        what: format!(
            "the `client_id` `{id}` is not known there, not enabled, or registered with another JWKS URL or algorithm"
        ),
        why: format!("it can't be seen from here; {environment}"),
        next: format!("compare with the registration, byte for byte: hallmark sign {}{steps}", facts.client.name),
        evidence: None,
    }
}

fn looks_like_a_trial(url: &str) -> bool {
    let url = url.to_ascii_lowercase();
    let words = [
        "sandbox",
        "staging",
        "stage",
        "nonprod",
        "non-prod",
        "-test",
        "test.",
        "-dev",
        "dev.",
        "uat",
        "fhir.epic.com",
    ];
    words.iter().any(|word| url.contains(word))
}
