//! Clients are registered at an authorization server, and sign from then on without a restart.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpListener,
    os::unix::fs::PermissionsExt,
    path::PathBuf,
    process::{Command, Output},
};

use hallmark_proto::v1::{GetClientRequest, OAuthClient, RecordRegistrationRequest};
use hallmark_testkit::postgres::Postgres;
use serde_json::Value;
use tonic::Code;

use crate::support::{
    Caller, HALLMARK, PATIENCE, Refusal, Server, Site, audit_log, claims, eventually, site::OPS,
    verifiers::AuthorizationServer,
};

const INITIAL: &str = "initial-access-token-of-a-test";

/// A site whose client `demo` has no `client_id`.
fn unregistered(token_endpoint: &str) -> Site {
    let mut site = Site::new();
    site.replace("client_id = \"demo-id\"\n", "").replace("https://as.example/token", token_endpoint);
    site
}

async fn client(caller: &Caller) -> OAuthClient {
    let request = GetClientRequest { client: "demo".to_owned() };
    caller.clients().get_client(request).await.unwrap().into_inner().client.unwrap()
}

/// Where the registration can be changed (RFC 7592 §3).
const PLACE: &str = "https://as.example/register/1";

fn recording(request_id: &str, client_id: &str) -> RecordRegistrationRequest {
    RecordRegistrationRequest {
        request_id: request_id.to_owned(),
        reason: "test".to_owned(),
        client: "demo".to_owned(),
        client_id: client_id.to_owned(),
        registration_uri: PLACE.to_owned(),
        force: false,
    }
}

/// Runs `hallmark` as the operator of the configuration.
fn hallmark(site: &Site, server: &Server, arguments: &[&str]) -> Output {
    let connection = site.folder().join("operator.toml");
    site.ca.client(OPS).write(site.folder(), "operator");
    let text =
        format!("endpoint = \"{}\"\nca = \"ca.pem\"\ncert = \"operator.pem\"\nkey = \"operator.key\"\n", server.grpc);
    fs::write(&connection, text).unwrap();
    let mut command = Command::new(HALLMARK);
    command.args(arguments).env("HALLMARK_CONNECTION", connection).current_dir(site.folder()).output().unwrap()
}

