//! The main job, rotation and recovery on tokens other than SoftHSM, which all other tests run on; `outage` has SoftHSM
//! behind p11-kit, `yubikey` YubiKeys without PKCS#11.

mod ykcs11;

use std::fs;

use hallmark_testkit::{softhsm::SoftHsm, tpm::Tpm};
use tonic::Code;

use crate::{
    outage::Load,
    rotation::Verifier,
    support::{PATIENCE, Server, Site, eventually},
};

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
    let mut site = site(&tpm);
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

/// The library answers CKR_GENERAL_ERROR to all while its TPM is away, which says neither what is wrong nor for how long,
/// and its connection does not outlive the resource manager's: `hsm-config/tpm2.md` says what to do.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tpm_whose_resource_manager_died_signs_again_after_a_restart() {
    let Some(mut tpm) = Tpm::start() else { return };
    let site = site(&tpm);
    let server = site.start();
    server.ready().await;
    let mut load = Load::start(&server, 2);
    load.next(|ended| ended.result.is_ok()).await;
    tpm.power_off();
    for _ in 0..20 {
        let refused = load.next(|ended| ended.result.is_err()).await.result.unwrap_err();
        assert_eq!(refused.code, Code::Unavailable, "{refused:?}");
    }
    assert_eq!(published(&server).await, 2, "verifiers see the keys meanwhile");
    drop(load);
    server.stop().await;

    tpm.power_on();
    // As `touch`: how a login ended that was under way is not known, and a PIN is not tried twice.
    fs::write(site.token.pin_file(), SoftHsm::PIN).unwrap();
    let server = site.start();
    server.ready().await;
    server.app().sign_for("demo").await.unwrap();
    server.stop().await;
}

async fn published(server: &Server) -> usize {
    server.jwks_of("demo").await["keys"].as_array().unwrap().len()
}
