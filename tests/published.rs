//! The JWKS URL, health and metrics, as verifiers and monitoring see them.

use reqwest::{Method, Response, StatusCode, header};
use serde_json::Value;

use crate::support::{PATIENCE, Server, Site, eventually};

async fn get(url: &str) -> Response {
    ask(Method::GET, url, &[]).await
}

async fn ask(method: Method, url: &str, headers: &[(header::HeaderName, &str)]) -> Response {
    let client = reqwest::Client::builder().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    let request = client.request(method, url);
    headers.iter().fold(request, |request, (name, value)| request.header(name, *value)).send().await.unwrap()
}

fn header<'a>(response: &'a Response, name: &str) -> &'a str {
    response.headers().get(name).map_or("", |value| value.to_str().unwrap())
}

/// An answer that no verifier may keep or read anything into.
async fn assert_bare(response: Response, status: StatusCode) {
    assert_eq!(response.status(), status);
    assert_eq!(header(&response, "cache-control"), "no-store");
    assert_eq!(header(&response, "content-type"), "");
    assert_eq!(response.bytes().await.unwrap().len(), 0);
}

#[tokio::test]
async fn a_key_set_as_verifiers_want_it() {
    let mut site = Site::new();
    site.replace("keys = [{ alg = \"ES256\" }]", "keys = [{ alg = \"ES256\" }, { alg = \"RS384\" }]");
    let server = site.start();
    server.ready().await;
    let url = server.jwks_url("demo");
    let answer = get(&url).await;
    assert_eq!(answer.status(), 200);
    assert_eq!(header(&answer, "content-type"), "application/json");
    let control = header(&answer, "cache-control").to_owned();
    let max_age = control.strip_prefix("public, max-age=").and_then(|rest| rest.strip_suffix(", s-maxage=0"));
    assert!(max_age.is_some_and(|seconds| seconds.parse::<u32>().unwrap() <= 300), "{control}");
    let etag = header(&answer, "etag").to_owned();
    assert!(etag.starts_with('"') && etag.ends_with('"'), "{etag}");
    for absent in ["set-cookie", "content-encoding", "transfer-encoding", "location"] {
        assert_eq!(header(&answer, absent), "", "{absent}");
    }
    let length: usize = header(&answer, "content-length").parse().unwrap();
    let body = answer.bytes().await.unwrap();
    assert_eq!(body.len(), length);

    let document: Value = serde_json::from_slice(&body).unwrap();
    let keys = document["keys"].as_array().unwrap();
    // RSA first, for verifiers that take the first; in each line the key that signs, then its standby.
    let algs: Vec<_> = keys.iter().map(|key| key["alg"].as_str().unwrap()).collect();
    assert_eq!(algs, ["RS384", "RS384", "ES256", "ES256"]);
    for key in keys {
        let members: Vec<_> = key.as_object().unwrap().keys().map(String::as_str).collect();
        let expected: &[_] = match key["kty"].as_str().unwrap() {
            "RSA" => &["alg", "e", "kid", "kty", "n", "use"],
            _ => &["alg", "crv", "kid", "kty", "use", "x", "y"],
        };
        assert_eq!(members, expected);
        assert_eq!(key["use"], "sig");
    }
    let signed = server.app().sign_for("demo").await.unwrap();
    assert_eq!((&keys[2]["kid"], &keys[2]["alg"]), (&signed.kid.into(), &signed.alg.into()), "the active key is first");

    let unchanged = ask(Method::GET, &url, &[(header::IF_NONE_MATCH, &etag)]).await;
    assert_eq!(unchanged.status(), 304);
    assert_eq!(header(&unchanged, "etag"), etag);
    assert_eq!(unchanged.bytes().await.unwrap().len(), 0);
    assert_eq!(ask(Method::GET, &url, &[(header::IF_NONE_MATCH, "\"other\"")]).await.status(), 200);

    let head = ask(Method::HEAD, &url, &[]).await;
    assert_eq!(head.status(), 200);
    assert_eq!(header(&head, "content-length"), length.to_string());
    assert_eq!(header(&head, "etag"), etag);

    let posted = ask(Method::POST, &url, &[]).await;
    assert!(header(&posted, "allow").contains("GET"));
    assert_bare(posted, StatusCode::METHOD_NOT_ALLOWED).await;

    let pem = get(&url.replace("jwks.json", "public_key.pem")).await.text().await.unwrap();
    assert!(pem.starts_with("-----BEGIN PUBLIC KEY-----"), "{pem}");
}

