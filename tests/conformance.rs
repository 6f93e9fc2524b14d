//! A second opinion on every profile: what Hallmark makes is judged by rules that were written down without looking at
//! the profiles, and what people have got wrong is refused by those who are said to refuse it.

mod keys;
mod pitfalls;
mod presented;
mod rules;
mod systems;
mod verifier;

use std::collections::BTreeSet;

use hallmark_core::profile::Profile;

use self::{
    pitfalls::{At, CASES, Case, ELSEWHERE},
    presented::by_hallmark,
    rules::System,
    systems::SYSTEMS,
    verifier::Verifier,
};
use crate::support::pki::Authority;

#[test]
fn every_profile_has_rules_and_every_rule_a_source() {
    let ruled: BTreeSet<_> = SYSTEMS.iter().map(|system| system.profile).collect();
    assert_eq!(ruled, Profile::names().collect(), "each profile needs its system in tests/conformance/systems.rs");
    assert_eq!(ruled.len(), SYSTEMS.len());
    let known = ["measured", "source", "specification", "documentation"];
    assert!(SYSTEMS.iter().all(|system| known.iter().any(|word| system.evidence.starts_with(word))));
}

#[test]
fn every_pitfall_has_a_case() {
    let covered: BTreeSet<_> =
        CASES.iter().map(|case| case.pitfall).chain(ELSEWHERE.iter().map(|(pitfall, _)| *pitfall)).collect();
    assert_eq!(covered, (0..=27).collect());
    let known = |name: &&str| SYSTEMS.iter().any(|system| system.profile == *name);
    for case in CASES {
        let At::These(named) = case.at else { continue };
        assert!(!named.is_empty() && named.iter().all(known), "{}: {named:?}", case.what);
    }
}

#[tokio::test]
async fn what_hallmark_makes_is_taken_and_once() {
    let mut refused = Vec::new();
    for (system, request) in by_hallmark().await {
        let mut verifier = Verifier::new(system);
        if let Err(why) = verifier.judge(request) {
            refused.push(format!("{}: {why:?}: {:?} {:?}", system.profile, request.header, request.claims));
            continue;
        }
        // The same assertion again.
        let again = verifier.judge(request).map_err(|(rule, _)| rule);
        let expected = if system.jti.once { Err("jti") } else { Ok(()) };
        assert_eq!(again, expected, "{}", system.profile);
    }
    assert!(refused.is_empty(), "{}", refused.join("\n"));
}

#[tokio::test]
async fn each_pitfall_is_refused_by_who_is_said_to_refuse_it() {
    let ca = Authority::new();
    let mut wrong = Vec::new();
    for (system, made) in by_hallmark().await {
        let mut own = made.by_own_key(system, &ca);
        own.seal();
        // Nothing but the key is other: it is the change that is refused.
        let taken = Verifier::new(system).judge(&own);
        assert_eq!(taken, Ok(()), "{}", system.profile);
        for case in CASES.iter().filter(|case| concerns(case, system)) {
            let mut request = own.clone();
            (case.change)(&mut request, system, &ca);
            request.seal();
            let verdict = Verifier::new(system).judge(&request);
            if verdict.as_ref().err().map(|(rule, _)| *rule) != case.breaks {
                let Case { pitfall, what, breaks, .. } = case;
                wrong.push(format!("{}: {pitfall}, {what}: {breaks:?} was expected: {verdict:?}", system.profile));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// A rule that is a guess can't be what somebody is said to refuse by.
fn concerns(case: &Case, system: &System) -> bool {
    let guessed = case.breaks.is_some_and(|rule| system.guessed.contains(&rule));
    match case.at {
        At::Every(holds) => holds(system) && !guessed,
        At::These(systems) if systems.contains(&system.profile) => {
            assert!(!guessed, "{}: nobody vouches for `{}`", system.profile, case.breaks.unwrap_or_default());
            true
        }
        At::These(_) => false,
    }
}
