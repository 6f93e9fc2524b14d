//! A library that has lost its device and does not say so: what it remembers it answers, and all else is a general error,
//! the login too. `docs/adr/0006-…` has the question that is asked before a PIN is spent on it.

use std::time::Instant;

use hallmark_testkit::fault_module::Function;

use super::{RECONNECT, RECOVERY_LIMIT, rig::Rig};
use crate::support::{PATIENCE, eventually};

/// Logged out, and with nobody behind it.
const SILENT: &str = "C_SignInit drop-sessions times=1\nC_SignInit return CKR_GENERAL_ERROR\n\
    C_Sign return CKR_GENERAL_ERROR\nC_GenerateRandom return CKR_GENERAL_ERROR\nC_Login return CKR_GENERAL_ERROR\n";
const NO_RNG: &str = "token no-rng\n";

/// The PIN is not spent on it, so nobody is needed when the device is back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_makes_random_numbers_is_asked_before_its_pin_is_tried() {
    let rig = Rig::start(|_| {}).await;
    let (logins, asked) = (rig.module.logins(), rig.module.seen(Function::C_GenerateRandom).faults);
    rig.module.set(SILENT);
    let app = rig.server.app();
    eventually("HSM_UNAVAILABLE", PATIENCE, async || {
        let refusal = app.sign_for("demo").await.err()?;
        assert_ne!(refusal.reason, "PIN_REFUSED", "{refusal:?}");
        (refusal.reason == "HSM_UNAVAILABLE").then_some(())
    })
    .await;
    eventually("the device is asked, again and again", PATIENCE, async || {
        (rig.module.seen(Function::C_GenerateRandom).faults >= asked + 3).then_some(())
    })
    .await;
    assert_eq!(rig.module.logins(), logins, "the PIN was tried on a library without its device");
    let recovery = rig.recover(SILENT).await;
    eprintln!("silent, asked: {} ms", recovery.as_millis());
    assert!(recovery <= RECOVERY_LIMIT, "{recovery:?}");
    rig.stop().await;
}

/// There is nothing harmless to ask such a token. It costs one try, an operator is told, and a `touch` is all it takes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_makes_none_costs_one_try_of_its_pin_and_a_touch() {
    let rig = Rig::start(|_| {}).await;
    let met = rig.module.seen(Function::C_SignInit).faults;
    // It connects anew, and sees the token without its flag.
    rig.module.set(&format!("{NO_RNG}{RECONNECT}"));
    let app = rig.server.app();
    let again = async || (rig.module.seen(Function::C_SignInit).faults > met).then_some(());
    eventually("it has to connect anew", PATIENCE, again).await;
    rig.signs(Instant::now()).await;

    let (before, asked) = (rig.module.logins().len(), rig.module.seen(Function::C_GenerateRandom).calls);
    rig.module.set(&format!("{NO_RNG}{SILENT}"));
    eventually("PIN_REFUSED", PATIENCE, async || {
        app.sign_for("demo").await.err().filter(|refusal| refusal.reason == "PIN_REFUSED")
    })
    .await;
    rig.tries_to_connect(2).await;
    rig.module.set(NO_RNG);
    rig.tries_to_connect(2).await;
    assert_eq!(rig.module.logins().split_off(before), ["CKR_GENERAL_ERROR"], "one try, and none once it is back");
    assert_eq!(rig.module.seen(Function::C_GenerateRandom).calls, asked, "it has said that it makes none");

    rig.touch_pin();
    let touched = Instant::now();
    rig.signs(touched).await;
    assert!(touched.elapsed() <= RECOVERY_LIMIT, "{:?}", touched.elapsed());
    rig.load.refused(SILENT);
    rig.stop().await;
}