#[tokio::test]
async fn what_is_not_there_says_nothing() {
    let mut site = Site::new();
    site.append(
        "\n[[client]]\nname = \"keyless\"\nclient_id = \"k\"\ntoken_endpoint = \"https://as.example/token\"\n\
         hsm = [\"soft\"]\nkeys = [{ alg = \"ES256\" }]\n",
    );
    let server = site.start();
    server.ready().await;
    for url in [server.jwks_url("nosuch"), server.jwks_url("keyless"), format!("http://{}/", server.jwks)] {
        assert_bare(get(&url).await, StatusCode::NOT_FOUND).await;
    }

    // An operator makes the first key, and the URL begins to answer.
    let created = hallmark_proto::v1::CreateKeysRequest {
        request_id: "1".to_owned(),
        reason: "a test".to_owned(),
        client: "keyless".to_owned(),
        alg: String::new(),
    };
    let change = server.ops().keys().create_keys(created.clone()).await.unwrap().into_inner().change.unwrap();
    assert_eq!(change.keys.len(), 2);
    assert_eq!(server.jwks_of("keyless").await["keys"].as_array().unwrap().len(), 2);
    // The same request again does nothing twice.
    let again = server.ops().keys().create_keys(created).await.unwrap().into_inner().change.unwrap();
    assert_eq!(again.id, change.id);
    assert_eq!(server.jwks_of("keyless").await["keys"].as_array().unwrap().len(), 2);
}

#[tokio::test]
async fn a_path_that_does_not_name_the_client() {
    let mut site = Site::new();
    site.replace("provision = \"auto\"", "provision = \"auto\"\njwks_path = \"/k/7f3a/jwks.json\"");
    let server = site.start();
    server.ready().await;
    assert_eq!(get(&format!("http://{}/k/7f3a/jwks.json", server.jwks)).await.status(), 200);
    assert_bare(get(&server.jwks_url("demo")).await, StatusCode::NOT_FOUND).await;
}

/// The URL that was registered is for ever, whatever the configuration says by now.
#[tokio::test]
async fn a_client_that_is_taken_out_stays_at_its_path() {
    const GONE: &str = "\n[[client]]\nname = \"gone\"\ntoken_endpoint = \"https://as.example/token\"\nhsm = [\"soft\"]\n\
                        keys = [{ alg = \"ES256\" }]\nprovision = \"auto\"\njwks_path = \"/k/7f3a/jwks.json\"\n";
    let mut site = Site::new();
    site.append(GONE);
    let server = site.start();
    server.ready().await;
    let at = async |server: &Server, path: &str| get(&format!("http://{}{path}", server.jwks)).await;
    let published = async || Some(at(&server, "/k/7f3a/jwks.json").await).filter(|got| got.status() == 200);
    let before = eventually("it has keys", PATIENCE, published).await;
    let before = kids(before).await;
    server.stop().await;

    site.replace(GONE, "");
    let server = site.start();
    let after = at(&server, "/k/7f3a/jwks.json").await;
    assert_eq!((after.status(), kids(after).await), (StatusCode::OK, before), "with the keys that verifiers know");
    assert_bare(at(&server, "/clients/gone/jwks.json").await, StatusCode::NOT_FOUND).await;
}

