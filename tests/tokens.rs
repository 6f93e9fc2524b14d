//! Modules, tokens and keys that are not as they should be.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use hallmark_proto::v1::{Key, KeyState, ListKeysRequest};
use hallmark_testkit::softhsm::SoftHsm;
use serde_json::Value;
use tonic::Code;

use crate::{
    rotation::Verifier,
    support::{HALLMARK, PATIENCE, Refusal, Server, Site, eventually, site::OPS},
};

/// What `serve` says when it does not start.
fn start_error(site: &Site) -> String {
    let mut process = site.spawn(|_| {});
    let status = process.wait(PATIENCE);
    assert!(!status.success() && status.code().is_some(), "{status}");
    let log = process.log();
    assert!(!log.contains("panicked"), "{log}");
    log
}

#[test]
fn a_module_path_that_leads_nowhere() {
    let mut site = Site::new();
    site.replace(SoftHsm::MODULE, "/usr/lib/nosuch/libnosuch.so");
    let error = start_error(&site);
    assert!(error.contains("/usr/lib/nosuch/libnosuch.so") && error.contains("hint:"), "{error}");
}

#[test]
fn a_library_that_is_no_pkcs11_module() {
    let mut site = Site::new();
    let libc = [format!("/lib/{}-linux-gnu/libc.so.6", std::env::consts::ARCH), "/lib64/libc.so.6".to_owned()];
    let libc = libc.into_iter().find(|path| Path::new(path).exists()).unwrap();
    site.replace(SoftHsm::MODULE, &libc);
    let error = start_error(&site);
    assert!(error.contains("not a PKCS#11 module") && error.contains("hint:"), "{error}");
}

#[test]
fn a_file_that_is_no_library() {
    let mut site = Site::new();
    let text = site.folder().join("ca.pem").display().to_string();
    site.replace(SoftHsm::MODULE, &text);
    let error = start_error(&site);
    assert!(error.contains("not a PKCS#11 module") && error.contains(&text), "{error}");
}

/// A token may be plugged in later, so the server waits for it; the log names those that are there.
#[tokio::test]
async fn a_token_that_is_not_there_is_waited_for() {
    let mut site = Site::new();
    site.replace(&format!("token_label = \"{}\"", SoftHsm::LABEL), "token_label = \"later\"");
    let mut server = site.start();
    let line = server.process.wait_for_log("`later` is not there");
    assert!(line.contains(SoftHsm::LABEL), "{line}");
    server.process.wait_for_log("hint: correct `token_serial` or `token_label`");
    assert_eq!(server.health("/readyz/sign").await.0, 503);
    site.token.add_token("later");
    server.ready().await;
}

/// Its operator goes step by step, and the server looks in between.
#[tokio::test]
async fn a_token_that_is_still_being_set_up_is_waited_for() {
    let mut site = Site::new();
    site.replace(&format!("token_label = \"{}\"", SoftHsm::LABEL), "token_label = \"later\"");
    let mut server = site.start();
    server.process.wait_for_log("`later` is not there");
    let set_up = |arguments: &[&str]| {
        let as_officer = ["--module", SoftHsm::MODULE, "--so-pin", SoftHsm::SO_PIN];
        let done =
            Command::new("pkcs11-tool").args(as_officer).args(arguments).envs(site.token.env()).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    };
    set_up(&["--init-token", "--slot-index", "1", "--label", "later"]);
    server.process.wait_for_log("the token has no user PIN yet");
    set_up(&["--token-label", "later", "--login", "--login-type", "so", "--init-pin", "--new-pin", SoftHsm::PIN]);
    server.ready().await;
}

#[tokio::test]
async fn a_label_that_two_tokens_have() {
    let site = Site::new();
    site.token.add_token(SoftHsm::LABEL);
    let mut server = site.start();
    server.process.wait_for_log("is there 2 times, with the serials");
    server.process.wait_for_log("hint: name one by `token_serial`");
    assert_eq!(server.health("/readyz/sign").await.0, 503);
}

/// The active key of `demo`, on a server that is stopped then.
async fn active_key(site: &Site) -> Key {
    let server = site.start();
    server.ready().await;
    let request = ListKeysRequest { client: "demo".to_owned(), ..Default::default() };
    let keys = server.ops().keys().list_keys(request).await.unwrap().into_inner().keys;
    let active = keys.into_iter().find(|key| key.state() == KeyState::Active).unwrap();
    server.stop().await;
    active
}

async fn refused(server: &Server) -> Refusal {
    eventually("the token is up", PATIENCE, async || {
        server.app().sign_for("demo").await.err().filter(|refusal| refusal.reason != "HSM_UNAVAILABLE")
    })
    .await
}

