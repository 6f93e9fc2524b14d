//! `hallmark doctor` and `hallmark token` against a real authorization server, with one thing wrong at a time: the first
//! cause that they name is the true one.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use hallmark_testkit::{p11_kit::P11Kit, softhsm::SoftHsm};
use serde_json::Value;

use crate::support::{HALLMARK, PATIENCE, Server, Site, eventually, spy::Spy, verifiers::AuthorizationServer};

/// A server whose client `demo` is registered at a real authorization server, by what the test made of both.
struct Case {
    site: Site,
    server: Server,
    _as: AuthorizationServer,
}

/// Where its files are.
fn config(site: &Site) -> PathBuf {
    site.folder().join("hallmark.toml")
}

impl Case {
    async fn new(spoil: impl FnOnce(&mut Site, &str)) -> Self {
        Self::registered(spoil, "demo-id", "ES256").await
    }

    async fn registered(spoil: impl FnOnce(&mut Site, &str), client_id: &str, alg: &str) -> Self {
        Self::start(Site::new(), spoil, client_id, alg).await
    }

    async fn with_token(token: SoftHsm, spoil: impl FnOnce(&mut Site, &str)) -> Self {
        Self::start(Site::with_token(token), spoil, "demo-id", "ES256").await
    }

    async fn start(site: Site, spoil: impl FnOnce(&mut Site, &str), client_id: &str, alg: &str) -> Self {
        Self::at(AuthorizationServer::oidc_provider(), site, spoil, client_id, alg).await
    }

    async fn at(
        authorization_server: AuthorizationServer,
        mut site: Site,
        spoil: impl FnOnce(&mut Site, &str),
        client_id: &str,
        alg: &str,
    ) -> Self {
        let endpoint = authorization_server.token_endpoint.clone();
        site.replace("https://as.example/token", &endpoint);
        spoil(&mut site, &endpoint);
        let server = site.start();
        server.ready().await;
        let case = Self { site, server, _as: authorization_server };
        let jwks = case.jwks_url().await;
        case._as.register(client_id, &jwks, alg, "read").await;
        case.site.connections(&case.server);
        case
    }

    /// As Hallmark gives it to authorization servers.
    async fn jwks_url(&self) -> String {
        let request = hallmark_proto::v1::GetJwksRequest { client: "demo".to_owned() };
        self.server.app().jwks().get_jwks(request).await.unwrap().into_inner().url
    }

    fn run(&self, arguments: &[&str]) -> Output {
        let file = |name: &str| self.site.folder().join(name);
        let mut command = Command::new(HALLMARK);
        command.args(arguments).args(["--json", "--connection"]).arg(file("app.toml"));
        if arguments[0] == "doctor" {
            command.arg("--operator").arg(file("ops.toml"));
        }
        command.current_dir("/").output().unwrap()
    }

    fn doctor(&self, more: &[&str]) -> (Option<i32>, Value) {
        let output = self.run(&[&["doctor", "demo"], more].concat());
        let said = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
        (output.status.code(), said)
    }

    /// The first broken link, by its name and what it says.
    fn first_broken(&self, more: &[&str]) -> (String, String) {
        let (code, said) = self.doctor(more);
        assert_eq!(code, Some(1), "{said:#}");
        let first = &said["first_broken"];
        assert!(first["next"].as_str().is_some_and(|next| !next.is_empty()), "{first:#}");
        (first["link"].as_str().unwrap().to_owned(), first["what"].as_str().unwrap().to_owned())
    }

