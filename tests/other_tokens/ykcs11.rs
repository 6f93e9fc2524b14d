//! A virtual YubiKey through Yubico's PKCS#11 module: what `hsm-config/ykcs11.md` says of it. Its keys are made by Yubico's
//! tool, for the module lets nobody but the security officer make any, and are adopted.

mod seen;

use std::{path::PathBuf, time::Instant};

use hallmark_proto::v1::{AdoptKeyRequest, KeyState, ListKeysRequest, RotateKeysRequest, adopt_key_request::Object};
use hallmark_testkit::{
    softhsm::SoftHsm,
    virtual_yubikey::{Firmware, VirtualYubiKey},
};

use super::{RETURN_LIMIT, is_lost, published};
use crate::{
    hsm_contract::table::{self, Column},
    outage::Load,
    rotation::Verifier,
    support::{PATIENCE, Refusal, Server, Site, claims, eventually, verifiers},
    virtual_yubikey::generate,
};

/// Its row in `docs/hsm-support.md`.
const ROW: &str = "YubiKey through ykcs11 (virtual)";

fn module() -> PathBuf {
    let multiarch = format!("/usr/lib/{}-linux-gnu/libykcs11.so", std::env::consts::ARCH);
    [multiarch.as_str(), "/usr/lib/libykcs11.so"].into_iter().map(PathBuf::from).find(|path| path.exists()).unwrap()
}

fn label(serial: u32) -> String {
    format!("YubiKey PIV #{serial}")
}

/// Verifiers keep a set for less than the lead; nothing rotates by itself.
const TIMES: &str = "\n[unsafe_testing]\nsweep_every = \"100ms\"\nlead = \"1s\"\nkeep = \"1500ms\"\n";

/// A site whose token is that YubiKey, and whose keys an operator adopts.
fn site(yubikey: &VirtualYubiKey) -> Site {
    let mut site = Site::new();
    site.replace("workers = 2", "workers = 1").through(&module(), &[]);
    let softhsm = format!("token_label = \"{}\"", SoftHsm::LABEL);
    site.replace(&softhsm, &format!("token_label = \"{}\"", label(yubikey.serial())));
    let pin = site.token.other_pin_file("yubikey-pin", VirtualYubiKey::PIN);
    let of_softhsm = site.token.pin_file().display().to_string();
    site.replace(&format!("file:{of_softhsm}"), &format!("file:{}", pin.display()));
    site.replace("provision = \"auto\"", "provision = \"manual\"").append(TIMES);
    site
}

fn start(site: &Site, yubikey: &VirtualYubiKey) -> Server {
    site.start_with(|command| _ = command.arg("--unsafe-testing").envs(yubikey.env()))
}

/// Takes the pair in that has this `CKA_ID`; gives its `kid`.
async fn adopt(server: &Server, client: &str, cka_id: u8) -> Result<String, Refusal> {
    let request = AdoptKeyRequest {
        request_id: format!("adopt-{cka_id}"),
        reason: "made with yubico-piv-tool".into(),
        client: client.into(),
        object: Some(Object::CkaId(vec![cka_id])),
        ..Default::default()
    };
    let change = server.ops().keys().adopt_key(request).await?.into_inner().change.unwrap();
    let [adopted] = change.keys.try_into().unwrap();
    Ok(adopted.kid)
}

async fn ready(server: &Server) {
    eventually("it is ready", PATIENCE, async || (server.health("/readyz/sign").await.0 == 200).then_some(())).await;
}

async fn logged_in(server: &Server) {
    eventually("it has logged in", PATIENCE, async || {
        (server.metric("hallmark_hsm_sessions{hsm=\"soft\"}").await > 0.0).then_some(())
    })
    .await;
}

