//! The main job, rotation and recovery on tokens other than SoftHSM, which all other tests run on; `outage` has SoftHSM
//! behind p11-kit, `yubikey` YubiKeys without PKCS#11.

mod ykcs11;

use std::{
    fs::File,
    time::{Duration, Instant, SystemTime},
};

use hallmark_proto::v1::{ListKeysRequest, SignAssertionRequest};
use hallmark_testkit::tpm::Tpm;
use tonic::Code;

use crate::{
    hsm_contract::table::{self, Column},
    outage::Load,
    rotation::Verifier,
    support::{PATIENCE, Server, Site, caller, claims, eventually, verifiers},
};

/// Its row in `docs/hsm-support.md`.
const TPM: &str = "TPM 2.0 (software)";

/// A verifier of `rotation` keeps a set for less than the lead.
const TIMES: &str =
    "\n[unsafe_testing]\nsweep_every = \"100ms\"\nrotate_every = \"3s\"\nlead = \"1s\"\nkeep = \"1500ms\"\n";

/// A site whose token is a TPM's. One worker: see `hsm-config/tpm2.md`.
fn site(tpm: &Tpm) -> Site {
    let mut site = Site::new();
    site.replace("workers = 2", "workers = 1").through(&Tpm::module(), &tpm.env());
    site
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tpm_signs_and_its_keys_are_rotated() {
    let Some(tpm) = Tpm::start() else { return };
    signs_through_rotations(&tpm).await;
    signs_with_rsa(&tpm).await;
    table::compare_cell(TPM, Column::MainJob, "RS256 RS384 ES256, rotation (ES256)");
}

async fn signs_through_rotations(tpm: &Tpm) {
    let mut site = site(tpm);
    site.append(TIMES);
    let server = site.start_with(|command| _ = command.arg("--unsafe-testing"));
    server.ready().await;
    let (app, mut verifier, mut kids) = (server.app(), Verifier::new(&server), Vec::<String>::new());
    eventually("three keys have signed", PATIENCE, async || {
        let signed = app.sign_for("demo").await.unwrap();
        let kid = verifier.verify(&signed.assertion).await.unwrap();
        if kids.last() != Some(&kid) {
            assert!(!kids.contains(&kid), "a key signs once in its life");
            kids.push(kid);
        }
        (kids.len() == 3).then_some(())
    })
    .await;
    server.stop().await;
}

/// Nothing is rotated here: to make an RSA key takes a TPM up to seconds, and it does nothing else meanwhile.
async fn signs_with_rsa(tpm: &Tpm) {
    let mut site = site(tpm);
    site.replace("keys = [{ alg = \"ES256\" }]", "keys = [{ alg = \"RS256\" }, { alg = \"RS384\" }]");
    let server = site.start();
    for alg in ["RS256", "RS384"] {
        let signed = eventually("its keys are made", PATIENCE, async || {
            let request = SignAssertionRequest { alg: alg.into(), ..caller::for_client("demo") };
            server.app().sign(request).await.ok()
        })
        .await;
        let url = server.jwks_url("demo");
        let aud = claims(&signed.assertion)["aud"].as_str().unwrap().to_owned();
        let read = move || verifiers::pyjwt(&signed.assertion, &url, &aud, "demo-id");
        let read = tokio::task::spawn_blocking(read).await.unwrap();
        assert_eq!(read["header"]["alg"], alg, "{read}");
    }
    server.stop().await;
}

/// Behind the resource manager as it comes, the library has room for 27 objects that are in use, and each new key takes
/// two until the library is started anew.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tpms_library_that_is_full_makes_keys_again_by_itself() {
    let Some(tpm) = Tpm::start() else { return };
    let mut site = site(&tpm);
    for number in 1..=12 {
        site.add_client(&format!("more-{number}"), "ES256", "https://as.example/token");
    }
    let server = site.start();
    eventually("each of the thirteen clients has two keys", PATIENCE, async || {
        let listed = server.ops().keys().list_keys(ListKeysRequest::default()).await.unwrap().into_inner();
        (listed.keys.iter().filter(|key| !key.kid.is_empty()).count() == 1 + 26).then_some(())
    })
    .await;
    server.stop().await;
}

/// What is lost of a TPM.
type Loss = (&'static str, fn(&mut Tpm));

/// Two are power cuts: a third would lock it.
const LOSSES: [Loss; 3] =
    [("TPM and resource manager", Tpm::power_off), ("resource manager", Tpm::lose_manager), ("TPM", Tpm::lose_tpm)];

/// The library answers CKR_GENERAL_ERROR to all while its TPM is away, and from its return on too, until it is started
/// anew: nobody restarts Hallmark, nobody touches the PIN's file. Until power was cut three times: then the TPM takes no
/// PIN before an operator says so, and Hallmark, which is told that it is locked, tries it no second time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tpm_that_is_lost_with_or_without_its_resource_manager_signs_again_by_itself() {
    let Some(mut tpm) = Tpm::start() else { return };
    let site = site(&tpm);
    let server = site.start();
    server.ready().await;
    let mut load = Load::start(&server, 2);
    for (what, lose) in LOSSES {
        load.next(|ended| ended.result.is_ok()).await;
        lose(&mut tpm);
        is_lost(&server, &mut load, 2).await;
        tpm.power_on();
        let returned = Instant::now();
        let again = load.next(|ended| ended.at > returned && ended.result.is_ok()).await;
        let took = again.at - returned;
        eprintln!("{what} away and back: {} ms from return to first signature", took.as_millis());
        assert!(took <= RETURN_LIMIT, "{took:?}");
    }

    tpm.lose_tpm();
    is_lost(&server, &mut load, 2).await;
    tpm.power_on();
    load.next(|ended| ended.result.as_ref().is_err_and(|refused| refused.reason == "PIN_REFUSED")).await;
    tpm.clear_lockout();
    // An operator who finds the PIN right.
    let pin = File::options().append(true).open(site.token.pin_file()).unwrap();
    pin.set_modified(SystemTime::UNIX_EPOCH).unwrap();
    let touched = Instant::now();
    load.next(|ended| ended.at > touched && ended.result.is_ok()).await;
    let log = server.log();
    let tried = log.lines().filter(|line| line.contains("CKR_PIN_LOCKED")).count();
    assert!(tried > 0, "the TPM says why: {log}");
    drop(load);
    server.stop().await;
    let within = RETURN_LIMIT.as_secs();
    let text = format!(
        "TPM, resource manager or both lost and back: within {within} s; three power cuts: once it is unlocked"
    );
    table::compare_cell(TPM, Column::Recovery, &text);
}

/// Callers are told to come again, and verifiers see the keys.
async fn is_lost(server: &Server, load: &mut Load, keys: usize) {
    eventually("the token counts as lost", PATIENCE, async || {
        (server.health("/readyz/sign").await.0 == 503).then_some(())
    })
    .await;
    let lost = Instant::now();
    for _ in 0..50 {
        let ended = load.next(|ended| ended.at - ended.took > lost).await;
        let refused = ended.result.expect_err("there is no token");
        assert_eq!(refused.code, Code::Unavailable, "{refused:?}");
        assert_ne!(refused.reason, "PIN_REFUSED", "the PIN was spent on a token that is away: {refused:?}");
    }
    assert_eq!(published(server).await, keys, "verifiers see the keys meanwhile");
}

/// From the token's return to the first signature. The keeper's longest pause is a second; the rest is room
/// for a machine that is busy with other tests.
const RETURN_LIMIT: Duration = Duration::from_secs(10);

async fn published(server: &Server) -> usize {
    server.jwks_of("demo").await["keys"].as_array().unwrap().len()
}
