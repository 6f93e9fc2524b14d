//! Hallmark's clock against the authorization server's.

use std::time::Duration;

use super::{About, Assertion, Cause, Facts, Outcome};
use crate::time::Timestamp;

pub(super) fn clock(facts: &Facts<'_>) -> Outcome {
    let Some(theirs) = facts.server_time else {
        return Outcome::Skipped("no answer of the authorization server had a `Date`".to_owned());
    };
    let backdate = facts.profile.makes.backdate;
    let signed_at = facts.assertion.and_then(|assertion| assertion.date("iat")).map(|iat| iat.plus(backdate));
    let (ours, whose) = match signed_at {
        Some(at) => (at, "Hallmark's clock"),
        None => (facts.our_time, "this machine's clock"),
    };
    let (apart, way) = match ours > theirs {
        true => (ours.since(theirs), "ahead of"),
        false => (theirs.since(ours), "behind"),
    };
    // A `Date` is of whole seconds, and an answer may take some.
    if apart <= MOST_APART {
        return Outcome::Good(format!("{whose} and the authorization server's are {} s apart", apart.as_secs()));
    }
    let what = format!("{whose} is {} s {way} the authorization server's", apart.as_secs());
    let consequence = facts.assertion.and_then(|assertion| consequence(facts, assertion, theirs));
    let why = format!(
        "its `Date` is {}, ours at that moment {}{}",
        theirs.secs(),
        ours.secs(),
        consequence.as_ref().map(|consequence| format!(": {consequence}")).unwrap_or_default()
    );
    let next = "look which of the two is right (`date -u`), and let the machine that runs Hallmark keep time: timedatectl status";
    Outcome::Bad(Cause::found(About::Clock, what, why, next).likely(consequence.is_none()))
}

/// What the difference makes of the assertion, at the server.
fn consequence(facts: &Facts<'_>, assertion: &Assertion, theirs: Timestamp) -> Option<String> {
    let accepts = &facts.profile.accepts;
    let skew = accepts.skew.is;
    let (exp, iat) = (assertion.date("exp"), assertion.date("iat"));
    if let Some(late) = exp.filter(|exp| exp.plus(skew) <= theirs) {
        return Some(format!("the assertion expired {} s ago there", theirs.since(late).as_secs()));
    }
    if let Some(early) = iat.filter(|iat| *iat > theirs.plus(skew)) {
        return Some(format!("the assertion is from {} s in the future there", early.since(theirs).as_secs()));
    }
    if let (Some(iat), Some(oldest)) = (iat, accepts.iat_age.is)
        && theirs.since(iat) > oldest + skew
    {
        return Some(format!(
            "`iat` is {} s old there, and it takes {} s",
            theirs.since(iat).as_secs(),
            oldest.as_secs()
        ));
    }
    let (exp, longest) = (exp?, accepts.lifetime.is?);
    (exp.since(theirs) > longest + skew).then(|| {
        format!("`exp` is {} s ahead there, and it takes {} s", exp.since(theirs).as_secs(), longest.as_secs())
    })
}

const MOST_APART: Duration = Duration::from_secs(30);
