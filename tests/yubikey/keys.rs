//! Keys on a YubiKey: made, found again by a fresh store, replaced, destroyed.

use std::fs;

use hallmark_proto::v1::{
    AdoptKeyRequest, CreateKeysRequest, DestroyKeyRequest, KeyState, ListKeysRequest, ListKeysResponse,
    RevokeKeyRequest, adopt_key_request::Object,
};
use hallmark_testkit::virtual_yubikey::{Firmware, VirtualYubiKey};
use rustix::process::Signal;
use serde_json::Value;

use super::rig::{other_program, site, start, start_fast, write};
use crate::{
    hsm_contract::table::{self, Column},
    rotation::Verifier,
    support::{Dev, PATIENCE, Refusal, Server, eventually},
};

async fn listed(server: &Server) -> ListKeysResponse {
    let request = ListKeysRequest { fresh: true, ..Default::default() };
    server.ops().keys().list_keys(request).await.unwrap().into_inner()
}

/// An RSA and an EC line on firmware 5.7; then the store is lost, and the YubiKey says whose its keys are.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn it_signs_and_a_fresh_store_adopts_what_is_there() {
    let Some(yubikey) = VirtualYubiKey::start(Firmware::V5_7, 1_000_001) else { return };
    let mut site = site(yubikey.serial());
    site.replace("keys = [{ alg = \"ES256\" }]", "keys = [{ alg = \"RS384\" }, { alg = \"ES256\" }]");
    let server = start(&site, &yubikey);
    server.ready().await;
    let signed = server.app().sign_for("demo").await.unwrap();
    assert_eq!(signed.alg, "RS384");
    let mut verifier = Verifier::new(&server);
    let of_ec = crate::support::caller::for_client("demo");
    let of_ec =
        server.app().sign(hallmark_proto::v1::SignAssertionRequest { alg: "ES256".into(), ..of_ec }).await.unwrap();
    assert_eq!(verifier.verify(&of_ec.assertion).await.unwrap(), of_ec.kid);
    let published: Vec<_> = kids(&server.jwks_of("demo").await);
    assert_eq!(published.len(), 4);
    server.stop().await;

    for name in ["keys.db", "keys.db-wal", "keys.db-shm"] {
        let _ = fs::remove_file(site.folder().join(name));
    }
    site.replace("provision = \"auto\"", "provision = \"manual\"");
    let server = start(&site, &yubikey);
    let strays = eventually("the YubiKey was looked at", PATIENCE, async || {
        let strays = listed(&server).await.strays;
        (strays.len() >= 5).then_some(strays)
    })
    .await;
    let found = strays.iter().find(|stray| stray.kid == of_ec.kid).expect("the key that signed is there");
    assert!(found.label.starts_with("hallmark:demo:ES256:"), "{}", found.label);
    let request = AdoptKeyRequest {
        request_id: "a1".into(),
        reason: "the store was lost".into(),
        client: "demo".into(),
        object: Some(Object::Label(found.label.clone())),
        ..Default::default()
    };
    server.ops().keys().adopt_key(request).await.unwrap();
    assert_eq!(
        kids(&server.jwks_of("demo").await),
        std::slice::from_ref(&of_ec.kid),
        "under the name that verifiers know"
    );
    eventually("the adopted key signs", PATIENCE, async || {
        let request = crate::support::caller::for_client("demo");
        let request = hallmark_proto::v1::SignAssertionRequest { alg: "ES256".into(), ..request };
        server.app().sign(request).await.ok().filter(|signed| signed.kid == of_ec.kid)
    })
    .await;
    server.stop().await;
}

fn kids(jwks: &Value) -> Vec<String> {
    jwks["keys"].as_array().unwrap().iter().map(|key| key["kid"].as_str().unwrap().to_owned()).collect()
}

