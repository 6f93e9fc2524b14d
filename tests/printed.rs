//! Token requests that are printed, and sent with something else.

use std::process::{Command, Output};

use serde_json::{Value, json};

use crate::support::{Dev, HALLMARK, verifiers::AuthorizationServer};

fn print(dev: &Dev, form: &str, more: &[&str]) -> String {
    let connection = dev.path("/connection");
    let arguments = ["token", "clinic", "--scope", "a b", "--print", form, "--connection"];
    let Output { status, stdout, stderr } =
        Command::new(HALLMARK).args(arguments).arg(connection).args(more).output().unwrap();
    let stderr = String::from_utf8(stderr).unwrap();
    assert!(status.success(), "{stderr}");
    if more.is_empty() {
        assert!(stderr.contains("counts once"), "{stderr}");
    }
    String::from_utf8(stdout).unwrap()
}

/// Whoever has no more than a shell gets an access token, once.
#[tokio::test]
async fn the_printed_command_gets_an_access_token() {
    let server = AuthorizationServer::oidc_provider();
    let dev = Dev::start(&["--client", "clinic:RS384", "--token-endpoint", &server.token_endpoint]);
    server.register("clinic", dev.jwks_url("clinic"), "RS384", "a b").await;
    let command = print(&dev, "curl", &[]);
    let send = || {
        let sent = Command::new("sh").args(["-c", &format!("{} --silent --show-error", command.trim_end())]).output();
        let sent = sent.expect("a shell");
        assert!(sent.status.success(), "{}", String::from_utf8_lossy(&sent.stderr));
        serde_json::from_slice::<Value>(&sent.stdout).unwrap()
    };
    let answer = send();
    assert!(answer["access_token"].is_string(), "{answer}");
    assert_eq!(answer["scope"], Value::Null);
    assert_eq!(send()["error"], "invalid_client", "the assertion counts once");
}

#[tokio::test]
async fn the_other_forms_say_the_same() {
    let dev = Dev::start(&["--client", "clinic:ES384", "--token-endpoint", "https://as.example/a//token/"]);
    let postman: Value = serde_json::from_str(&print(&dev, "postman", &[])).unwrap();
    let request = &postman["item"][0]["request"];
    assert_eq!((&request["method"], &request["url"]), (&json!("POST"), &json!("https://as.example/a//token/")));
    let names: Vec<_> = request["body"]["urlencoded"].as_array().unwrap().iter().map(|field| &field["key"]).collect();
    assert_eq!(names, ["grant_type", "scope", "client_assertion_type", "client_assertion"]);
    let text = print(&dev, "http", &[]);
    assert!(text.starts_with("POST /a//token/ HTTP/1.1\r\nHost: as.example\r\n"), "{text}");
    assert!(text.contains("&scope=a+b&"), "{text}");
    let json: Value = serde_json::from_str(&print(&dev, "http", &["--json"])).unwrap();
    assert_eq!((&json["form"], &json["alg"]), (&json!("http"), &json!("ES384")));
}
