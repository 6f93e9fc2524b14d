//! No room for the audit log: nothing is signed without it, and signing goes on when there is room again.

use rustix::process::{Pid, Resource, Rlimit, prlimit};
use tonic::Code;

use crate::support::{PATIENCE, Process, Site, audit_log, eventually};

/// Lets no file of the server grow beyond `bytes`; `None`: as before. To a write it looks like a full disk.
fn limit_files(process: &Process, bytes: Option<u64>) {
    let pid = Pid::from_raw(i32::try_from(process.pid()).unwrap());
    prlimit(pid, Resource::Fsize, Rlimit { current: bytes, maximum: None }).unwrap();
}

#[tokio::test]
async fn nothing_is_signed_without_an_audit_record() {
    let mut site = Site::new();
    // The signal that comes with such a write would end the process; a full disk sends none.
    site.under(&["env", "--ignore-signal=XFSZ"]);
    let server = site.start();
    server.ready().await;
    let app = server.app();
    let before = app.sign_for("demo").await.unwrap();

    limit_files(&server.process, Some(0));
    for _ in 0..5 {
        let refused = app.sign_for("demo").await.unwrap_err();
        assert_eq!((refused.code, refused.reason.as_str()), (Code::Unavailable, "AUDIT_UNAVAILABLE"), "{refused:?}");
    }
    eventually("readiness hears of it", PATIENCE, async || {
        (server.health("/readyz/sign").await.0 == 503).then_some(())
    })
    .await;
    assert_eq!(server.jwks_of("demo").await["keys"].as_array().unwrap().len(), 2, "verifiers see the keys");
    assert_eq!(server.health("/livez").await.0, 200);

    limit_files(&server.process, None);
    let after = eventually("signing goes on by itself", PATIENCE, async || app.sign_for("demo").await.ok()).await;
    server.stop().await;

    let records = audit_log::read(&site.audit_dir(), "test");
    for signed in [before, after] {
        assert!(records.iter().any(|record| record["jti"] == signed.jti), "{}", signed.jti);
    }
    assert!(records.iter().any(|record| record["event"] == "file-abandoned"));
}