fn pkcs11_tool(site: &Site, arguments: &[&str]) -> String {
    let output = Command::new("pkcs11-tool")
        .args(["--module", SoftHsm::MODULE, "--token-label", SoftHsm::LABEL, "--login", "--pin", SoftHsm::PIN])
        .args(arguments)
        .envs(site.token.env())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[tokio::test]
async fn a_key_that_is_gone_from_the_token() {
    let site = Site::new();
    let key = active_key(&site).await;
    pkcs11_tool(&site, &["--delete-object", "--type", "privkey", "--id", &hex(&key.cka_id)]);
    let server = site.start();
    let refusal = refused(&server).await;
    assert_eq!((refusal.code, refusal.reason.as_str()), (Code::FailedPrecondition, "KEY_ABSENT"), "{refusal:?}");
    // Nothing is forgotten: the key is still published and listed, for an operator to look at.
    assert_eq!(server.jwks_of("demo").await["keys"].as_array().unwrap().len(), 2);
    let request = ListKeysRequest { client: "demo".to_owned(), ..Default::default() };
    let listed = server.ops().keys().list_keys(request).await.unwrap().into_inner().keys;
    assert!(listed.iter().any(|listed| listed.kid == key.kid));
}

#[tokio::test]
async fn two_keys_that_match() {
    let site = Site::new();
    let key = active_key(&site).await;
    let twin = ["--keypairgen", "--key-type", "EC:prime256v1", "--id", &hex(&key.cka_id), "--label", &key.label];
    pkcs11_tool(&site, &twin);
    let server = site.start();
    let refusal = refused(&server).await;
    assert_eq!((refusal.code, refusal.reason.as_str()), (Code::FailedPrecondition, "KEY_ABSENT"), "{refusal:?}");
    let log = server.log();
    assert!(log.contains(&hex(&key.cka_id)) || log.contains(&key.label), "the log names them:\n{log}");
}

/// A client moves here with its registration: the key of another program goes on under the `kid` that it has there.
#[tokio::test]
async fn a_key_that_no_record_knows_is_listed_left_alone_and_taken_in_when_asked() {
    let mut site = Site::new();
    site.replace("provision = \"auto\"", "provision = \"auto\"\ncustody = \"imported\"");
    let old = ["--key-type", "EC:prime256v1", "--id", "0a0b", "--label", "old key", "--sensitive", "--usage-sign"];
    pkcs11_tool(&site, &[&["--keypairgen"], &old[..]].concat());
    let server = site.start();
    server.ready().await;
    let connection = site.connection("ops", &site.ca.client(OPS), &server.grpc);
    let hallmark = |arguments: &[&str]| -> Value {
        let mut command = Command::new(HALLMARK);
        let done = command.args(arguments).args(["--json", "--connection"]).arg(&connection).output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        serde_json::from_slice(&done.stdout).unwrap()
    };

    let strays = || hallmark(&["keys", "list"])["strays"].as_array().unwrap().clone();
    let listed = eventually("it is seen", PATIENCE, async || Some(strays()).filter(|strays| !strays.is_empty())).await;
    assert_eq!(listed.iter().map(|stray| &stray["label"]).collect::<Vec<_>>(), ["old key"], "and no other");
    let adopt = ["keys", "adopt", "demo", "--cka-id", "0a0b", "--kid", "kept-kid", "--reason", "it moves here"];
    assert_eq!(hallmark(&adopt)["state"], "applied");
    hallmark(&["keys", "rotate", "demo", "--reason", "it moves here", "--force", "--yes"]);
    let signed = server.app().sign_for("demo").await.unwrap();
    assert_eq!(Verifier::new(&server).verify(&signed.assertion).await.unwrap(), "kept-kid");
    assert!(strays().is_empty(), "a record knows it now");
    server.stop().await;
}

/// Custody is checked, not assumed: the token's own word counts, whatever the record says.
#[tokio::test]
async fn a_key_that_can_be_extracted() {
    let site = Site::new();
    let key = active_key(&site).await;
    let changed = make_extractable(site.token.folder());
    assert!(changed > 0);
    let shown = pkcs11_tool(&site, &["--list-objects", "--type", "privkey", "--id", &hex(&key.cka_id)]);
    assert!(shown.contains("extractable") && !shown.contains("never extractable, never"), "{shown}");
    let server = site.start();
    let refusal = refused(&server).await;
    assert_eq!((refusal.code, refusal.reason.as_str()), (Code::FailedPrecondition, "CUSTODY_TOO_WEAK"), "{refusal:?}");
}

/// Turns `CKA_EXTRACTABLE` to true in every object of a SoftHSM token, as nobody could through PKCS#11. Its object files
/// hold attributes one after the other: type, kind (1 for a boolean), value.
fn make_extractable(token: &Path) -> usize {
    let attribute = [0u64.to_be_bytes(), 0u64.to_be_bytes()].concat();
    let mut attribute = attribute;
    attribute[..8].copy_from_slice(&0x162u64.to_be_bytes());
    attribute[8..].copy_from_slice(&1u64.to_be_bytes());
    let mut changed = 0;
    for path in objects(&token.join("tokens")) {
        let mut bytes = fs::read(&path).unwrap();
        if let Some(at) = bytes.windows(attribute.len()).position(|window| window == attribute) {
            bytes[at + attribute.len()] = 0xff;
            fs::write(&path, bytes).unwrap();
            changed += 1;
        }
    }
    changed
}

fn objects(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let found = entries.flat_map(|path| if path.is_dir() { objects(&path) } else { vec![path] });
    found.filter(|path| path.extension().is_some_and(|extension| extension == "object")).collect()
}