/// Signs for `client`, and a library that is not ours takes it; gives the `kid`.
async fn verified(server: &Server, client: &str) -> String {
    let signed = server.app().sign_for(client).await.unwrap();
    let (aud, issuer) = (claims(&signed.assertion)["aud"].clone(), format!("{client}-id"));
    let url = server.jwks_url(client);
    let read = tokio::task::spawn_blocking(move || {
        verifiers::pyjwt(&signed.assertion, &url, aud.as_str().unwrap(), &issuer);
        signed.kid
    });
    read.await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_of_yubicos_tool_are_adopted_sign_and_are_rotated() {
    let Some(yubikey) = VirtualYubiKey::start(Firmware::V5_4, 4_000_001) else { return };
    // CKA_ID 05 is slot 82, and so on; 02 is 9c.
    for (slot, alg) in [("82", "ECCP256"), ("83", "ECCP256"), ("84", "ECCP256"), ("85", "RSA2048"), ("9c", "ECCP256")] {
        generate(&yubikey, slot, alg);
    }
    let mut site = site(&yubikey);
    site.replace("workers = 1", "workers = 1\ncustody_key = \"05\"");
    site.add_client("rsa", "RS384", "https://as.example/token");
    site.replace("provision = \"auto\"", "provision = \"manual\"");
    let server = start(&site, &yubikey);
    ready(&server).await;

    let first = adopt(&server, "demo", 6).await.unwrap();
    assert_eq!(verified(&server, "demo").await, first);
    let of_rsa = adopt(&server, "rsa", 8).await.unwrap();
    assert_eq!(verified(&server, "rsa").await, of_rsa);

    let mut verifier = Verifier::new(&server);
    let next = adopt(&server, "demo", 7).await.unwrap();
    eventually("verifiers know the next key", PATIENCE, async || {
        let signed = server.app().sign_for("demo").await.unwrap();
        assert_eq!(verifier.verify(&signed.assertion).await.unwrap(), first);
        rotate(&server).await.ok()
    })
    .await;
    eventually("the next key signs, and the last one has gone", PATIENCE, async || {
        let signed = server.app().sign_for("demo").await.unwrap();
        assert_eq!(verifier.verify(&signed.assertion).await.unwrap(), next);
        (published(&server).await == 1).then_some(())
    })
    .await;
    assert_eq!(verified(&server, "demo").await, next);
    what_is_refused(&server).await;
    server.stop().await;
    table::compare_cell(ROW, Column::MainJob, "RS384 ES256, rotation between adopted keys");
}

async fn rotate(server: &Server) -> Result<(), Refusal> {
    let (request_id, reason) = (uuid::Uuid::new_v4().to_string(), "test".into());
    let request = RotateKeysRequest { request_id, reason, client: "demo".into(), ..Default::default() };
    server.ops().keys().rotate_keys(request).await?;
    Ok(())
}

/// Each with what to do about it, for somebody else would have to.
async fn what_is_refused(server: &Server) {
    let refused = adopt(server, "demo", 2).await.expect_err("9c wants the PIN each time");
    assert_eq!(refused.reason, "HSM_REFUSED", "{refused:?}");
    assert!(refused.message.contains("wants the PIN before each signature"), "{refused:?}");
    assert!(refused.message.contains("not in slot 9c"), "{refused:?}");
    let refused = adopt(server, "demo", 5).await.expect_err("the custody key is Hallmark's own");
    assert_eq!(refused.reason, "ALREADY_EXISTS", "{refused:?}");
    assert!(refused.message.contains("of Hallmark itself"), "{refused:?}");
    let log = server.log();
    // The line has no standby, and nobody but an operator can give it one.
    assert!(log.contains("`hallmark keys adopt` takes it in"), "{log}");
    assert!(server.metric("hallmark_alarms{alarm=\"act\"}").await >= 1.0);
    let listed = server.ops().keys().list_keys(ListKeysRequest::default()).await.unwrap().into_inner();
    assert!(listed.keys.iter().all(|key| key.state() != KeyState::PreActive), "nothing was reserved: {listed:?}");
}

/// No custody key is named here, and none can be made: whether it signs is then tried with the client's key.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_custody_key_it_is_ready_with_a_clients_and_comes_back_when_it_was_lost() {
    let Some(yubikey) = VirtualYubiKey::start(Firmware::V5_4, 4_000_002) else { return };
    generate(&yubikey, "82", "ECCP256");
    let site = site(&yubikey);
    let mut server = start(&site, &yubikey);
    logged_in(&server).await;
    server.process.wait_for_log("C_GenerateKeyPair");
    let (status, why) = server.health("/readyz/sign").await;
    assert_eq!((status, why.contains("no custody key yet, and no other")), (503, true), "{why}");
    eventually("it is said what to do", PATIENCE, async || {
        server.log().contains("own tools make keys, `custody_key` in [[hsm]] names one").then_some(())
    })
    .await;

    let kid = adopt(&server, "demo", 5).await.unwrap();
    ready(&server).await;
    assert_eq!(verified(&server, "demo").await, kid);
    let mut load = Load::start(&server, 2);
    for (what, lose, give_back) in LOSSES {
        load.next(|ended| ended.result.is_ok()).await;
        lose(&yubikey);
        is_lost(&server, &mut load, 1).await;
        give_back(&yubikey);
        let returned = Instant::now();
        let again = load.next(|ended| ended.at > returned && ended.result.is_ok()).await;
        let took = again.at - returned;
        eprintln!("{what} and back: {} ms from return to first signature", took.as_millis());
        assert!(took <= RETURN_LIMIT, "{took:?}");
    }
    drop(load);
    server.stop().await;
    let within = RETURN_LIMIT.as_secs();
    table::compare_cell(ROW, Column::Recovery, &format!("pulled and put back, `pcscd` restarted: within {within} s"));
}

/// What is lost, and how it comes back.
type Loss = (&'static str, fn(&VirtualYubiKey), fn(&VirtualYubiKey));

/// More than once: what is left of one loss must not spoil the next.
const LOSSES: [Loss; 3] = [
    ("pulled", VirtualYubiKey::pull, VirtualYubiKey::insert),
    ("pcscd stopped", VirtualYubiKey::stop_pcscd, VirtualYubiKey::start_pcscd),
    ("pulled again", VirtualYubiKey::pull, VirtualYubiKey::insert),
];
