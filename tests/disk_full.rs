//! No room for the audit log: nothing is signed without it, and signing goes on when there is room again.

use hallmark_proto::v1::RevokeKeyRequest;
use rustix::process::{Pid, Resource, Rlimit, prlimit};
use tonic::Code;

use crate::support::{PATIENCE, Process, Refusal, Site, audit_log, eventually};

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

#[tokio::test]
async fn a_key_is_revoked_all_the_same() {
    let mut site = Site::new();
    site.under(&["env", "--ignore-signal=XFSZ"]);
    site.append("\n[unsafe_testing]\nsweep_every = \"100ms\"\nlead = \"1s\"\n");
    let server = site.start_with(|command| _ = command.arg("--unsafe-testing"));
    server.ready().await;
    let (app, ops) = (server.app(), server.ops());
    let kid = app.sign_for("demo").await.unwrap().kid;
    let revoke = async |request_id: &str| {
        let (request_id, reason) = (request_id.to_owned(), "it got out".to_owned());
        let answer = ops.keys().revoke_key(RevokeKeyRequest { request_id, reason, kid: kid.clone() }).await;
        answer.map(drop).map_err(Refusal::from)
    };
    let is_published = async || {
        let served = server.jwks_of("demo").await;
        served["keys"].as_array().unwrap().iter().any(|key| key["kid"] == kid.as_str())
    };

    limit_files(&server.process, Some(0));
    // Twice: who hears of trouble asks again.
    for request_id in ["r1", "r2"] {
        let told = revoke(request_id).await.unwrap_err();
        assert_eq!(told.reason, "STORE_UNAVAILABLE", "it says that other replicas do not know yet: {told:?}");
        assert!(!is_published().await, "verifiers see it gone");
        app.sign_for("demo").await.unwrap_err();
    }

    limit_files(&server.process, None);
    let next = eventually("the standby signs", PATIENCE, async || app.sign_for("demo").await.ok()).await;
    assert_ne!(next.kid, kid);
    revoke("r3").await.unwrap();
    server.stop().await;
    let records = audit_log::read(&site.audit_dir(), "test");
    assert!(records.iter().any(|record| record["action"] == "revoke" && record["outcome"] == "done"), "{records:#?}");
    let server = site.start_with(|command| _ = command.arg("--unsafe-testing"));
    server.ready().await;
    assert_ne!(server.app().sign_for("demo").await.unwrap().kid, kid, "it was written, and stays revoked");
    let served = server.jwks_of("demo").await;
    assert!(served["keys"].as_array().unwrap().iter().all(|key| key["kid"] != kid.as_str()), "{served}");
}
