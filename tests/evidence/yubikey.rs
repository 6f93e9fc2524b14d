//! What a YubiKey's maker vouches for; the maker of virtual ones is known to nobody unless the configuration names it.

use hallmark_testkit::{
    softhsm::SoftHsm,
    virtual_yubikey::{Firmware, VirtualYubiKey},
};

use super::{Audit, NONCE, text};
use crate::support::{PATIENCE, Site, eventually};

const SERIAL: u32 = 7_100_001;

/// A site whose client wants attested keys, on a YubiKey.
fn site() -> Site {
    let mut site = Site::new();
    let softhsm = format!(
        "module = \"{}\"\nmodule_env = {{ SOFTHSM2_CONF = \"{}\" }}\ntoken_label = \"{}\"\npin_source = \"file:{}\"\n\
         workers = 2\n",
        SoftHsm::MODULE,
        site.token.folder().join("softhsm2.conf").display(),
        SoftHsm::LABEL,
        site.token.pin_file().display()
    );
    let yubikey = format!(
        "kind = \"yubikey\"\nserial = {SERIAL}\npin_source = \"file:yubi.pin\"\nmanagement_key_source = \"file:yubi.mgm\"\n"
    );
    site.replace(&softhsm, &yubikey);
    site.replace("hsm = [\"soft\"]", "hsm = [\"soft\"]\ncustody = \"attested\"");
    site.replace("[instance]\n", "[instance]\nattestation_roots = \"roots.pem\"\n");
    let root = VirtualYubiKey::attestation_root();
    for (name, text) in
        [("yubi.pin", VirtualYubiKey::PIN), ("yubi.mgm", VirtualYubiKey::MANAGEMENT_KEY), ("roots.pem", root)]
    {
        super::secret(&site.folder().join(name), text);
    }
    site
}

#[tokio::test]
async fn a_client_signs_with_attested_keys_alone_and_an_auditor_sees_what_is_attested() {
    let Some(yubikey) = VirtualYubiKey::start(Firmware::V5_7, SERIAL) else { return };
    let site = site();
    let server = site.start_with(|command| _ = command.envs(yubikey.env()));
    server.ready().await;
    let mut audit = Audit::of(site, server);
    let kid = audit.active("demo").await;
    let shown = audit.done(&["keys", "evidence", &kid, "--nonce", NONCE, "--out", "e.jws", "--roots", "roots.pem"]);
    assert!(text(&shown.stdout).contains("custody: attested"), "{}", text(&shown.stdout));
    let known = ["--custody-key", "custody.json", "--nonce", NONCE, "--require", "attested", "--roots", "roots.pem"];
    let (holds, lines) = audit.verify("e.jws", &known);
    assert!(holds, "{lines}");
    for line in [
        format!("of YubiKey {SERIAL}, firmware 5.7"),
        "proven     it asks for the PIN once, and for a touch never".to_owned(),
        "proven     custody: attested".to_owned(),
    ] {
        assert!(lines.contains(&line), "no `{line}` in:\n{lines}");
    }
    // Who does not know the maker is not to believe it.
    let (holds, lines) = audit.verify("e.jws", &known[..6]);
    assert!(!holds && lines.contains("does not lead to a root"), "{lines}");

    // Nor does the server, once it is told so.
    audit.site.replace("attestation_roots = \"roots.pem\"\n", "").write();
    audit.server.reload();
    let app = audit.server.app();
    eventually("the key is refused", PATIENCE, async || {
        let refusal = app.sign_for("demo").await.err();
        refusal.is_some_and(|refusal| refusal.reason == "CUSTODY_TOO_WEAK").then_some(())
    })
    .await;
    audit.server.stop().await;
}
