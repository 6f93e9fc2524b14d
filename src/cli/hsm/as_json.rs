//! The report for programs.

use serde_json::{Value, json};

use super::{Report, paste};
use crate::hsm::pkcs11::survey::{Failure, TokenVerdict, Way, meaning};

pub(super) fn report(report: &Report) -> Value {
    let Report { module, survey, verdicts, said, refused, missing } = report;
    let slots: Vec<_> = survey
        .found_slots()
        .map(|(slot, found)| {
            let verdict = verdicts.iter().find(|verdict| verdict.slot == slot);
            json!({
                "slot": slot,
                "shown": found.slot,
                "token": found.token,
                "mechanisms": found.mechanisms,
                "other_mechanisms": found.other_mechanisms,
                "session": found.session,
                "hallmark": verdict.map(judged),
            })
        })
        .collect();
    json!({
        "module": module,
        "usable": report.is_usable(),
        "complete": survey.complete,
        "not_loaded": refused.as_ref().map(|(why, hint)| json!({ "why": why, "hint": hint })),
        "missing": missing.as_ref().map(|(what, _)| what),
        "library": survey.library,
        "slots": survey.slots.is_some().then_some(slots),
        "login": survey.login,
        "failures": survey.failures.iter().map(failure).collect::<Vec<_>>(),
        "said": said,
        "sections": paste::sections(module, verdicts, &paste::module_variables(module)),
    })
}

fn failure(failure: &Failure) -> Value {
    json!({
        "function": failure.step.function,
        "slot": failure.step.slot,
        "about": failure.step.about,
        "end": failure.end,
        "means": meaning(failure),
    })
}

fn judged(verdict: &TokenVerdict) -> Value {
    let algs = verdict.algs.iter().map(|alg| {
        let (can_sign, makes_keys) = match alg.way {
            Way::Full { .. } => (true, true),
            Way::SignOnly { .. } => (true, false),
            Way::No { .. } => (false, false),
        };
        json!({ "alg": alg.alg, "signs": can_sign, "makes_keys": makes_keys, "way": alg.way, "doubts": alg.doubts })
    });
    json!({
        "usable": verdict.is_usable(),
        "algs": algs.collect::<Vec<_>>(),
        "obstacles": verdict.obstacles,
        "remarks": verdict.remarks,
        "section": verdict.section.as_ref().ok(),
        "no_section": verdict.section.as_ref().err(),
    })
}