fn err(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

async fn refused(caller: &Caller) -> String {
    caller.sign_for("demo").await.err().map(|refusal| refusal.reason).unwrap_or_default()
}

/// The whole way: a real registration endpoint, and an access token in the end.
#[tokio::test]
async fn a_registration_that_is_posted_leads_to_an_access_token() {
    let authorization_server = AuthorizationServer::oidc_provider_with(|command| {
        command.args(["--initial-access-token", INITIAL]);
    });
    let site = unregistered(&authorization_server.token_endpoint);
    let server = site.start();
    server.ready().await;
    assert_eq!(refused(&server.app()).await, "NOT_REGISTERED");

    let secret = site.folder().join("initial");
    fs::write(&secret, format!("{INITIAL}\n")).unwrap();
    let post = ["register", "demo", "--post", "--yes", "--initial-access-token", "initial"];
    // Nobody allowed it yet.
    let forbidden = hallmark(&site, &server, &["register", "demo", "--post", "--yes"]);
    assert_eq!(forbidden.status.code(), Some(1), "{}", err(&forbidden));
    assert!(err(&forbidden).contains("status 40"), "{}", err(&forbidden));
    assert!(!site.folder().join("demo.registration.json").exists());

    // No --url: the token endpoint's own discovery document says where.
    let posted = hallmark(&site, &server, &post);
    let (said, shown) = (err(&posted), String::from_utf8_lossy(&posted.stdout).into_owned());
    assert_eq!(posted.status.code(), Some(0), "{said}");
    let kept: PathBuf = site.folder().join("demo.registration.json");
    let answer: Value = serde_json::from_slice(&fs::read(&kept).unwrap()).unwrap();
    let token = answer["registration_access_token"].as_str().unwrap();
    for text in [&said, &shown] {
        assert!(!text.contains(token) && !text.contains(INITIAL), "a secret is printed: {text}");
    }
    assert_eq!(fs::metadata(&kept).unwrap().permissions().mode() & 0o777, 0o600);

    let client_id = answer["client_id"].as_str().unwrap();
    let known = client(&server.ops()).await;
    assert_eq!((known.client_id.as_str(), known.recorded_client_id.as_str()), (client_id, client_id));
    assert_eq!(known.registration_uri, answer["registration_client_uri"]);
    let signed = server.app().sign_for("demo").await.unwrap();
    assert_eq!(claims(&signed.assertion)["sub"], client_id);
    let request = signed.token_request.unwrap();
    let form: Vec<_> = request.form.iter().map(|field| (&field.name, &field.value)).collect();
    let granted = reqwest::Client::new().post(&request.url).form(&form).send().await.unwrap();
    assert_eq!(granted.status(), 200, "{}", granted.text().await.unwrap());

    let again = hallmark(&site, &server, &post);
    assert_eq!(again.status.code(), Some(64), "{}", err(&again));
    assert!(err(&again).contains("--again"), "{}", err(&again));
    // It would be registered there, and Hallmark would not take it.
    let again = hallmark(&site, &server, &[&post[..], &["--again", "--answer", "second.json"]].concat());
    assert_eq!(again.status.code(), Some(64), "{}", err(&again));
    assert!(err(&again).contains("nothing is sent") && err(&again).contains("--force"), "{}", err(&again));
    assert_eq!(client(&server.ops()).await.client_id, client_id);
    let forced = [&post[..], &["--again", "--force", "--answer", "second.json"]].concat();
    let forced = hallmark(&site, &server, &forced);
    assert!(forced.status.success(), "{}", err(&forced));
    assert_ne!(client(&server.ops()).await.client_id, client_id);
}

/// What people were given is recorded by command; the configuration wins, and a difference is an alarm.
#[tokio::test]
async fn the_configuration_wins_over_what_was_recorded() {
    let mut site = unregistered("https://as.example/token");
    let server = site.start();
    server.ready().await;
    let recorded = hallmark(&site, &server, &["register", "demo", "--client-id", "given-1", "--json"]);
    assert!(recorded.status.success(), "{}", err(&recorded));
    assert_eq!(claims(&server.app().sign_for("demo").await.unwrap().assertion)["sub"], "given-1");
    let alarm = "hallmark_alarms{alarm=\"client-id\"}";
    assert!(server.metric(alarm).await.abs() < 0.5);

    // As an operator who edits the file.
    site.replace("name = \"demo\"\n", "name = \"demo\"\nclient_id = \"written\"\n").write();
    server.reload();
    eventually("the configuration is taken", PATIENCE, async || {
        let signed = server.app().sign_for("demo").await.ok()?;
        (claims(&signed.assertion)["sub"] == "written").then_some(())
    })
    .await;
    let known = client(&server.ops()).await;
    assert_eq!((known.client_id.as_str(), known.recorded_client_id.as_str()), ("written", "given-1"));
    let raised = async || (server.metric(alarm).await > 0.5).then_some(());
    eventually("two different client_ids are an alarm", PATIENCE, raised).await;
    let refused = hallmark(&site, &server, &["register", "demo", "--client-id", "third"]);
    let said = err(&refused);
    assert!(!refused.status.success() && said.contains("signs as `written`, which the configuration fixes"), "{said}");
    assert!(said.contains("`given-1` is what is recorded") && said.contains("`client_id` in its [[client]]"), "{said}");
    assert!(
        said.contains("hint: if it is meant") && said.contains("hallmark register demo --client-id third --force"),
        "{said}"
    );
    let recorded = hallmark(&site, &server, &["register", "demo", "--client-id", "written"]);
    assert!(recorded.status.success(), "{}", err(&recorded));
    let over = async || (server.metric(alarm).await < 0.5).then_some(());
    eventually("the alarm is over once they agree", PATIENCE, over).await;
    server.stop().await;

    // A restart forgets nothing.
    site.replace("client_id = \"written\"\n", "");
    let server = site.start();
    server.ready().await;
    assert_eq!(claims(&server.app().sign_for("demo").await.unwrap().assertion)["sub"], "written");
}

#[tokio::test]
async fn only_operators_record_and_only_what_can_be_a_client_id() {
    let site = unregistered("https://as.example/token");
    let server = site.start();
    server.ready().await;
    let record = async |caller: &Caller, request| -> Result<OAuthClient, Refusal> {
        Ok(caller.clients().record_registration(request).await?.into_inner().client.unwrap())
    };
    let workload = record(&server.app(), recording("r0", "a")).await.unwrap_err();
    assert_eq!(workload.code, Code::PermissionDenied, "{workload:?}");
    let ops = server.ops();
    for bad in [String::new(), "a\nb".to_owned(), "a".repeat(8 * 1024 + 1)] {
        let refusal = record(&ops, recording("r1", &bad)).await.unwrap_err();
        assert_eq!(refusal.reason, "INVALID_REQUEST", "{refusal:?}");
    }
    for bad in
        ["/register/1", "httpx://as.example/1", "as.example", "https://as.example/a b", "https://as.example/\u{1b}[2J"]
    {
        let elsewhere = RecordRegistrationRequest { registration_uri: bad.to_owned(), ..recording("r1", "a") };
        let refusal = record(&ops, elsewhere).await.unwrap_err();
        assert_eq!(refusal.reason, "INVALID_REQUEST", "{bad:?}: {refusal:?}");
        assert!(refusal.message.contains("`registration_uri`"), "{refusal:?}");
    }
    let unknown = RecordRegistrationRequest { client: "nosuch".to_owned(), ..recording("r1", "a") };
    assert_eq!(record(&ops, unknown).await.unwrap_err().reason, "INVALID_REQUEST");
    assert_eq!(refused(&server.app()).await, "NOT_REGISTERED");

    // One real server hands out a JWT of some kilobytes.
    let long = "x".repeat(8 * 1024);
    assert_eq!(record(&ops, recording("r2", &long)).await.unwrap().client_id, long);
    let twice = record(&ops, recording("r2", &long)).await.unwrap();
    assert_eq!((twice.client_id.as_str(), twice.registration_uri.as_str()), (long.as_str(), PLACE), "twice is once");
    assert_eq!(record(&ops, recording("r2", "other")).await.unwrap_err().reason, "REQUEST_ID_REUSED");
    let elsewhere =
        RecordRegistrationRequest { registration_uri: "https://as.example/2".to_owned(), ..recording("r2", &long) };
    let reused = record(&ops, elsewhere).await.unwrap_err();
    assert_eq!(reused.reason, "REQUEST_ID_REUSED", "another place is another request");
    let log = audit_log::read(&site.audit_dir(), "test");
    let outcomes = log.iter().filter(|line| line["event"] == "key-outcome" && line["action"] == "register");
    assert_eq!(outcomes.count(), 1);
}

/// All signatures would carry another `sub` at once.
#[tokio::test]
async fn a_client_id_that_is_in_use_is_replaced_by_force_alone() {
    let mut site = unregistered("https://as.example/token");
    site.replace("roles = [\"destroy\"]", "roles = [\"rotate\"]");
    let server = site.start();
    server.ready().await;
    let signs_as = async || claims(&server.app().sign_for("demo").await.unwrap().assertion)["sub"].clone();
    let ops = server.ops();
    let record = async |request| ops.clients().record_registration(request).await.map_err(Refusal::from);
    record(recording("r1", "in-use")).await.unwrap();
    let refused = record(recording("r2", "typo")).await.unwrap_err();
    assert_eq!(refused.reason, "GATE_SHUT", "{refused:?}");
    assert!(refused.message.contains("in-use"), "{refused:?}");
    let forced = RecordRegistrationRequest { force: true, ..recording("r3", "typo") };
    let refused = record(forced.clone()).await.unwrap_err();
    assert_eq!(refused.code, Code::PermissionDenied, "it takes the role `destroy`: {refused:?}");
    assert_eq!(signs_as().await, "in-use");
    // The same one again changes nothing that is signed.
    record(recording("r4", "in-use")).await.unwrap();

    site.replace("roles = [\"rotate\"]", "roles = [\"destroy\"]").write();
    server.reload();
    eventually("the operator has the role", PATIENCE, async || record(forced.clone()).await.ok()).await;
    assert_eq!(signs_as().await, "typo");
    let refused = hallmark(&site, &server, &["register", "demo", "--client-id", "right"]);
    assert_eq!(refused.status.code(), Some(1), "{}", err(&refused));
    assert!(err(&refused).contains("--force"), "{}", err(&refused));
    let force = ["register", "demo", "--client-id", "right", "--force", "--yes"];
    let asked = hallmark(&site, &server, &force[..5]);
    assert_eq!(asked.status.code(), Some(64), "nobody to ask: {}", err(&asked));
    let right = hallmark(&site, &server, &force);
    assert!(right.status.success(), "{}", err(&right));
    assert_eq!(signs_as().await, "right");
    let log = audit_log::read(&site.audit_dir(), "test");
    let both = |line: &&Value| line["subject"].as_str().is_some_and(|text| text.contains("right instead of typo"));
    assert_eq!(log.iter().filter(both).count(), 2, "intent and outcome name both");
}

/// A registration that one replica recorded is what the others sign with.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_replicas_sign_with_it() {
    let Some(cluster) = Postgres::own() else { return };
    let mut site = unregistered("https://as.example/token");
    let sqlite = format!("url = \"sqlite://{}/keys.db\"", site.folder().display());
    site.replace(&sqlite, &format!("url = \"{}\"", cluster.database()));
    let one = site.start();
    one.ready().await;
    site.replace("id = \"test\"", "id = \"other\"").replace("unix = \"hallmark.sock\"", "unix = \"other.sock\"");
    let other = site.start();
    other.ready().await;
    assert_eq!(refused(&other.app()).await, "NOT_REGISTERED");
    one.ops().clients().record_registration(recording("r1", "given")).await.unwrap();
    let signed =
        eventually("the other replica signs", PATIENCE, async || other.app().sign_for("demo").await.ok()).await;
    assert_eq!(claims(&signed.assertion)["sub"], "given");
}

