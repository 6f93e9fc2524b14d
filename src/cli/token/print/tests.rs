use std::time::{Duration, UNIX_EPOCH};

use super::*;

fn field(name: &str, value: &str) -> FormField {
    FormField { name: name.to_owned(), value: value.to_owned() }
}

fn signed() -> SignedAssertion {
    let token_request = TokenRequest {
        method: "POST".to_owned(),
        url: "https://ehr.example:8443//webchart.cgi/a/../[x]/token/?t=1&u=it's".to_owned(),
        content_type: "application/x-www-form-urlencoded".to_owned(),
        form: vec![
            field("grant_type", "client_credentials"),
            field("scope", "system/*.read  it's \"$(id)\" ü&\n"),
            field("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"),
            field("client_assertion", "eyJ.eyJ.c2ln"),
            field("odd=name@x", "1"),
        ],
        headers: vec![field("accept", "application/json")],
    };
    let issued_at = UNIX_EPOCH + Duration::from_secs(1_800_000_000);
    SignedAssertion {
        assertion: "eyJ.eyJ.c2ln".to_owned(),
        kid: "key-1".to_owned(),
        alg: "RS384".to_owned(),
        jti: "jti-1".to_owned(),
        issued_at,
        expires_at: issued_at + Duration::from_secs(300),
        token_request,
    }
}

#[test]
fn as_a_command() {
    let Output { stdout, stderr } = output("clinic", &signed(), RequestForm::Curl, false);
    insta::assert_snapshot!(format!("{stdout}--- stderr\n{stderr}"));
}

#[test]
fn as_a_collection() {
    insta::assert_snapshot!(output("clinic", &signed(), RequestForm::Postman, false).stdout);
}

#[test]
fn as_text() {
    insta::assert_snapshot!(output("clinic", &signed(), RequestForm::Http, false).stdout.replace('\r', "␍"));
}

#[test]
fn for_programs() {
    insta::assert_snapshot!(output("clinic", &signed(), RequestForm::Http, true).stdout);
}

#[test]
fn urls_are_kept_as_they_are() {
    for (url, expected) in [
        ("https://as.example", ("as.example", "/")),
        ("https://as.example?x=/", ("as.example", "/?x=/")),
        ("http://user:pass@as.example:80/a//b/#f", ("as.example:80", "/a//b/")),
    ] {
        let (authority, target) = split(url);
        assert_eq!((authority, target.as_str()), expected, "{url}");
    }
}

/// What a shell makes of it is what was meant: no word of a value is run or lost.
#[test]
fn a_shell_takes_it_apart_as_it_was_put_together() {
    let command = curl(&signed().token_request).replacen("curl", "printf '%s\\0'", 1);
    let output = std::process::Command::new("sh").args(["-c", &command]).output().expect("a shell");
    let words = String::from_utf8(output.stdout).expect("UTF-8");
    let words: Vec<_> = words.split('\0').collect();
    assert!(words.contains(&"https://ehr.example:8443//webchart.cgi/a/../[x]/token/?t=1&u=it's"), "{words:?}");
    assert!(words.contains(&"scope=system/*.read  it's \"$(id)\" ü&\n"), "{words:?}");
    assert!(words.contains(&"odd%3Dname%40x=1"), "{words:?}");
}
