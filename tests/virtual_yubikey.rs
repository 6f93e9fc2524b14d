//! The virtual YubiKey of the other tests (`testkit/virtual-yubikey`) does what a real one would, as Yubico's own tools see it.

use std::{
    fs,
    path::Path,
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1, UnparsedPublicKey};
use hallmark_testkit::virtual_yubikey::{Firmware, Key, VirtualYubiKey};
use x509_cert::der::{Decode, Encode};

use crate::support::PATIENCE;

const SERIAL: u32 = 13_572_468;
const OTHER: u32 = 24_681_357;

#[test]
fn a_key_is_the_same_after_it_was_pulled() {
    let Some(key) = VirtualYubiKey::start(Firmware::V5_4, SERIAL) else { return };
    let status = said(&yubico(&key, &["-a", "status"]));
    assert!(status.contains("5.4.3") && status.contains(&SERIAL.to_string()), "{status}");
    let public = generate(&key, "9c", "ECCP256");
    assert_signs(&key, "9c", &public);

    key.pull();
    assert!(!yubico(&key, &["-a", "version"]).status.success(), "it answers from a pocket");
    key.insert();
    assert_signs(&key, "9c", &public);

    key.pull();
    key.insert_other(OTHER);
    assert!(said(&yubico(&key, &["-a", "status"])).contains(&OTHER.to_string()));
    assert!(!sign(&key, "9c").status.success(), "another key signs with what it never had");
    key.pull();
    key.insert_other(SERIAL);
    assert_signs(&key, "9c", &public);
}

#[test]
fn keys_in_two_readers_do_not_wait_for_each_other_and_outlive_pcscd() {
    let keys = [Key::new(Firmware::V5_4, SERIAL), Key::new(Firmware::V5_7, OTHER)];
    let Some(key) = VirtualYubiKey::start_with(&keys) else { return };
    let serials = || {
        let listed = said(&pkcs11(&key, &["--list-slots"]));
        keys.map(|key| listed.contains(&format!("YubiKey PIV #{}", key.serial)))
    };
    assert_eq!(serials(), [true, true]);

    let public = generate(&key, "9a", "ECCP256");
    key.reader(1).answer_slowly(PATIENCE);
    assert_signs(&key, "9a", &public);
    key.reader(1).pull();
    assert_eq!(serials(), [true, false]);

    key.restart_pcscd();
    assert_signs(&key, "9a", &public);
    key.reader(1).insert();
    assert_eq!(serials(), [true, true]);
}

/// Wherever the power went: the slot is empty, or has a key that its own certificate fits.
#[test]
fn a_pull_leaves_no_half_made_key() {
    let Some(key) = VirtualYubiKey::start(Firmware::V5_4, SERIAL) else { return };
    for wait in [0, 20, 40].map(Duration::from_millis) {
        let mut generating = command(&key, &["-a", "generate", "-s", "9a", "-A", "ECCP256"]);
        let mut generating = generating.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        #[expect(clippy::disallowed_methods, reason = "any moment will do, and it should not be the same each time")]
        std::thread::sleep(wait);
        key.pull();
        generating.wait().unwrap();
        key.insert();
        let attested = yubico(&key, &["-a", "attest", "-s", "9a"]);
        if attested.status.success() {
            let certificate = x509_cert::Certificate::from_der(&pem(&said(&attested))).unwrap();
            let spki = certificate.tbs_certificate().subject_public_key_info().to_der().unwrap();
            assert_signs(&key, "9a", &spki);
        }
    }
}

#[test]
fn slowness_is_felt_until_it_ends() {
    let Some(key) = VirtualYubiKey::start(Firmware::V5_4, SERIAL) else { return };
    let took = || {
        let began = Instant::now();
        assert!(yubico(&key, &["-a", "version"]).status.success());
        began.elapsed()
    };
    let delay = Duration::from_millis(300);
    key.answer_slowly(delay);
    assert!(took() >= delay);
    key.answer_slowly(Duration::ZERO);
    assert!(took() < delay, "still slow");
}

