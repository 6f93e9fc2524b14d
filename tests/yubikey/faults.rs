//! Hands and other programs: pulled, put back, exchanged, reset, and with another PIN.

use std::time::{Duration, Instant};

use hallmark_testkit::virtual_yubikey::{Firmware, VirtualYubiKey};
use tonic::Code;

use super::rig::{other_program, site, start, write};
use crate::{
    hsm_contract::table::{self, Column},
    outage::Load,
    support::{PATIENCE, Refusal, Server, eventually},
};

/// The aim is two seconds; the limit leaves room for a machine that is busy with other tests.
const RETURN_LIMIT: Duration = Duration::from_secs(10);

/// What callers and verifiers see while there is no YubiKey.
async fn is_down(server: &Server, load: &mut Load) {
    let first = load.next(|ended| ended.result.is_err()).await;
    let lost = first.at;
    let refused = first.result.unwrap_err();
    assert_eq!((refused.code, refused.reason.as_str()), (Code::Unavailable, "HSM_UNAVAILABLE"), "{refused:?}");
    // From now on nobody waits for what can't come.
    for _ in 0..20 {
        let ended = load.next(|ended| ended.at - ended.took > lost).await;
        let refused = ended.result.expect_err("there is no YubiKey");
        assert_eq!(refused.reason, "HSM_UNAVAILABLE", "{refused:?}");
        assert!(refused.retry_after.is_some(), "{refused:?}");
        assert!(ended.took < Duration::from_secs(2), "it took {:?} to say so", ended.took);
    }
    assert_eq!(server.jwks_of("demo").await["keys"].as_array().unwrap().len(), 2, "verifiers see the keys meanwhile");
    assert_eq!(server.health("/livez").await.0, 200);
}

async fn is_back(load: &mut Load, since: Instant, what: &str) {
    let again = load.next(|ended| ended.at > since && ended.result.is_ok()).await;
    let took = again.at - since;
    eprintln!("{what}: {} ms from return to first signature", took.as_millis());
    assert!(took <= RETURN_LIMIT, "{took:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pulled_under_load_and_put_back_it_signs_again_by_itself() {
    let Some(yubikey) = VirtualYubiKey::start(Firmware::V5_4, 2_000_001) else { return };
    let site = site(yubikey.serial());
    let server = start(&site, &yubikey);
    server.ready().await;
    let mut load = Load::start(&server, 4);

    load.next(|ended| ended.result.is_ok()).await;
    yubikey.pull();
    is_down(&server, &mut load).await;
    let returned = Instant::now();
    yubikey.insert();
    is_back(&mut load, returned, "pulled and put back").await;

    yubikey.stop_pcscd();
    is_down(&server, &mut load).await;
    let returned = Instant::now();
    yubikey.start_pcscd();
    is_back(&mut load, returned, "pcscd stopped and started").await;

    // Another YubiKey is not taken for it, and both are named.
    yubikey.pull();
    yubikey.insert_other(2_000_999);
    is_down(&server, &mut load).await;
    eventually("both serials are told", PATIENCE, async || {
        let log = server.log();
        let line = log.lines().find(|line| line.contains("another is not used in its place"))?;
        (line.contains("2000001") && line.contains("serial 2000999")).then_some(())
    })
    .await;
    yubikey.pull();
    let returned = Instant::now();
    yubikey.insert_other(2_000_001);
    is_back(&mut load, returned, "exchanged and put back").await;
    server.stop().await;
    table::compare_cell("YubiKey, firmware 5.4 (virtual)", Column::Recovery, &recovery());
}

/// The same, for the newer kind.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_of_firmware_5_7_comes_back_too() {
    let Some(yubikey) = VirtualYubiKey::start(Firmware::V5_7, 2_000_057) else { return };
    let site = site(yubikey.serial());
    let server = start(&site, &yubikey);
    server.ready().await;
    let mut load = Load::start(&server, 2);
    load.next(|ended| ended.result.is_ok()).await;
    yubikey.pull();
    is_down(&server, &mut load).await;
    let returned = Instant::now();
    yubikey.insert();
    is_back(&mut load, returned, "firmware 5.7, pulled and put back").await;
    yubikey.stop_pcscd();
    is_down(&server, &mut load).await;
    let returned = Instant::now();
    yubikey.start_pcscd();
    is_back(&mut load, returned, "firmware 5.7, pcscd stopped and started").await;
    server.stop().await;
    table::compare_cell("YubiKey, firmware 5.7 (virtual)", Column::Recovery, &recovery());
}