/// Slots for one line and the custody key, and no more: what is destroyed must make room for what comes next.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_destroyed_key_makes_room_with_either_firmware() {
    for firmware in [Firmware::V5_4, Firmware::V5_7] {
        let Some(yubikey) = VirtualYubiKey::start(firmware, 1_000_002) else { return };
        let mut site = site(yubikey.serial());
        site.replace("management_key_source", "slots = [\"82\", \"9a\", \"9c\", \"9e\"]\nmanagement_key_source");
        site.append("\n[unsafe_testing]\nsweep_every = \"100ms\"\nlead = \"100ms\"\nkeep = \"1s\"\n");
        let server = start_fast(&site, &yubikey);
        server.ready().await;
        let mut dead = Vec::new();
        for round in 0..3 {
            // A standby signs once it was published for long enough.
            let signs = async || server.app().sign_for("demo").await.ok();
            let kid = eventually("it signs", PATIENCE, signs).await.kid;
            assert!(!dead.contains(&kid), "a key that was destroyed signs");
            let (request_id, reason) = (format!("r{round}"), "test".to_owned());
            let revoke = RevokeKeyRequest { request_id, reason: reason.clone(), kid: kid.clone() };
            server.ops().keys().revoke_key(revoke).await.unwrap();
            // Its place is taken by a new standby: the last slot.
            eventually("there is a new standby", PATIENCE, async || {
                let keys = listed(&server).await.keys;
                let is_standby =
                    |key: &hallmark_proto::v1::Key| key.state() == KeyState::PreActive && !key.kid.is_empty();
                keys.iter().any(|key| key.client == "demo" && is_standby(key)).then_some(())
            })
            .await;
            let destroy = DestroyKeyRequest { request_id: format!("d{round}"), reason, kid: kid.clone(), force: true };
            server.ops().keys().destroy_key(destroy).await.unwrap();
            assert!(listed(&server).await.strays.is_empty(), "and leaves nothing behind");
            dead.push(kid);
        }
        eventually("it signs", PATIENCE, async || server.app().sign_for("demo").await.ok()).await;
        let said = if firmware == Firmware::V5_7 { "key deleted" } else { "key overwritten by one that nobody needs" };
        assert_eq!(server.log().matches(said).count(), 3, "{}", server.log());
        server.stop().await;
    }
    table::compare_cell("YubiKey, firmware 5.4 (virtual)", Column::MainJob, "ES256, revoked and destroyed");
}

/// As `rotation`, with keys in slots that others leave again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rotations_while_callers_sign_are_not_noticed() {
    let Some(yubikey) = VirtualYubiKey::start(Firmware::V5_7, 1_000_003) else { return };
    let mut site = site(yubikey.serial());
    site.append(
        "\n[unsafe_testing]\nsweep_every = \"100ms\"\nrotate_every = \"2s\"\nlead = \"1s\"\nkeep = \"1500ms\"\n",
    );
    let server = start_fast(&site, &yubikey);
    server.ready().await;
    let (app, mut verifier, mut kids) = (server.app(), Verifier::new(&server), Vec::<String>::new());
    eventually("four keys have signed", PATIENCE, async || {
        let signed = app.sign_for("demo").await.unwrap();
        let kid = verifier.verify(&signed.assertion).await.unwrap();
        if kids.last() != Some(&kid) {
            assert!(!kids.contains(&kid), "a key signs once in its life");
            kids.push(kid);
        }
        (kids.len() >= 4).then_some(())
    })
    .await;
    server.stop().await;
    table::compare_cell("YubiKey, firmware 5.7 (virtual)", Column::MainJob, "ES256, rotation");
}

/// What others have on the YubiKey is named and left alone; the management key is tried once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_stands_in_the_way_of_a_key_is_named() {
    let Some(yubikey) = VirtualYubiKey::start(Firmware::V5_4, 1_000_004) else { return };
    other_program(&yubikey, &["-a", "generate", "-s", "9a", "-A", "ECCP256", "-o", "/dev/null"]);
    let mut site = site(yubikey.serial());
    site.replace("management_key_source", "slots = [\"9a\", \"82\", \"83\", \"84\", \"85\"]\nmanagement_key_source");
    site.replace("provision = \"auto\"", "provision = \"manual\"");
    write(&site.folder().join("yubi.mgm"), &"0f".repeat(24));
    let server = start(&site, &yubikey);
    eventually("the refusal is told", PATIENCE, async || {
        server.log().contains("is not that of YubiKey 1000004: no key was made").then_some(())
    })
    .await;
    let create = |id: &str| CreateKeysRequest {
        request_id: id.into(),
        reason: "test".into(),
        client: "demo".into(),
        alg: String::new(),
    };
    let ops = server.ops();
    ops.keys().create_keys(create("c1")).await.unwrap_err();
    eventually("it is not tried again", PATIENCE, async || {
        server.log().contains("was tried before and not accepted").then_some(())
    })
    .await;

    write(&site.folder().join("yubi.mgm"), VirtualYubiKey::MANAGEMENT_KEY);
    eventually("the custody key is made", PATIENCE, async || {
        (server.health("/readyz/sign").await.0 == 200).then_some(())
    })
    .await;
    // It was free when the server looked.
    other_program(&yubikey, &["-a", "generate", "-s", "83", "-A", "ECCP256", "-o", "/dev/null"]);
    ops.keys().create_keys(create("c2")).await.unwrap();
    // A fresh look is taken for one for some seconds.
    eventually("both are still there", PATIENCE, async || {
        let labels: Vec<_> = listed(&server).await.strays.into_iter().map(|stray| stray.label).collect();
        (labels == ["slot-9a", "slot-83"]).then_some(())
    })
    .await;
    // Three slots are ours now, and two are not.
    let kid = server.app().sign_for("demo").await.unwrap().kid;
    let (request_id, reason) = ("r1".to_owned(), "test".to_owned());
    ops.keys().revoke_key(RevokeKeyRequest { request_id, reason, kid }).await.unwrap();
    eventually("the full YubiKey is told", PATIENCE, async || {
        let log = server.log();
        (log.contains("no slot is free: 3 of 5") && log.contains("slot 9a: a key of another program")).then_some(())
    })
    .await;
    server.stop().await;
}

