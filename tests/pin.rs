//! The PIN: tried once, never shown, corrected without a restart.

use std::{
    fs::{self, Permissions},
    os::unix::fs::PermissionsExt,
    path::Path,
};

use hallmark_testkit::softhsm::SoftHsm;
use tonic::Code;

use crate::support::{PATIENCE, Refusal, Server, Site, eventually, spy::Spy};

const WRONG: &str = "00000000";

/// What callers are told while the PIN is not accepted.
async fn pin_refused(server: &Server) -> Refusal {
    let app = server.app();
    eventually("the PIN is refused", PATIENCE, async || {
        app.sign_for("demo").await.err().filter(|refusal| refusal.reason == "PIN_REFUSED")
    })
    .await
}

#[tokio::test]
async fn ten_restarts_with_a_wrong_pin_cost_one_try() {
    let mut site = Site::new();
    let spy = Spy::on(&mut site, Path::new(SoftHsm::MODULE), &[]);
    let server = site.start();
    server.ready().await;
    server.stop().await;
    assert_eq!(spy.logins(), ["CKR_OK"]);

    let pin_file = site.token.pin_file();
    fs::write(&pin_file, WRONG).unwrap();
    let mut last = None;
    for _ in 0..10 {
        drop(last.take());
        let server = site.start();
        let refusal = pin_refused(&server).await;
        assert_eq!(refusal.code, Code::Unavailable, "{refusal:?}");
        assert_eq!(server.jwks_of("demo").await["keys"].as_array().unwrap().len(), 2, "the JWKS stays up");
        last = Some(server);
    }
    assert_eq!(spy.logins(), ["CKR_OK", "CKR_PIN_INCORRECT"]);
    let mut server = last.unwrap();
    server.process.wait_for_log("tried before and not accepted");
    server
        .process
        .wait_for_log(&format!("hint: correct the PIN, then write the file anew (touch `{}`)", pin_file.display()));
    assert_eq!(server.health("/readyz/sign").await.0, 503);

    fs::write(&pin_file, SoftHsm::PIN).unwrap();
    server.ready().await;
    server.app().sign_for("demo").await.unwrap();
    assert_eq!(spy.logins(), ["CKR_OK", "CKR_PIN_INCORRECT", "CKR_OK"]);
    server.stop().await;
}

/// An operator who corrects the wrong thing first: each new content is one more try, and no more.
#[tokio::test]
async fn each_new_pin_is_tried_once() {
    let mut site = Site::new();
    let spy = Spy::on(&mut site, Path::new(SoftHsm::MODULE), &[]);
    let pin_file = site.token.pin_file();
    fs::write(&pin_file, WRONG).unwrap();
    let server = site.start();
    eventually("one try", PATIENCE, async || (spy.logins().len() == 1).then_some(())).await;
    fs::write(&pin_file, "99999999").unwrap();
    eventually("another try", PATIENCE, async || (spy.logins().len() == 2).then_some(())).await;
    fs::write(&pin_file, SoftHsm::PIN).unwrap();
    server.ready().await;
    assert_eq!(spy.logins(), ["CKR_PIN_INCORRECT", "CKR_PIN_INCORRECT", "CKR_OK"]);
}

#[tokio::test]
async fn a_pin_file_that_others_can_read_is_refused() {
    let site = Site::new();
    fs::set_permissions(site.token.pin_file(), Permissions::from_mode(0o640)).unwrap();
    let mut process = site.spawn(|_| {});
    assert!(!process.wait(PATIENCE).success());
    let log = process.log();
    assert!(log.contains("can be read by others") && log.contains("chmod 600"), "{log}");
}

#[tokio::test]
async fn a_pin_file_that_is_not_there_is_named() {
    let site = Site::new();
    fs::remove_file(site.token.pin_file()).unwrap();
    let mut process = site.spawn(|_| {});
    assert!(!process.wait(PATIENCE).success());
    let log = process.log();
    assert!(log.contains(&site.token.pin_file().display().to_string()), "{log}");
}

/// Not even where everything is logged that can be.
#[tokio::test]
async fn no_pin_is_shown_anywhere() {
    let site = Site::new();
    let server = site.start_with(|command| _ = command.env("HALLMARK_LOG", "trace"));
    server.ready().await;
    let signed = server.app().sign_for("demo").await.unwrap();
    let (_, metrics) = server.health("/metrics").await;
    let audit = site.audit_dir();
    let log = server.log();
    server.stop().await;

    let audit = crate::support::audit_log::text(&audit);
    let signature = signed.assertion.rsplit('.').next().unwrap();
    for (place, text) in [("log", &log), ("metrics", &metrics), ("audit log", &audit)] {
        assert!(!text.is_empty(), "the {place} is empty");
        for secret in [SoftHsm::PIN, &signed.assertion, signature] {
            assert!(!text.contains(secret), "the {place} shows a secret");
        }
    }
}
