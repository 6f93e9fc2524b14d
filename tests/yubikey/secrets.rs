//! What a YubiKey is opened with is shown nowhere, and kept no longer than it is needed.

use hallmark_testkit::virtual_yubikey::{Firmware, VirtualYubiKey};

use super::rig;
use crate::{
    secrets::{none_is_in_memory, none_is_shown},
    support::{PATIENCE, eventually},
};

#[tokio::test]
async fn no_secret_of_a_yubikey_is_shown_or_kept() {
    let Some(yubikeys) = VirtualYubiKey::start(Firmware::V5_7, 7_700_001) else { return };
    let site = rig::site(7_700_001);
    let server = site.start_with(|command| _ = command.envs(yubikeys.env()).env("HALLMARK_LOG", "trace"));
    server.ready().await;
    eventually("both keys are made", PATIENCE, async || {
        (server.jwks_of("demo").await["keys"].as_array().unwrap().len() == 2).then_some(())
    })
    .await;
    let hex = VirtualYubiKey::MANAGEMENT_KEY;
    let raw = (0..hex.len()).step_by(2).map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap()).collect();
    let secrets = [
        // Six digits alone would be found by chance: with what VERIFY puts behind them.
        ("the PIN", [VirtualYubiKey::PIN.as_bytes(), &[0xff, 0xff]].concat()),
        ("the management key in hex", hex.as_bytes().to_vec()),
        ("the management key", raw),
    ];
    none_is_shown(&site, &server, &secrets, &["server.key", "app.key", "ops.key", ".pin", ".mgm"]).await;
    none_is_in_memory(&server, &secrets);
    server.stop().await;
}