/// Keys of others can be taken in, unless they wait for a person at each signature.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_of_others_is_adopted_by_its_slot_unless_it_waits_for_a_person() {
    let Some(yubikey) = VirtualYubiKey::start(Firmware::V5_4, 1_000_006) else { return };
    for (slot, policy) in [("9a", "--touch-policy=always"), ("9c", "--pin-policy=always"), ("9d", "--pin-policy=once")]
    {
        other_program(&yubikey, &["-a", "generate", "-s", slot, "-A", "ECCP256", policy, "-o", "/dev/null"]);
    }
    let mut site = site(yubikey.serial());
    site.replace("provision = \"auto\"", "provision = \"manual\"");
    site.replace("keys = [{ alg = \"ES256\" }]", "keys = [{ alg = \"ES256\" }, { alg = \"RS384\", rsa_bits = 3072 }]");
    let server = start(&site, &yubikey);
    eventually("the YubiKey is up", PATIENCE, async || (server.health("/readyz/sign").await.0 == 200).then_some(()))
        .await;
    let adopt = async |slot: &str| {
        let request = AdoptKeyRequest {
            request_id: slot.into(),
            reason: "it was there".into(),
            client: "demo".into(),
            object: Some(Object::Label(format!("slot-{slot}"))),
            ..Default::default()
        };
        server.ops().keys().adopt_key(request).await
    };
    for (slot, why) in [("9a", "key in slot 9a can't sign for a service: it wants a touch"), ("9c", "the PIN anew")] {
        let refused: Refusal = adopt(slot).await.expect_err("nobody is there").into();
        assert_eq!(refused.reason, "HSM_REFUSED", "{refused:?}");
        assert!(server.log().contains(why), "{why}: {}", server.log());
    }
    adopt("9d").await.unwrap();
    eventually("it signs", PATIENCE, async || server.app().sign_for("demo").await.ok()).await;

    // RSA-3072 is for firmware 5.7.
    let request = CreateKeysRequest {
        request_id: "c1".into(),
        reason: "test".into(),
        client: "demo".into(),
        alg: "RS384".into(),
    };
    let refused: Refusal = server.ops().keys().create_keys(request).await.unwrap_err().into();
    assert_eq!(refused.reason, "ALG_UNSUPPORTED", "{refused:?}");
    let log = server.log();
    assert!(log.contains("YubiKey 1000006 has firmware 5.4.3") && log.contains("firmware 5.7.0 or later"), "{log}");
    server.stop().await;
}

/// A process that dies while it makes or destroys keys leaves nothing that nobody knows.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_is_killed_again_and_again_leaves_no_key_behind() {
    let Some(yubikey) = VirtualYubiKey::start(Firmware::V5_7, 1_000_007) else { return };
    let mut site = site(yubikey.serial());
    site.append(
        "\n[unsafe_testing]\nsweep_every = \"50ms\"\nrotate_every = \"500ms\"\nlead = \"200ms\"\nkeep = \"300ms\"\n",
    );
    for round in 0..6 {
        let server = start_fast(&site, &yubikey);
        // Not inside the login: a PIN that nobody knows the verdict on waits for an operator, and rightly so.
        eventually("it has logged in and done something", PATIENCE, async || {
            let done = server.metric("hallmark_rotation_acts_total{outcome=\"done\"}").await;
            let sessions = server.metric("hallmark_hsm_sessions{hsm=\"yubi\"}").await;
            (sessions > 0.0 && done >= f64::from(round % 3)).then_some(())
        })
        .await;
        server.process.signal(Signal::KILL);
    }
    site.replace("rotate_every = \"500ms\"\n", "");
    let server = start_fast(&site, &yubikey);
    eventually("it signs", PATIENCE, async || server.app().sign_for("demo").await.ok()).await;
    assert_eq!(listed(&server).await.strays, [], "each key has its record");
    server.stop().await;
}

/// `hallmark dev` on a YubiKey that somebody has set up.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dev_runs_on_a_yubikey() {
    let Some(yubikey) = VirtualYubiKey::start(Firmware::V5_4, 1_000_005) else { return };
    let folder = tempfile::tempdir().unwrap();
    let [pin, key] = ["pin", "mgm"].map(|name| folder.path().join(name));
    write(&pin, VirtualYubiKey::PIN);
    write(&key, VirtualYubiKey::MANAGEMENT_KEY);
    let sources = [&pin, &key].map(|path| format!("file:{}", path.display()));
    let options = [
        "--client",
        "demo:ES256",
        "--hsm",
        "yubikey",
        "--pin-source",
        &sources[0],
        "--management-key-source",
        &sources[1],
    ];
    let dev = Dev::start_with(&options, |command| _ = command.envs(yubikey.env()));
    let signed = dev.caller("workload").sign_for("demo").await.unwrap();
    assert_eq!(signed.alg, "ES256");
}