/// In no order: which of them signed last is another question.
async fn kids(answer: Response) -> std::collections::BTreeSet<String> {
    let set: Value = answer.json().await.unwrap();
    set["keys"].as_array().unwrap().iter().map(|key| key["kid"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn keys_survive_a_restart() {
    let site = Site::new();
    let server = site.start();
    server.ready().await;
    let before = server.jwks_of("demo").await;
    server.stop().await;
    let server = site.start();
    assert_eq!(server.jwks_of("demo").await, before, "published before the token is even looked for");
    server.ready().await;
    assert_eq!(server.jwks_of("demo").await, before);
}

#[tokio::test]
async fn health_and_metrics() {
    let site = Site::new();
    let server = site.start();
    server.ready().await;
    for path in ["/livez", "/readyz", "/readyz/sign", "/readyz/jwks"] {
        assert_eq!(server.health(path).await.0, 200, "{path}");
    }
    for path in ["/livez", "/readyz/jwks"] {
        assert_eq!(get(&format!("http://{}{path}", server.jwks)).await.status(), 200, "{path}");
    }
    // What names clients stays inside.
    assert_eq!(get(&format!("http://{}/metrics", server.jwks)).await.status(), 404);

    let done = r#"hallmark_signatures_total{client="demo",alg="ES256",outcome="done"}"#;
    let before = server.metric(done).await;
    server.app().sign_for("demo").await.unwrap();
    assert_eq!(server.metric(done).await, before + 1.0);
    let refused = r#"hallmark_refusals_total{reason="CLIENT_NOT_PERMITTED"}"#;
    let before = server.metric(refused).await;
    server.app().sign_for("nosuch").await.unwrap_err();
    assert_eq!(server.metric(refused).await, before + 1.0);
    for (series, least) in [
        (r#"hallmark_queue_seconds_count{hsm="soft",alg="ES256"}"#, 1.0),
        (r#"hallmark_hsm_seconds_count{hsm="soft",alg="ES256"}"#, 1.0),
        (r#"hallmark_hsm_sessions{hsm="soft"}"#, 1.0),
        (r#"hallmark_keys{state="active"}"#, 1.0),
        ("hallmark_audit_batches_total{}", 1.0),
    ] {
        assert!(server.metric(series).await >= least, "{series}\n{}", server.health("/metrics").await.1);
    }
    assert_eq!(server.metric(r#"hallmark_hsm_breaker_state{hsm="soft"}"#).await, 0.0);
}

#[tokio::test]
async fn grpc_health_is_open_to_all_and_reflection_is_not() {
    let site = Site::new();
    let server = site.start();
    server.ready().await;
    let stranger = server.caller(None);
    eventually("the health service hears of it", PATIENCE, async || {
        (grpc_health(&server, "hallmark.v1.AssertionService").await == SERVING).then_some(())
    })
    .await;

    let refused = list_services(&server.app().channel).await.unwrap_err();
    assert_eq!(refused, tonic::Code::PermissionDenied);
    assert_eq!(list_services(&stranger.channel).await.unwrap_err(), tonic::Code::Unauthenticated);
    let listed = list_services(&server.ops().channel).await.unwrap();
    assert!(listed.iter().any(|name| name == "hallmark.v1.AssertionService"), "{listed:?}");
}

#[tokio::test]
async fn reflection_is_open_in_dev() {
    let dev = crate::support::Dev::start(&["--client", "demo:ES256"]);
    let listed = list_services(&dev.caller("workload").channel).await.unwrap();
    assert!(listed.iter().any(|name| name == "hallmark.v1.AssertionService"), "{listed:?}");
}

/// `HealthCheckResponse.ServingStatus`.
const SERVING: i32 = 1;

async fn grpc_health(server: &Server, service: &str) -> i32 {
    use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};
    let request = HealthCheckRequest { service: service.to_owned() };
    HealthClient::new(server.caller(None).channel).check(request).await.unwrap().into_inner().status
}

async fn list_services(channel: &tonic::transport::Channel) -> Result<Vec<String>, tonic::Code> {
    use tonic_reflection::pb::v1::{
        ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
        server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
    };
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut client = ServerReflectionClient::new(channel.clone());
    let answers = client.server_reflection_info(tokio_stream::once(request)).await.map_err(|status| status.code())?;
    let answer = answers.into_inner().message().await.map_err(|status| status.code())?;
    match answer.and_then(|answer| answer.message_response) {
        Some(MessageResponse::ListServicesResponse(list)) => {
            Ok(list.service.into_iter().map(|service| service.name).collect())
        }
        other => panic!("no list: {other:?}"),
    }
}