/// What a portal or a person is told comes from the server alone.
#[tokio::test]
async fn what_a_person_hands_over_is_printed() {
    let mut site = unregistered("https://as.example/token");
    site.replace("name = \"demo\"\n", "name = \"demo\"\nprofile = \"webchart\"\n");
    let server = site.start();
    server.ready().await;
    let told = hallmark(&site, &server, &["register", "demo", "--json", "--scope", "system/*.rs"]);
    let told: Value = serde_json::from_slice(&told.stdout).unwrap_or_else(|_| panic!("{}", err(&told)));
    let fields = told["fields"].as_array().unwrap();
    let key = fields.iter().find(|field| field["label"] == "Public Key").unwrap()["value"].as_str().unwrap();
    let pem = reqwest::get(client(&server.ops()).await.public_key_url).await.unwrap().text().await.unwrap();
    assert_eq!(key, pem);
    assert!(!told.to_string().contains("PRIVATE KEY"));
    let asked = hallmark(&site, &server, &["register", "demo", "--post"]);
    assert_eq!(asked.status.code(), Some(64), "nobody to ask: {}", err(&asked));

    // Its newer versions take a document.
    let (url, taken) = registration_endpoint(r#"{"client_id": "chart-1"}"#);
    let posted = hallmark(&site, &server, &["register", "demo", "--post", "--yes", "--url", &url]);
    assert!(posted.status.success(), "{}", err(&posted));
    let (document, known) = (taken.join().unwrap(), client(&server.ops()).await);
    assert_eq!(document["jwks_uri"], known.jwks_url.as_str());
    assert_eq!(known.client_id, "chart-1");
}

/// Takes one registration; gives where, and what was posted.
fn registration_endpoint(answer: &'static str) -> (String, std::thread::JoinHandle<Value>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/udap/register", listener.local_addr().unwrap());
    let taken = std::thread::spawn(move || {
        let (stream, _) = listener.accept().unwrap();
        let mut reader = BufReader::new(&stream);
        let (mut length, mut line) = (0, String::new());
        while reader.read_line(&mut line).unwrap() > 2 {
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().unwrap();
            }
            line.clear();
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        let head = format!("HTTP/1.1 201 X\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", answer.len());
        (&stream).write_all(head.as_bytes()).and_then(|()| (&stream).write_all(answer.as_bytes())).unwrap();
        serde_json::from_slice(&body).unwrap()
    });
    (url, taken)
}

/// A software statement is signed in the HSM for the endpoint that it goes to, and shows the certificate.
#[tokio::test]
async fn a_software_statement_registers_where_udap_is_spoken() {
    let mut site = unregistered("https://as.example/token");
    let extensions = "{ extensions = { hl7-b2b = { version = \"1\", organization_id = \"https://clinic.example\", \
                      purpose_of_use = [\"urn:oid:2.16.840.1.113883.5.8#TREAT\"] } } }";
    site.replace("name = \"demo\"\n", &format!("name = \"demo\"\nprofile = \"udap-b2b\"\nclaims = {extensions}\n"));
    site.replace("\"ES256\"", "\"RS256\"");
    let server = site.start();
    server.ready().await;
    let (url, taken) = registration_endpoint(r#"{"client_id": "udap-1"}"#);
    let post =
        ["register", "demo", "--post", "--yes", "--url", &url, "--contact", "ops@clinic.example", "--scope", "a b"];
    let without = hallmark(&site, &server, &post);
    assert_eq!(without.status.code(), Some(64), "{}", err(&without));
    assert!(err(&without).contains("hallmark csr demo"), "{}", err(&without));

    let uri = "https://clinic.example/fhir";
    let own = ["cert", "self-sign", "demo", "--san-uri", uri, "--days", "30", "--reason", "test"];
    let own = hallmark(&site, &server, &own);
    assert!(own.status.success(), "{}", err(&own));
    let posted = hallmark(&site, &server, &post);
    assert!(posted.status.success(), "{}", err(&posted));
    let request = taken.join().unwrap();
    assert_eq!(request["udap"], "1");
    let statement = request["software_statement"].as_str().unwrap();
    let said = claims(statement);
    assert_eq!((&said["iss"], &said["sub"], &said["aud"]), (&uri.into(), &uri.into(), &url.as_str().into()));
    assert_eq!(said["contacts"], serde_json::json!(["mailto:ops@clinic.example"]));
    assert_eq!((&said["scope"], &said["token_endpoint_auth_method"]), (&"a b".into(), &"private_key_jwt".into()));
    assert_eq!(claims(&server.app().sign_for("demo").await.unwrap().assertion)["sub"], "udap-1");
    // Nothing in the answer was a secret.
    assert!(!site.folder().join("demo.registration.json").exists());
}
