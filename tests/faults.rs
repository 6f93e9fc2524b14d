//! Return values and worse, at every function that the service calls, under load: a real server on SoftHSM, with a module
//! between them that fails as it is told.
//!
//! Whatever fails: no panic, no wrong answer, no second try of a PIN, a reason and where it makes sense a delay for
//! callers, the JWKS up, and signatures again soon after the fault's end, with no restart.
//!
//! One code of each class is driven at each function, and each code at those that sign; `make soak` drives each code at
//! each function, with `HALLMARK_SOAK=full`.

mod load;
mod login;
mod lost;
mod one_key;
mod operators;
mod report;
mod rig;
mod silent;

use std::time::Duration;

use hallmark_testkit::fault_module::{Function, RETURN_VALUES};

use self::{report::Report, rig::Rig};

/// A code of each class of `docs/adr/0006-…`.
const CLASSES: &[(&str, &str)] = &[
    ("request", "CKR_DATA_INVALID"),
    ("session", "CKR_SESSION_CLOSED"),
    ("handle", "CKR_KEY_HANDLE_INVALID"),
    ("login", "CKR_USER_NOT_LOGGED_IN"),
    ("unspecific", "CKR_DEVICE_ERROR"),
    ("gone", "CKR_DEVICE_REMOVED"),
    ("PIN", "CKR_PIN_EXPIRED"),
    ("unsupported", "CKR_FUNCTION_NOT_SUPPORTED"),
];

/// Beside a fault at each function, what has the service call it: nothing where it does so for each signature.
const CALLED_WHEN: &[(Function, &str)] = &[
    (Function::C_Initialize, RESET),
    (Function::C_Finalize, RESET),
    (Function::C_GetInfo, RECONNECT),
    (Function::C_GetSlotList, RECONNECT),
    (Function::C_GetTokenInfo, RECONNECT),
    (Function::C_GetMechanismList, RECONNECT),
    (Function::C_OpenSession, RECONNECT),
    (Function::C_GenerateRandom, RECONNECT),
    (Function::C_CloseSession, "C_SignInit return CKR_OPERATION_ACTIVE times=2"),
    (Function::C_GetSessionInfo, RECONNECT),
    (Function::C_GetAttributeValue, RECONNECT),
    (Function::C_FindObjectsInit, RECONNECT),
    (Function::C_FindObjects, RECONNECT),
    (Function::C_FindObjectsFinal, RECONNECT),
    (Function::C_SignInit, ""),
    (Function::C_Sign, ""),
];

/// Driven by tests of their own: a login must not be tried again, and keys are made and destroyed for operators.
const DRIVEN_ELSEWHERE: &[Function] = &[Function::C_Login, Function::C_DestroyObject, Function::C_GenerateKeyPair];

const RECONNECT: &str = "C_SignInit return CKR_DEVICE_REMOVED times=1";
const RESET: &str = "token absent";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_return_value_is_survived_under_load() {
    let rig = Rig::start(|_| {}).await;
    let mut report = Report::default();
    for (function, when) in CALLED_WHEN {
        for (class, code) in cases(*function, is_full()) {
            let plan = format!("{when}\n{} return {code}\n", function.name());
            let recovery = rig.round(&plan, *function).await;
            report.add(*function, class, code, recovery);
        }
    }
    let driven: Vec<_> = CALLED_WHEN.iter().map(|(function, _)| function).chain(DRIVEN_ELSEWHERE).collect();
    let mut left_out = rig.module.called();
    left_out.retain(|function| !driven.contains(&function));
    assert!(left_out.is_empty(), "the service calls these too: {left_out:?}");
    rig.no_pin_was_at_risk();
    report.finish();
    rig.stop().await;
}

/// `docs/reliability.md` says what is driven, and within which time it signs again: renew it with
/// `HALLMARK_RENEW=1 cargo test --test e2e faults::the_page`.
#[test]
fn the_page_says_what_is_driven() {
    let mut block = String::from(
        "| function | codes in `make test` | codes in `make soak` | each client signs again within |\n|---|---|---|---|\n",
    );
    for (function, _) in CALLED_WHEN {
        let [short, full] = [false, true].map(|full| cases(*function, full).len());
        block += &format!("| `{}` | {short} | {full} | {} s |\n", function.name(), RECOVERY_LIMIT.as_secs());
    }
    report::renew(&block);
}

/// Class and code of each fault at `function`, in the short form or in the full one.
fn cases(function: Function, full: bool) -> Vec<(&'static str, &'static str)> {
    let mut cases = CLASSES.to_vec();
    let signs = [Function::C_SignInit, Function::C_Sign].contains(&function);
    if signs || full {
        let others = RETURN_VALUES.iter().map(|(code, _)| ("any", *code));
        cases.extend(others.chain([("any", "CKR_0x80000001"), ("any", "CKR_0x7fff0000")]));
    }
    cases
}

/// Whether this is `make soak`.
fn is_full() -> bool {
    std::env::var("HALLMARK_SOAK").is_ok_and(|form| form == "full")
}

/// From the end of a fault to the first signature for each client. The keeper's longest pause is a second, that of a
/// worker without a session half of one; the rest is room for a machine that is busy with other tests.
const RECOVERY_LIMIT: Duration = Duration::from_secs(5);
