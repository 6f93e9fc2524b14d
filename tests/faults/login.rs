//! Return values inside `C_Login`, where each may have cost a try of the PIN.

use std::time::{Duration, Instant};

use hallmark_testkit::fault_module::Function;

use super::{CLASSES, RECOVERY_LIMIT, rig::Rig};
use crate::support::{PATIENCE, eventually};

/// Logged out, so that the next call has the service log in again.
const LOGGED_OUT: &str = "C_SignInit drop-sessions times=1";

/// Whatever `C_Login` returns: one try, unless the token or the session was gone, which is forgiven once. Then an operator
/// is needed, told so, and a `touch` of the PIN's file is all that it takes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_login_that_fails_is_not_tried_again() {
    let rig = Rig::start(|_| {}).await;
    for (class, code) in CLASSES.iter().chain(&[("PIN", "CKR_PIN_INCORRECT"), ("unspecific", "CKR_GENERAL_ERROR")]) {
        let before = rig.module.logins().len();
        let plan = format!("{LOGGED_OUT}\nC_Login return {code}");
        rig.module.set(&plan);
        let app = rig.server.app();
        let refusal = eventually(&format!("{code}: PIN_REFUSED"), PATIENCE, async || {
            app.sign_for("demo").await.err().filter(|refusal| refusal.reason == "PIN_REFUSED")
        })
        .await;
        assert_eq!(refusal.retry_after, None, "no caller should come back by itself");
        rig.tries_to_connect(3).await;

        let tries = rig.module.logins().split_off(before);
        let forgiven = ["gone", "session"].contains(class);
        assert_eq!(tries, vec![*code; if forgiven { 2 } else { 1 }], "{code}: tries of the PIN");
        rig.module.heal();
        rig.tries_to_connect(2).await;
        assert_eq!(rig.module.logins().len(), before + tries.len(), "{code}: a try that nobody asked for");

        rig.touch_pin();
        let touched = Instant::now();
        rig.signs(touched).await;
        assert!(touched.elapsed() <= RECOVERY_LIMIT, "{code}: {:?}", touched.elapsed());
        rig.load.refused(&plan);
    }
    let log = rig.server.log();
    assert!(log.contains("CKR_GENERAL_ERROR: how the login with the PIN in"), "{log}");
    assert!(log.contains("where the PIN is right, touch"), "{log}");
    rig.stop().await;
}

/// A line that breaks while the service logs in costs no operator anything.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_goes_away_inside_the_login_once_comes_back_by_itself() {
    let rig = Rig::start(|_| {}).await;
    for code in
        ["CKR_DEVICE_REMOVED", "CKR_TOKEN_NOT_PRESENT", "CKR_SESSION_HANDLE_INVALID", "CKR_USER_ALREADY_LOGGED_IN"]
    {
        let plan = format!("{LOGGED_OUT}\nC_Login return {code} times=1");
        rig.round(&plan, Function::C_Login).await;
    }
    rig.stop().await;
}

/// A token that warns of its last try is not even asked.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_warns_of_its_last_try_is_left_alone() {
    let rig = Rig::start(|_| {}).await;
    for (flag, said) in [("final-try", "one try is left"), ("locked", "the user PIN is locked")] {
        let before = rig.module.logins().len();
        rig.module.set(&format!("{LOGGED_OUT}\npin {flag}"));
        let app = rig.server.app();
        eventually("PIN_REFUSED", PATIENCE, async || {
            app.sign_for("demo").await.err().filter(|refusal| refusal.reason == "PIN_REFUSED")
        })
        .await;
        rig.tries_to_connect(2).await;
        assert_eq!(rig.module.logins().len(), before, "{flag}: the PIN was tried");
        assert!(rig.server.log().contains(said), "{flag}");
        // Once the operator has logged in with the HSM's tools, the flag is gone, and nothing else is needed.
        assert!(rig.recover(flag).await <= RECOVERY_LIMIT + Duration::from_secs(1));
    }
    rig.stop().await;
}