/// As `docs/hsm-support.md` has it.
fn recovery() -> String {
    format!("pulled and put back, `pcscd` restarted: within {} s", RETURN_LIMIT.as_secs())
}

/// What other programs do costs a retry, and no caller notices.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn other_programs_are_not_noticed() {
    let Some(yubikey) = VirtualYubiKey::start(Firmware::V5_4, 2_000_002) else { return };
    let site = site(yubikey.serial());
    let server = start(&site, &yubikey);
    server.ready().await;
    let app = server.app();
    for round in 0..5 {
        app.sign_for("demo").await.unwrap();
        // Selects PIV, and resets the card as it leaves.
        assert!(other_program(&yubikey, &["-a", "version"]).contains("5.4.3"));
        app.sign_for("demo").await.unwrap_or_else(|refused| panic!("round {round}, reset: {refused:?}"));
        yubikey.drop_pin_session();
        app.sign_for("demo").await.unwrap_or_else(|refused| panic!("round {round}, selected: {refused:?}"));
    }
    server.stop().await;
}

async fn refused_for_its_pin(server: &Server) -> Refusal {
    eventually("the PIN is refused", PATIENCE, async || {
        server.app().sign_for("demo").await.err().filter(|refused| refused.reason == "PIN_REFUSED")
    })
    .await
}

fn tries_left(yubikey: &VirtualYubiKey) -> String {
    let status = other_program(yubikey, &["-a", "status"]);
    let line = status.lines().find(|line| line.contains("PIN tries left")).unwrap_or_else(|| panic!("{status}"));
    line.rsplit(char::is_whitespace).next().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pin_that_others_changed_is_tried_once_and_a_blocked_one_never() {
    let Some(yubikey) = VirtualYubiKey::start(Firmware::V5_4, 2_000_003) else { return };
    let site = site(yubikey.serial());
    let server = start(&site, &yubikey);
    server.ready().await;
    other_program(&yubikey, &["-a", "change-pin", "-P", VirtualYubiKey::PIN, "-N", "654321"]);
    refused_for_its_pin(&server).await;
    assert_eq!(server.jwks_of("demo").await["keys"].as_array().unwrap().len(), 2);
    // Many looks later, and after a new start, it is still one try.
    eventually("it looks on, and does not try", PATIENCE, async || {
        server.log().contains("was tried before and not accepted").then_some(())
    })
    .await;
    server.stop().await;
    let server = start(&site, &yubikey);
    refused_for_its_pin(&server).await;
    assert_eq!(tries_left(&yubikey), "2");

    // Written anew it is another try, and it is right.
    write(&site.folder().join("yubi.pin"), "654321");
    eventually("it signs again", PATIENCE, async || server.app().sign_for("demo").await.ok()).await;
    assert_eq!(tries_left(&yubikey), "3");

    for _ in 0..3 {
        other_program(&yubikey, &["-a", "verify-pin", "-P", "000000"]);
    }
    refused_for_its_pin(&server).await;
    eventually("it is told that it is blocked", PATIENCE, async || {
        let log = server.log();
        (log.contains("the PIN of YubiKey 2000003 is blocked") && log.contains("unblock-pin")).then_some(())
    })
    .await;
    other_program(&yubikey, &["-a", "unblock-pin", "-P", VirtualYubiKey::PUK, "-N", "654321"]);
    eventually("it signs again once it is unblocked", PATIENCE, async || server.app().sign_for("demo").await.ok())
        .await;
    server.stop().await;
}
