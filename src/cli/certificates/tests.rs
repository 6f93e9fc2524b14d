use std::time::UNIX_EPOCH;

use super::*;
use crate::cli::fixture::sample_key;

const NOW: u64 = 1_800_000_000;
const DAY: u64 = 86_400;

fn at(secs: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(secs)
}

fn key(kid: &str, state: KeyState, certificate: Option<Certificate>) -> Key {
    Key {
        alg: "RS256".to_owned(),
        certificate_chain: if certificate.is_some() { vec![b"leaf".to_vec(), vec![7; 60]] } else { Vec::new() },
        certificate_missing: certificate.is_none(),
        certificate,
        ..sample_key(kid, state)
    }
}

fn certificate() -> Certificate {
    Certificate {
        subject: "CN=clinic.example,O=\u{1b}[31mClinic".to_owned(),
        issuer: "CN=Some CA".to_owned(),
        serial: "0aff".to_owned(),
        not_before: Some(at(NOW - DAY)),
        not_after: Some(at(NOW + 20 * DAY)),
        san_uris: vec!["https://clinic.example/".to_owned()],
        san_dns: vec!["clinic.example".to_owned()],
        sha1: vec![0xfb; 20],
        sha256: vec![0xfe; 32],
    }
}

fn whole(output: &Output) -> String {
    format!("{}--- stderr\n{}", output.stdout, output.stderr)
}

#[test]
fn certificates_for_people() {
    let keys = [key("k1", KeyState::Active, Some(certificate())), key("k2", KeyState::PreActive, None)];
    insta::assert_snapshot!(whole(&show_as_text(&keys, "clinic", at(NOW))));
    insta::assert_snapshot!(whole(&show_as_text(&keys[1..], "clinic", at(NOW))));
}

#[test]
fn certificates_for_programs() {
    insta::assert_snapshot!(show_as_json(&[key("k1", KeyState::Active, Some(certificate()))]).stdout);
}

#[test]
fn a_request_for_people_and_for_programs() {
    let request = CertificateRequest { der: vec![7; 60], key: key("k2", KeyState::PreActive, None) };
    insta::assert_snapshot!(whole(&csr_as_text(&request, "clinic", None)));
    insta::assert_snapshot!(whole(&csr_as_text(&request, "clinic", Some(Path::new("clinic.csr")))));
    insta::assert_snapshot!(csr_as_json(&request).stdout);
}

#[test]
fn a_file_with_a_private_key_goes_nowhere() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("all.pem");
    fs::write(&file, pem("CERTIFICATE", b"x") + &pem("PRIVATE KEY", b"the secret")).expect("written");
    let text = read(&file).expect_err("refused").render(false).replace(&folder.path().display().to_string(), "DIR");
    insta::assert_snapshot!(text);
    let missing = read(&folder.path().join("none.pem")).expect_err("not there");
    assert!(missing.render(false).contains("can't read"));
}