    /// The likeliest cause of a refusal, by what it is about and what it says.
    fn first_cause(&self) -> (String, String) {
        let output = self.run(&["token", "demo", "--scope", "read"]);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        let said: Value = serde_json::from_slice(&output.stderr).unwrap();
        let error = &said["error"];
        assert_eq!(
            (&error["reason"], &error["error"]),
            (&"TOKEN_REFUSED".into(), &"invalid_client".into()),
            "{error:#}"
        );
        let first = &error["causes"][0];
        (first["about"].as_str().unwrap().to_owned(), first["what"].as_str().unwrap().to_owned())
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn where_all_is_right_nothing_is_broken() {
    let case = Case::new(|_, _| {}).await;
    let config = config(&case.site).display().to_string();
    let (code, said) = case.doctor(&["--config", &config, "--live", "--scope", "read"]);
    assert_eq!((code, &said["ok"]), (Some(0), &true.into()), "{said:#}");
    let good = |link: &str| {
        let links = said["links"].as_array().unwrap();
        links.iter().any(|found| found["link"] == link && found["state"] == "ok")
    };
    let chain =
        ["configuration", "HSM soft", "HSM soft PIN", "connection", "identity", "health", "active key", "next key"];
    let outside = [
        "signature",
        "client_id",
        "algorithm",
        "assertion",
        "JWKS URL",
        "kid",
        "same key",
        "authorization server",
        "clock",
        "audience",
        "access token",
    ];
    for link in chain.iter().chain(&outside) {
        assert!(good(link), "{link}: {said:#}");
    }
    assert!(!said.to_string().contains("eyJ"), "no assertion is printed: {said:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_the_workload_may_not_sign_for_ends_no_walk() {
    let case = Case::new(|site, endpoint| {
        site.add_client("another", "ES256", endpoint).replace("\"demo\", \"another\"", "\"demo\"");
    })
    .await;
    let asked = |arguments: &[&str]| {
        let output = case.run(arguments);
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        serde_json::from_slice::<Value>(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"))
    };
    let said = asked(&["doctor"]);
    let first = &said["first_broken"];
    assert_eq!(first["of"], "client another", "{said:#}");
    assert!(first["what"].as_str().unwrap().contains("no client `another` for this workload"), "{first:#}");
    assert!(first["next"].as_str().unwrap().contains("`clients` of the [[workload]]"), "{first:#}");
    let links = said["links"].as_array().unwrap();
    let signed = |link: &&Value| link["of"] == "client demo" && link["link"] == "signature" && link["state"] == "ok";
    assert!(links.iter().any(|link| signed(&link)), "the other client is looked at: {said:#}");

    let first = &asked(&["doctor", "nobody"])["first_broken"];
    assert_eq!(first["link"], "identity", "{first:#}");
    assert!(first["next"].as_str().unwrap().contains("hallmark keys list --client nobody"), "{first:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slash_at_the_end_of_the_token_endpoint() {
    let case = Case::new(|site, endpoint| _ = site.replace(endpoint, &format!("{endpoint}/"))).await;
    let (about, what) = case.first_cause();
    assert_eq!(about, "audience", "{what}");
    assert!(what.ends_with("a slash at the end that does not belong there"), "{what}");
    assert_eq!(case.first_broken(&[]), (about, what));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_set_from_before_the_last_rotation() {
    let stale = r#"{"keys":[{"kty":"EC","crv":"P-256","kid":"old","x":"AA","y":"AA","use":"sig","alg":"ES256"}]}"#;
    let url = serve(stale);
    let case = Case::new(|site, _| public_url(site, &url)).await;
    let (about, what) = case.first_cause();
    assert!(about == "kid" && what.ends_with("is not at the JWKS URL"), "{about}: {what}");
    assert_eq!(case.first_broken(&[]), (about, what));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_key_set_that_can_not_be_reached() {
    // An address of this test's own: nobody else takes the port.
    let free = TcpListener::bind("127.0.0.77:0").unwrap().local_addr().unwrap();
    let case = Case::new(|site, _| public_url(site, &format!("http://{free}"))).await;
    let (about, what) = case.first_cause();
    assert!(about == "JWKS URL" && what.contains("can't be fetched"), "{about}: {what}");
    assert_eq!(case.first_broken(&[]), (about, what));
}

/// It is seen without an assertion, where nobody asked for an access token.
#[tokio::test(flavor = "multi_thread")]
async fn a_token_endpoint_that_refuses_connections() {
    // An address of this test's own: nobody else takes the port.
    let free = TcpListener::bind("127.0.0.79:0").unwrap().local_addr().unwrap();
    let case = Case::new(|site, endpoint| _ = site.replace(endpoint, &format!("http://{free}/oauth2/token"))).await;
    let (link, what) = case.first_broken(&[]);
    assert_eq!(link, "authorization server", "{what}");
    assert!(what.starts_with(&format!("`http://{free}` can't be reached from here: Connection refused")), "{what}");
    let (_, said) = case.doctor(&[]);
    let next = said["first_broken"]["next"].as_str().unwrap();
    assert!(next.contains(&format!("curl -v http://{free}")) && next.contains("`token_endpoint`"), "{next}");
    assert!(said["links"].as_array().unwrap().iter().all(|link| link["link"] != "access token"), "{said:#}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_clock_that_is_ten_minutes_late() {
    let case = Case::new(|site, _| _ = site.under(ten_minutes_late())).await;
    let (about, what) = case.first_cause();
    assert_eq!(about, "clock", "{what}");
    assert!(
        what.starts_with("Hallmark's clock is ") && what.ends_with(" s behind the authorization server's"),
        "{what}"
    );
    assert_eq!(case.first_broken(&[]).0, "clock");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_id_that_nobody_registered() {
    let case = Case::registered(|_, _| {}, "another-id", "ES256").await;
    let (about, what) = case.first_cause();
    assert!(about == "client_id" && what.contains("`demo-id`"), "{about}: {what}");
    // It can't be seen from here; only asking shows it.
    assert_eq!(case.doctor(&[]).0, Some(0));
    let (_, said) = case.doctor(&["--live"]);
    assert_eq!(said["first_broken"]["link"], "access token");
    assert_eq!(said["first_broken"]["causes"][0]["about"], "client_id");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_algorithm_that_the_server_does_not_take() {
    let picky = AuthorizationServer::oidc_provider_with(|command| _ = command.args(["--algs", "RS384"]));
    let case = Case::at(picky, Site::new(), |_, _| {}, "demo-id", "RS384").await;
    let (about, what) = case.first_cause();
    assert_eq!((about.as_str(), what.as_str()), ("algorithm", "the authorization server takes no ES256"));
    assert_eq!(case.first_broken(&[]), (about, what));
}

/// The server tries a PIN once; the doctor never does.
#[tokio::test(flavor = "multi_thread")]
async fn a_pin_that_was_refused() {
    let mut site = Site::new();
    let spy = Spy::on(&mut site, Path::new(SoftHsm::MODULE), &[]);
    let server = site.start();
    server.ready().await;
    server.stop().await;
    fs::write(site.token.pin_file(), "12340000").unwrap();
    let server = site.start();
    site.connections(&server);
    let app = server.app();
    let refused = async || app.sign_for("demo").await.err().filter(|refusal| refusal.reason == "PIN_REFUSED").map(drop);
    eventually("the PIN is refused", PATIENCE, refused).await;
    let tried = spy.logins();
    let output = Command::new(HALLMARK)
        .args(["doctor", "demo", "--json", "--config"])
        .arg(config(&site))
        .arg("--connection")
        .arg(site.folder().join("ops.toml"))
        .output()
        .unwrap();
    let said: Value = serde_json::from_slice(&output.stdout).unwrap();
    let first = &said["first_broken"];
    assert_eq!((&first["of"], &first["link"]), (&"this machine".into(), &"HSM soft PIN".into()), "{said:#}");
    assert!(first["next"].as_str().unwrap().contains("write the file anew (touch `"), "{first:#}");
    assert!(!said.to_string().contains("12340000"));
    assert_eq!(spy.logins(), tried);
}

/// The server would not start with it.
#[tokio::test(flavor = "multi_thread")]
async fn an_algorithm_that_the_profile_does_not_have() {
    let mut case = Case::new(|_, _| {}).await;
    case.site.replace("provision = \"auto\"", "provision = \"auto\"\nprofile = \"openemr-8\"").write();
    let (link, what) = case.first_broken(&["--config", &config(&case.site).display().to_string()]);
    assert!(
        link == "configuration" && what.contains("`openemr-8` does not accept algorithm `ES256`"),
        "{link}: {what}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_is_gone() {
    let token = SoftHsm::new();
    let mut connection = P11Kit::new(&token);
    connection.start();
    let case = Case::with_token(token.shared(), |site, _| {
        site.through(&P11Kit::module(), &P11Kit::env(&token));
    });
    let case = case.await;
    connection.kill();
    let app = case.server.app();
    let down = async || {
        _ = app.sign_for("demo").await;
        (case.server.health("/readyz/sign").await.0 != 200).then_some(())
    };
    eventually("the server knows", PATIENCE, down).await;
    let (link, what) = case.first_broken(&[]);
    assert_eq!(link, "HSM soft", "{what}");
    let config = config(&case.site).display().to_string();
    let (_, said) = case.doctor(&["--config", &config]);
    let first = &said["first_broken"];
    assert_eq!((&first["of"], &first["link"]), (&"this machine".into(), &"HSM soft".into()), "{said:#}");
    assert!(
        said["links"].as_array().unwrap().iter().any(|link| link["link"] == "kid" && link["state"] == "ok"),
        "{said:#}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_server_or_a_configuration_it_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let run = |more: &[&str]| {
        let output = Command::new(HALLMARK).arg("doctor").args(more).current_dir(folder.path()).output().unwrap();
        assert_eq!(output.status.code(), Some(1), "{output:?}");
        String::from_utf8(output.stdout).unwrap() + std::str::from_utf8(&output.stderr).unwrap()
    };
    let said = run(&["clinic"]);
    assert!(said.contains("✗ connection") && said.contains("start a server with `hallmark dev`"), "{said}");
    let said = run(&["--config", "none.toml"]);
    assert!(
        said.contains("✗ configuration") && said.contains("the first broken link: this machine: configuration"),
        "{said}"
    );
}

/// For the server alone, whose monotonic clock stays: all that waits goes by it.
fn ten_minutes_late() -> &'static [&'static str] {
    let wrapper = ["-f", "-600s", "printenv", "LD_PRELOAD"];
    let preload =
        Command::new("faketime").args(wrapper).output().expect("`faketime` is not installed\nhint: make setup");
    let preload = format!("LD_PRELOAD={}", String::from_utf8(preload.stdout).unwrap().trim());
    let clock = ["FAKETIME=-600s", "FAKETIME_DONT_FAKE_MONOTONIC=1", "DONT_FAKE_MONOTONIC=1", "NO_FAKE_STAT=1"];
    let words = ["env".to_owned(), preload].into_iter().chain(clock.map(str::to_owned));
    Vec::leak(words.map(|word| &*String::leak(word)).collect())
}

fn public_url(site: &mut Site, url: &str) {
    site.replace(
        "[jwks]\nlisten = \"127.0.0.1:0\"",
        &format!("[jwks]\nlisten = \"127.0.0.1:0\"\npublic_url = \"{url}\""),
    );
}

/// Serves one document at every path, until the test ends.
fn serve(body: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            BufReader::new(&stream).lines().map_while(Result::ok).take_while(|line| !line.is_empty()).for_each(drop);
            let head =
                format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n", body.len());
            // Whoever has read enough goes away.
            let _ = (&stream).write_all(format!("{head}connection: close\r\n\r\n{body}").as_bytes());
        }
    });
    url
}
