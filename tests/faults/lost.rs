//! What is worse than a return value: tokens and sessions that go away, calls that do not return, lists that lie, a library
//! that crashes.

use std::{
    os::unix::process::ExitStatusExt,
    time::{Duration, Instant},
};

use hallmark_testkit::fault_module::Function;

use super::{CALLED_WHEN, RECOVERY_LIMIT, rig::Rig};
use crate::support::{PATIENCE, audit_log, eventually};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sessions_and_tokens_that_go_away_come_back_by_themselves() {
    let rig = Rig::start(|_| {}).await;
    for plan in ["C_SignInit drop-sessions times=3", "C_Sign drop-sessions every=50"] {
        rig.module.set(plan);
        eventually(plan, PATIENCE, async || (rig.module.faults() >= 3).then_some(())).await;
        assert!(rig.recover(plan).await <= RECOVERY_LIMIT, "{plan}");
    }
    for plan in ["token absent", "token absent-until-finalize"] {
        let finalized = rig.module.seen(Function::C_Finalize).calls;
        rig.module.set(plan);
        eventually("the HSM is given up", PATIENCE, async || {
            (rig.server.health("/readyz/sign").await.0 == 503).then_some(())
        })
        .await;
        rig.tries_to_connect(2).await;
        assert_eq!(rig.server.jwks_of("demo").await["keys"].as_array().map(Vec::len), Some(2), "{plan}");
        let recovery = rig.recover(plan).await;
        eprintln!("{plan}: {} ms", recovery.as_millis());
        assert!(recovery <= RECOVERY_LIMIT, "{plan}: {recovery:?}");
        assert!(rig.module.seen(Function::C_Finalize).calls > finalized, "{plan}");
    }
    rig.no_pin_was_at_risk();
    rig.stop().await;
}

/// An HSM that connects, logs in, and then can't sign: it is not asked to do so a hundred times a second.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_token_that_only_connects_is_not_stormed() {
    let rig = Rig::start(|_| {}).await;
    rig.module.set("C_SignInit return CKR_DEVICE_REMOVED");
    let (before, began) = (rig.module.seen(Function::C_GetMechanismList).calls, Instant::now());
    // The list is asked for twice with each connection: how long it is, and what is in it.
    let connections = || (rig.module.seen(Function::C_GetMechanismList).calls - before) / 2;
    eventually("it is connected again and again", PATIENCE, async || (connections() >= 8).then_some(())).await;
    assert!(began.elapsed() > Duration::from_secs(1), "eight times in {:?}", began.elapsed());
    assert!(rig.recover("a token that only connects").await <= RECOVERY_LIMIT);
    rig.stop().await;
}

const STUCK_AFTER: Duration = Duration::from_millis(400);

/// A call that does not return, at each function: callers are answered by their deadline, the watchdog notices, and
/// everything goes on when the call comes back.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_that_hang_hold_up_nobody_for_longer_than_that() {
    let rig = Rig::start(|site| _ = site.append(&testing(STUCK_AFTER))).await;
    for (function, when) in CALLED_WHEN {
        let plan = format!("{when}\n{} hang", function.name());
        let before = rig.module.seen(*function).faults;
        rig.module.set(&plan);
        eventually(&plan, PATIENCE, async || (rig.module.seen(*function).faults > before).then_some(())).await;
        eventually(&format!("{plan}: the HSM counts as lost"), PATIENCE, async || {
            (rig.server.metric(r#"hallmark_hsm_breaker_state{hsm="soft"}"#).await != 0.0).then_some(())
        })
        .await;
        let recovery = rig.recover(&plan).await;
        eprintln!("hang at {}: {} ms", function.name(), recovery.as_millis());
        assert!(recovery <= RECOVERY_LIMIT, "{plan}: {recovery:?}");
        let longest = rig.load.longest();
        assert!(longest <= Duration::from_secs(7), "{plan}: a caller waited for {longest:?}");
    }
    rig.no_pin_was_at_risk();
    rig.stop().await;
}

/// Where the library hangs for good, wherever it does, the process ends with code 75 for its supervisor, and the next one
/// signs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_library_that_hangs_for_good_ends_the_process() {
    let mut rig = Rig::start(|site| _ = site.append(&testing(Duration::from_millis(50)))).await;
    let plans = ["C_SignInit hang", "token absent\nC_Finalize hang", "token absent\nC_Initialize hang"];
    for plan in plans {
        rig.module.set(plan);
        let status = rig.server.process.wait(PATIENCE);
        assert_eq!(status.code(), Some(75), "{plan}: {status}");
        assert!(!rig.server.log().contains("panicked"), "{plan}");
        rig.module.heal();
        rig = rig.restart().await;
    }
    rig.no_pin_was_at_risk();
    rig.stop().await;
}

/// A library that crashes at its end takes the process along, which by then has nothing to lose.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_library_that_crashes_at_its_end_costs_a_restart_and_no_record() {
    let mut rig = Rig::start(|_| {}).await;
    // When the library is started anew for a token that is away.
    rig.module.set("token absent\nC_Finalize crash");
    let status = rig.server.process.wait(PATIENCE);
    assert_eq!(status.signal(), Some(6), "{status}");
    rig.module.heal();
    rig = rig.restart().await;

    // When the server stops.
    rig.module.set("C_Finalize crash");
    rig.server.process.signal(rustix::process::Signal::TERM);
    let status = rig.server.process.wait(PATIENCE);
    assert!(status.code() == Some(0) || status.signal() == Some(6), "{status}");
    rig.module.heal();
    // Panics where a record is missing from the chain.
    assert!(!audit_log::read(&rig.site.audit_dir(), "test").is_empty());
    rig = rig.restart().await;
    rig.stop().await;
}

/// A list without what the token can do, and one with what it can't: told once, or for long.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_list_of_mechanisms_that_lies_is_believed_no_longer_than_it_does() {
    let rig = Rig::start(|_| {}).await;
    let ecdsa = "0x1041";
    let reconnect = "C_SignInit return CKR_DEVICE_REMOVED times=1";
    for lie in ["hide", "claim"] {
        let plan = format!("{reconnect}\nmechanism {lie} {ecdsa}");
        let asked = rig.module.seen(Function::C_GetMechanismList).calls;
        rig.module.set(&plan);
        eventually(&plan, PATIENCE, async || {
            (rig.module.seen(Function::C_GetMechanismList).calls >= asked + 6).then_some(())
        })
        .await;
        let recovery = rig.recover(&plan).await;
        assert!(recovery <= RECOVERY_LIMIT, "{plan}: {recovery:?}");
    }
    // SoftHSM does not hash for ECDSA; a list that says so costs no signature, for the digest can be made here.
    rig.module.set(&format!("{reconnect}\nmechanism claim 0x1044\nmechanism claim 0x1045"));
    let asked = rig.module.seen(Function::C_GetMechanismList).calls;
    eventually("it is connected anew", PATIENCE, async || {
        (rig.module.seen(Function::C_GetMechanismList).calls > asked + 1).then_some(())
    })
    .await;
    rig.signs(Instant::now()).await;
    rig.stop().await;
}

fn testing(stuck_after: Duration) -> String {
    format!("\n[unsafe_testing]\nhsm_stuck_after = \"{}ms\"\n", stuck_after.as_millis())
}
