//! What `serve --role jwks` needs, and what it does not.

use super::*;

const FOLLOWER: &str = r#"
[jwks]
listen = "127.0.0.1:8080"
[follow]
address = "https://hallmark.internal:8443"
tls = { cert = "follower.pem", key = "follower.key" }
ca = "ca.pem"
state_dir = "state"
"#;

fn follower(text: &str) -> Result<Follower, String> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("hallmark.toml");
    std::fs::write(&path, text).unwrap();
    load_follower(&path).map_err(|error| error.to_string())
}

#[test]
fn a_follower_needs_little() {
    let config = follower(FOLLOWER).unwrap();
    let FollowedSource::Signer(follow) = config.source else { panic!("{:?}", config.source) };
    assert_eq!(
        (follow.address.as_str(), follow.max_stale),
        ("https://hallmark.internal:8443", Duration::from_secs(86_400))
    );
    assert!(follow.state_dir.is_absolute() && follow.state_dir.ends_with("state"), "{:?}", follow.state_dir);
    assert_eq!(config.warnings, []);
    // One file may be for both roles.
    let both = [MINIMAL, CLIENT, WORKLOAD, FOLLOWER.split_once("[follow]").unwrap().1].concat();
    let both = both.replace("\naddress", "\n[follow]\naddress");
    assert!(matches!(follower(&both).unwrap().source, FollowedSource::Signer(_)));
    assert_eq!(warnings(&both).len(), 1, "it has no effect on a server that signs");
}

#[test]
fn what_a_follower_lacks_is_said() {
    let told = |text: &str, expected: &[&str]| {
        let error = follower(text).expect_err(text);
        assert!(expected.iter().all(|expected| error.contains(expected)), "{error}");
    };
    told("[jwks]\nlisten = \"127.0.0.1:8080\"\n", &["nothing to serve", "[follow]"]);
    told("[jwks]\nlisten = \"127.0.0.1:8080\"\n[store]\nurl = \"sqlite:x.db\"\n", &["can't read SQLite", "[follow]"]);
    told("[follow]\n", &["`listen` in [jwks]", "`address` in [follow]", "`tls` in [follow]", "`ca`", "`state_dir`"]);
    told(
        &FOLLOWER.replace("https://hallmark.internal:8443", "http://hallmark.internal:8443"),
        &["is not `https://HOST:PORT`"],
    );
    told(&FOLLOWER.replace("state_dir", "state_dri"), &["unknown key in [follow]: `state_dri`", "`state_dir`?"]);
    told(&FOLLOWER.replace("127.0.0.1", "0.0.0.0"), &["can be reached from outside without `tls`"]);
}

#[test]
fn who_reads_a_database_keeps_what_it_read() {
    let text = |jwks: &str| {
        format!("[jwks]\nlisten = \"127.0.0.1:8080\"\n{jwks}[store]\nurl = \"postgres:///d?host=/run/postgresql\"\n")
    };
    let config = follower(&text("state_dir = \"state\"\nmax_stale = \"2h\"\n")).unwrap();
    assert!(matches!(config.source, FollowedSource::Store(_)) && config.warnings.is_empty(), "{config:?}");
    assert!(config.jwks.state_dir.unwrap().ends_with("state"));
    assert_eq!(config.jwks.max_stale, Duration::from_secs(7200));
    let forgetful = follower(&text("")).unwrap();
    assert!(forgetful.warnings[0].what.contains("`state_dir` in [jwks] is missing"), "{:?}", forgetful.warnings);
}

#[test]
fn who_serves_the_key_sets_must_be_let_in() {
    let listed = MINIMAL.replace(
        "listen = \"127.0.0.1:8080\"",
        "listen = \"127.0.0.1:8080\"\npublic_url = \"https://keys.example.com\"\nfollowers = [\"uid:7\"]",
    );
    let error = load_text(&listed).1.unwrap_err().to_string();
    assert!(
        error.contains("names one that may not follow: `uid:7`") && error.contains("roles = [\"follow\"]"),
        "{error}"
    );
    let operator = "[[operator]]\nid = \"uid:7\"\nroles = [\"follow\"]\n";
    assert_eq!(loaded(&[&listed, operator].concat()).1.jwks.followers.len(), 1);
    let nameless = listed.replace("public_url = \"https://keys.example.com\"\n", "");
    let error = load_text(&[&nameless, operator].concat()).1.unwrap_err().to_string();
    assert!(error.contains("`public_url` in [jwks] is missing"), "{error}");
}
