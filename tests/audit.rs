//! The audit log: what happened, in an order that nobody can change unseen.

mod commands;
mod crash;

use std::collections::{HashMap, HashSet};

use serde_json::Value;

use crate::support::{Site, audit_log, site::APP};

fn of<'a>(records: &'a [Value], event: &str) -> Vec<&'a Value> {
    records.iter().filter(|record| record["event"] == event).collect()
}

#[tokio::test]
async fn every_assertion_received_is_in_the_chain() {
    let site = Site::new();
    let server = site.start();
    server.ready().await;
    let app = server.app();
    let mut received = HashMap::new();
    for _ in 0..50 {
        let signed = app.sign_for("demo").await.unwrap();
        received.insert(signed.jti.clone(), signed);
    }
    // Killed, not stopped: what a caller has received was on the disk before.
    let mut server = server;
    server.process.kill();

    let records = audit_log::read(&site.audit_dir(), "test");
    let intents = of(&records, "sign-intent");
    let outcomes = of(&records, "sign-outcome");
    for signed in received.values() {
        let outcome = outcomes.iter().find(|outcome| outcome["jti"] == signed.jti).expect("an outcome");
        assert_eq!(outcome["outcome"], "done");
        assert_eq!(outcome["exp"].as_i64().unwrap(), signed.expires_at.unwrap().seconds);
        let intent = intents.iter().find(|intent| intent["request"] == outcome["request"]).expect("an intent");
        assert!(intent["seq"].as_u64() < outcome["seq"].as_u64());
        for (member, expected) in [
            ("who", APP),
            ("client", "demo"),
            ("kid", &signed.kid),
            ("alg", "ES256"),
            ("kind", "assertion"),
            ("audience", "https://as.example/token"),
        ] {
            assert_eq!(intent[member], expected, "{member}");
        }
    }
    // Making the keys was recorded before it was done.
    let changes: HashSet<_> = of(&records, "key-intent").iter().map(|record| record["change"].clone()).collect();
    assert!(!changes.is_empty());
    for change in changes {
        assert!(of(&records, "key-outcome").iter().any(|record| record["change"] == change), "{change}");
    }
}

#[tokio::test]
async fn refusals_are_recorded() {
    let site = Site::new();
    let server = site.start();
    server.ready().await;
    server.app().sign_for("nosuch").await.unwrap_err();
    server.stop().await;
    let records = audit_log::read(&site.audit_dir(), "test");
    let refused = of(&records, "refused");
    assert_eq!(refused.len(), 1, "{refused:?}");
    for (member, expected) in [("who", APP), ("client", "nosuch"), ("reason", "CLIENT_NOT_PERMITTED")] {
        assert_eq!(refused[0][member], expected, "{member}");
    }
}

#[tokio::test]
async fn one_chain_over_many_runs() {
    let site = Site::new();
    for run in 0..3 {
        let mut server = site.start();
        server.ready().await;
        server.app().sign_for("demo").await.unwrap();
        if run == 1 {
            server.process.kill();
        } else {
            server.stop().await;
        }
    }
    let records = audit_log::read(&site.audit_dir(), "test");
    assert_eq!(of(&records, "start").len(), 3);
}

/// Two servers would write two chains that look like one, forged.
#[tokio::test]
async fn a_second_server_on_the_same_log_is_refused() {
    let site = Site::new();
    let server = site.start();
    let mut second = site.spawn(|_| {});
    assert!(!second.wait(crate::support::PATIENCE).success());
    assert!(second.log().contains("in use") || second.log().contains("lock"), "{}", second.log());
    drop(server);
}
