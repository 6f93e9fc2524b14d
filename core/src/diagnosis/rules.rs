//! The assertion by the profile's other rules: what `hallmark inspect` would say of it.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

use super::{About, Assertion, Cause, Facts, Outcome};
use crate::{
    inspect::{self, Expectations, Question, Severity, inspect},
    time::Timestamp,
};

pub(super) fn rules(facts: &Facts<'_>) -> Outcome {
    let Some(assertion) = facts.assertion else { return Outcome::Skipped("nothing was signed".to_owned()) };
    let expect = Expectations {
        client_id: facts.client.client_id.map(str::to_owned),
        iss: facts.client.iss.map(str::to_owned),
        jwks_url: Some(facts.key_set.url.clone()),
        ..Expectations::default()
    };
    // By the clock that signed it: whether that one is right is a question of its own.
    let backdate = facts.profile.makes.backdate;
    let now = assertion.date("iat").map_or(facts.our_time, |iat: Timestamp| iat.plus(backdate));
    let question = Question { profile: Some(facts.profile), keys: None, expect: &expect, now };
    let Ok(inspection) = inspect(&compact(assertion), question) else {
        return Outcome::Skipped("the assertion is too large to be looked at".to_owned());
    };
    let errors = inspection.findings.into_iter().filter(|finding| finding.severity == Severity::Error);
    match errors.into_iter().find(|finding| !LOOKED_AT.contains(&finding.about.as_str())) {
        None => Outcome::Good(format!("it breaks no rule that is known of {}", facts.profile.system)),
        Some(inspect::Finding { what, hint, rule, .. }) => {
            Outcome::Bad(Cause::found(About::Rules, what, format!("{rule}"), hint))
        }
    }
}

/// As a JWT, with a signature that is none: nobody is to have that.
fn compact(assertion: &Assertion) -> String {
    let part =
        |members: &super::Members| URL_SAFE_NO_PAD.encode(serde_json::Value::Object(members.clone()).to_string());
    format!("{}.{}.AA", part(&assertion.header), part(&assertion.claims))
}

/// By checks of their own, or can't be.
const LOOKED_AT: [&str; 10] = ["signature", "jwks", "alg", "kid", "iss", "sub", "aud", "x5c", "x5t", "x5t#S256"];
