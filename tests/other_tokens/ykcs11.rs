//! A virtual YubiKey through Yubico's PKCS#11 module: what `hsm-config/ykcs11.md` says of it.

use std::path::PathBuf;

use hallmark_testkit::{
    softhsm::SoftHsm,
    virtual_yubikey::{Firmware, VirtualYubiKey},
};
use tonic::Code;

use crate::{
    hsm_contract::table,
    support::{PATIENCE, Site, eventually},
};

fn module() -> PathBuf {
    let multiarch = format!("/usr/lib/{}-linux-gnu/libykcs11.so", std::env::consts::ARCH);
    [multiarch.as_str(), "/usr/lib/libykcs11.so"].into_iter().map(PathBuf::from).find(|path| path.exists()).unwrap()
}

/// The module is found, its token listed and logged in to. Making a key takes the security officer there, which Hallmark
/// is not: it says so, and goes on serving what it has.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_are_not_made_through_ykcs11_and_it_is_said_why() {
    const SERIAL: u32 = 4_000_001;
    let Some(yubikey) = VirtualYubiKey::start(Firmware::V5_4, SERIAL) else { return };
    let mut site = Site::new();
    site.replace("workers = 2", "workers = 1").through(&module(), &[]);
    site.replace(&format!("token_label = \"{}\"", SoftHsm::LABEL), &format!("token_label = \"YubiKey PIV #{SERIAL}\""));
    let pin = site.token.other_pin_file("yubikey-pin", VirtualYubiKey::PIN);
    let of_softhsm = site.token.pin_file().display().to_string();
    site.replace(&format!("file:{of_softhsm}"), &format!("file:{}", pin.display()));
    let mut server = site.start_with(|command| _ = command.envs(yubikey.env()));
    eventually("it has logged in", PATIENCE, async || {
        (server.metric("hallmark_hsm_sessions{hsm=\"soft\"}").await > 0.0).then_some(())
    })
    .await;
    server.process.wait_for_log("C_GenerateKeyPair");
    let refused = server.app().sign_for("demo").await.unwrap_err();
    assert_eq!((refused.code, refused.reason.as_str()), (Code::FailedPrecondition, "NO_ACTIVE_KEY"), "{refused:?}");
    assert_eq!(server.health("/readyz/sign").await.0, 503);
    server.stop().await;
    let none = "none: making a key takes the security officer";
    table::compare_row(
        "YubiKey through ykcs11 (virtual)",
        &[none, "none", "not tried", "none", "not tried", "all: use `kind = \"yubikey\"`"],
        None,
    );
}
