//! `hallmark inspect`, as it is used.

use std::{
    io::Write,
    process::{Command, Output, Stdio},
};

use crate::support::{Dev, HALLMARK};

fn inspect(arguments: &[&str], stdin: &str) -> Output {
    let mut command = Command::new(HALLMARK);
    command.arg("inspect").args(arguments).current_dir("/").stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(stdin.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

#[test]
fn what_hallmark_signs_passes_and_what_was_changed_does_not() {
    let dev = Dev::start(&["--client", "clinic:ES384", "--token-endpoint", "https://as.example/token"]);
    let sign = ["sign", "clinic", "--connection"];
    let signed = Command::new(HALLMARK).args(sign).arg(dev.path("/connection")).output().unwrap();
    let assertion = String::from_utf8(signed.stdout).unwrap();
    let for_server =
        ["--profile", "smart-v2", "--audience", "https://as.example/token", "--jwks", dev.jwks_url("clinic")];

    let seen = inspect(&for_server, &assertion);
    let text = String::from_utf8_lossy(&seen.stdout);
    assert_eq!(seen.status.code(), Some(0), "{text}");
    assert!(text.contains("signature\n  verified with key `"), "{text}");
    // The server for development speaks plain HTTP. Once a minute there is a note beside, on dates that are whole minutes.
    assert!(text.contains("1 warning") && text.contains("the URL is not https"), "{text}");

    let (head, signature) = assertion.trim().rsplit_once('.').unwrap();
    let flipped = if signature.starts_with('A') { "B" } else { "A" };
    let changed = inspect(&for_server, &format!("{head}.{flipped}{}", &signature[1..]));
    let text = String::from_utf8_lossy(&changed.stdout);
    assert_eq!(changed.status.code(), Some(1), "{text}");
    assert!(text.contains("error: the signature does not verify: not with key `"), "{text}");

    let other = inspect(&[assertion.trim(), "--audience", "https://as.example/token/", "--json"], "");
    let answer: serde_json::Value = serde_json::from_slice(&other.stdout).unwrap();
    assert_eq!((other.status.code(), &answer["ok"]), (Some(1), &false.into()));
    assert!(answer["findings"][0]["what"].as_str().unwrap().contains("the trailing slash is missing"), "{answer}");
}

#[test]
fn what_is_too_long_is_not_read() {
    let refused = inspect(&[], &"a".repeat(70_000));
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&refused.stderr).starts_with("error: a JWT of 65537 bytes is too large"));
}
