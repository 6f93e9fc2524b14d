//! Two YubiKeys serve one client.

use std::time::Instant;

use hallmark_testkit::virtual_yubikey::{Firmware, Key, VirtualYubiKey};

use super::rig::{secrets, section, site, start};
use crate::{
    outage::Load,
    support::{PATIENCE, Server, eventually},
};

/// Which of two is meant, nobody guesses.
#[tokio::test]
async fn two_without_a_serial_are_both_named() {
    let keys = [3_000_003, 3_000_004].map(|serial| Key::new(Firmware::V5_4, serial));
    let Some(yubikeys) = VirtualYubiKey::start_with(&keys) else { return };
    let mut site = site(3_000_003);
    site.replace("serial = 3000003\n", "");
    let server = start(&site, &yubikeys);
    eventually("both are named", PATIENCE, async || {
        let log = server.log();
        let line = log.lines().find(|line| line.contains("several YubiKeys are plugged in"))?;
        (line.contains("serial 3000003") && line.contains("serial 3000004")).then_some(())
    })
    .await;
    assert_eq!(server.health("/readyz/sign").await.0, 503);
    yubikeys.reader(1).pull();
    server.ready().await;
    server.stop().await;
}

const CALLERS: usize = 4;

async fn is_up(server: &Server, hsm: &str) -> bool {
    server.metric(&format!("hallmark_hsm_breaker_state{{hsm=\"{hsm}\"}}")).await == 0.0
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_two_is_pulled_under_load_and_only_those_in_flight_see_it() {
    let keys = [3_000_001, 3_000_002].map(|serial| Key::new(Firmware::V5_4, serial));
    let Some(yubikeys) = VirtualYubiKey::start_with(&keys) else { return };
    let mut site = site(3_000_001);
    site.replace("hsm = [\"yubi\"]", "hsm = [\"yubi\", \"other\"]");
    site.append(&format!("\n[[hsm]]\n{}", section("other", 3_000_002)));
    secrets(&site, "other", VirtualYubiKey::PIN);
    let server = start(&site, &yubikeys);
    server.ready().await;
    // The active key of the client and the custody key on each. A published key is not yet an active one, and the
    // server is ready once either YubiKey is.
    eventually("both sign", PATIENCE, async || {
        let active = server.metric("hallmark_keys{state=\"active\"}").await;
        (active == 4.0 && is_up(&server, "yubi").await && is_up(&server, "other").await).then_some(())
    })
    .await;
    let mut load = Load::start(&server, CALLERS);
    for (pulled, hsm) in ["yubi", "other", "yubi"].iter().map(|hsm| (usize::from(*hsm == "other"), *hsm)) {
        for _ in 0..20 {
            load.next(|ended| ended.result.is_ok()).await;
        }
        let before = Instant::now();
        yubikeys.reader(pulled).pull();
        // What began before the breaker opened may fail, each caller's one request; nothing else does.
        let (mut failed, mut good) = (0, 0);
        while good < 60 {
            let ended = load.next(|ended| ended.at > before).await;
            match ended.result {
                Ok(()) => good += 1,
                Err(refused) => {
                    assert_eq!(refused.reason, "HSM_UNAVAILABLE", "{refused:?}");
                    failed += 1;
                }
            }
        }
        eprintln!("`{hsm}` pulled: {failed} of {} requests refused", failed + good);
        assert!(failed <= CALLERS, "{failed} requests were refused, and {CALLERS} were in flight");
        yubikeys.reader(pulled).insert();
        eventually("it is back", PATIENCE, async || is_up(&server, hsm).await.then_some(())).await;
    }
    drop(load);
    server.stop().await;
}

/// Another program, or a key that is being made, may keep a YubiKey busy for minutes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_yubikey_that_hangs_keeps_no_other_from_coming_back() {
    let keys = [3_000_005, 3_000_006].map(|serial| Key::new(Firmware::V5_4, serial));
    let Some(yubikeys) = VirtualYubiKey::start_with(&keys) else { return };
    let mut site = site(3_000_005);
    site.replace("hsm = [\"yubi\"]", "hsm = [\"other\", \"yubi\"]");
    site.append(&format!("\n[[hsm]]\n{}", section("other", 3_000_006)));
    secrets(&site, "other", VirtualYubiKey::PIN);
    let server = start(&site, &yubikeys);
    server.ready().await;
    eventually("both have their keys", PATIENCE, async || {
        (server.jwks_of("demo").await["keys"].as_array()?.len() == 4).then_some(())
    })
    .await;
    // In the first reader, and thus looked at first.
    yubikeys.reader(0).answer_slowly(10 * PATIENCE);
    yubikeys.reader(1).pull();
    let load = Load::start(&server, 1);
    eventually("it is missed", PATIENCE, async || (!is_up(&server, "other").await).then_some(())).await;
    yubikeys.reader(1).insert();
    eventually("it is back", PATIENCE, async || is_up(&server, "other").await.then_some(())).await;
    drop(load);
    yubikeys.reader(0).pull();
    server.stop().await;
}