#[test]
fn pkcs11_lists_and_uses_the_keys() {
    let Some(key) = VirtualYubiKey::start(Firmware::V5_4, SERIAL) else { return };
    generate(&key, "9a", "ECCP256");
    generate(&key, "82", "RSA2048");
    let objects = said(&pkcs11(&key, &["--login", "--pin", VirtualYubiKey::PIN, "--list-objects"]));
    assert_eq!(private_keys(&objects), ["PIV Authentication", "Retired Key 1", "PIV Attestation"], "{objects}");
    let (data, signature) = (key.folder().join("data"), key.folder().join("signature"));
    fs::write(&data, "what is signed").unwrap();
    let mechanism = ["--mechanism", "SHA384-RSA-PKCS", "--sign", "--id", "05"];
    let files = ["--input-file", path(&data), "--output-file", path(&signature)];
    let login = ["--login", "--pin", VirtualYubiKey::PIN];
    let signed = pkcs11(&key, &[&login[..], &mechanism, &files].concat());
    assert!(signed.status.success() && fs::read(&signature).unwrap().len() == 256, "{}", said(&signed));
}

#[test]
fn nothing_is_left_running() {
    let Some(key) = VirtualYubiKey::start(Firmware::V5_4, SERIAL) else { return };
    let folder = key.folder().to_owned();
    assert_eq!(running_in(&folder).len(), ["desk", "pcscd", "card"].len());
    drop(key);
    assert_eq!(running_in(&folder), [] as [String; 0]);
}

/// The processes that have the folder on their command line.
fn running_in(folder: &Path) -> Vec<String> {
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let lines = processes.filter_map(|process| fs::read_to_string(process.path().join("cmdline")).ok());
    lines.filter(|line| line.contains(path(folder))).collect()
}

/// Makes a key, and answers its public half: DER, SubjectPublicKeyInfo.
pub(crate) fn generate(key: &VirtualYubiKey, slot: &str, alg: &str) -> Vec<u8> {
    let file = key.folder().join(format!("{slot}.pem"));
    let done = yubico(key, &["-a", "generate", "-s", slot, "-A", alg, "-o", path(&file)]);
    assert!(done.status.success(), "{}", said(&done));
    pem(&fs::read_to_string(file).unwrap())
}

fn assert_signs(key: &VirtualYubiKey, slot: &str, public: &[u8]) {
    let signed = sign(key, slot);
    assert!(signed.status.success(), "{}", said(&signed));
    let signature = fs::read(key.folder().join("signature")).unwrap();
    let public = UnparsedPublicKey::new(&ECDSA_P256_SHA256_ASN1, public);
    public.verify(b"what is signed", &signature).expect("the signature of the key that was made");
}

fn sign(key: &VirtualYubiKey, slot: &str) -> Output {
    let (data, signature) = (key.folder().join("data"), key.folder().join("signature"));
    fs::write(&data, "what is signed").unwrap();
    let files = ["-i", path(&data), "-o", path(&signature)];
    let arguments =
        ["-a", "verify-pin", "-P", VirtualYubiKey::PIN, "--sign", "-s", slot, "-A", "ECCP256", "-H", "SHA256"];
    yubico(key, &[&arguments[..], &files].concat())
}

fn yubico(key: &VirtualYubiKey, arguments: &[&str]) -> Output {
    command(key, arguments).output().expect("yubico-piv-tool")
}

fn command(key: &VirtualYubiKey, arguments: &[&str]) -> Command {
    let mut command = Command::new("yubico-piv-tool");
    // By the first reader's name; without it, any key would do.
    command.args(["-r", "OTP+FIDO+CCID 00 00"]).args(arguments).envs(key.env()).stdin(Stdio::null());
    command
}

fn pkcs11(key: &VirtualYubiKey, arguments: &[&str]) -> Output {
    let module = format!("/usr/lib/{}-linux-gnu/libykcs11.so", std::env::consts::ARCH);
    let mut command = Command::new("pkcs11-tool");
    command.args(["--module", &module]).args(arguments).envs(key.env()).output().expect("pkcs11-tool (of opensc)")
}

/// The labels of the private keys, as pkcs11-tool lists them.
fn private_keys(objects: &str) -> Vec<&str> {
    let lines: Vec<_> = objects.lines().collect();
    let keys = lines.windows(2).filter(|lines| lines[0].starts_with("Private Key Object"));
    keys.filter_map(|lines| Some(lines[1].split_once("Private key for ")?.1.trim())).collect()
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn pem(text: &str) -> Vec<u8> {
    use base64::{Engine, prelude::BASE64_STANDARD};
    let lines: String = text.lines().filter(|line| !line.starts_with("-----")).collect();
    BASE64_STANDARD.decode(lines).unwrap()
}

fn path(path: &Path) -> &str {
    path.to_str().unwrap()
}
