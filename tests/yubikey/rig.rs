//! A site whose HSM is a YubiKey, and what else may be done to that one.

use std::{fs, os::unix::fs::PermissionsExt, path::Path, process::Command};

use hallmark_testkit::{softhsm::SoftHsm, virtual_yubikey::VirtualYubiKey};

use crate::support::{Server, Site};

/// The `[[hsm]]` section of [`Site`], which that of a YubiKey takes the place of.
fn softhsm(site: &Site) -> String {
    format!(
        "name = \"soft\"\nmodule = \"{}\"\nmodule_env = {{ SOFTHSM2_CONF = \"{}\" }}\ntoken_label = \"{}\"\n\
         pin_source = \"file:{}\"\nworkers = 2\n",
        SoftHsm::MODULE,
        site.token.folder().join("softhsm2.conf").display(),
        SoftHsm::LABEL,
        site.token.pin_file().display()
    )
}

/// The section of a YubiKey, called `name`.
pub(super) fn section(name: &str, serial: u32) -> String {
    format!(
        "name = \"{name}\"\nkind = \"yubikey\"\nserial = {serial}\npin_source = \"file:{name}.pin\"\n\
         management_key_source = \"file:{name}.mgm\"\n"
    )
}

/// A site with a client `demo` (ES256) whose keys are on a YubiKey called `yubi`.
pub(super) fn site(serial: u32) -> Site {
    let mut site = Site::new();
    let softhsm = softhsm(&site);
    site.replace(&softhsm, &section("yubi", serial)).replace("hsm = [\"soft\"]", "hsm = [\"yubi\"]");
    secrets(&site, "yubi", VirtualYubiKey::PIN);
    site
}

/// Writes PIN and management key for the YubiKey called `name`.
pub(super) fn secrets(site: &Site, name: &str, pin: &str) {
    write(&site.folder().join(format!("{name}.pin")), pin);
    write(&site.folder().join(format!("{name}.mgm")), VirtualYubiKey::MANAGEMENT_KEY);
}

/// A file for nobody else.
pub(super) fn write(path: &Path, text: &str) {
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

/// A server that sees what is plugged in here.
pub(super) fn start(site: &Site, yubikeys: &VirtualYubiKey) -> Server {
    site.start_with(|command| _ = command.envs(yubikeys.env()))
}

/// As [`start`], with `[unsafe_testing]`.
pub(super) fn start_fast(site: &Site, yubikeys: &VirtualYubiKey) -> Server {
    site.start_with(|command| _ = command.arg("--unsafe-testing").envs(yubikeys.env()))
}

/// Another program on the same machine: Yubico's own tool. Gives what it says.
pub(super) fn other_program(yubikeys: &VirtualYubiKey, args: &[&str]) -> String {
    let output = Command::new("yubico-piv-tool").args(args).envs(yubikeys.env()).output().expect("yubico-piv-tool");
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}
