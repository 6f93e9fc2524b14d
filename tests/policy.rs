//! Who may sign what: each refusal has a reason of its own.

use std::time::Duration;

use hallmark_proto::v1::{
    CreateKeysRequest, GetClientRequest, GetJwksRequest, GetKeyRequest, ListClientsRequest, ListKeysRequest,
    SignAssertionRequest,
};
use tonic::Code;

use crate::support::{Refusal, Server, Site, caller::for_client, pki::Authority, site::APP};

fn assert_refused(refusal: &Refusal, code: Code, reason: &str) {
    assert_eq!((refusal.code, refusal.reason.as_str()), (code, reason), "{refusal:?}");
}

async fn refusal(server: &Server, request: SignAssertionRequest) -> Refusal {
    server.app().sign(request).await.expect_err("it must be refused")
}

#[tokio::test]
async fn certificates_that_do_not_count() {
    let site = Site::new();
    let server = site.start();
    server.ready().await;

    let stranger = Authority::new().client(APP);
    let refused = server.caller(Some(&stranger)).sign_for("demo").await.unwrap_err();
    assert_refused(&refused, Code::Unauthenticated, "CERTIFICATE_UNTRUSTED");

    let expired = site.ca.expired_client(APP);
    let refused = server.caller(Some(&expired)).sign_for("demo").await.unwrap_err();
    assert_refused(&refused, Code::Unauthenticated, "CERTIFICATE_UNTRUSTED");
    assert!(refused.message.contains("expired"), "{}", refused.message);

    let refused = server.caller(None).sign_for("demo").await.unwrap_err();
    assert_refused(&refused, Code::Unauthenticated, "NOT_AUTHENTICATED");

    let elsewhere = site.ca.client("spiffe://other.example/app");
    let refused = server.caller(Some(&elsewhere)).sign_for("demo").await.unwrap_err();
    assert_eq!(refused.code, Code::Unauthenticated, "{refused:?}");

    let unknown = site.ca.client("spiffe://test.example/nobody");
    let refused = server.caller(Some(&unknown)).sign_for("demo").await.unwrap_err();
    assert_refused(&refused, Code::PermissionDenied, "WORKLOAD_UNKNOWN");
}

/// A connection does not outlive the certificate that it was made with.
#[tokio::test]
async fn a_certificate_that_expires_on_an_open_connection() {
    let site = Site::new();
    let server = site.start();
    server.ready().await;
    let short = server.caller(Some(&site.ca.client_until(APP, Duration::from_secs(4))));
    short.sign_for("demo").await.unwrap();
    let refused = crate::support::eventually("the certificate expires", Duration::from_secs(20), async || {
        short.sign_for("demo").await.err()
    })
    .await;
    assert_eq!(refused.code, Code::Unauthenticated, "{refused:?}");
    assert!(["CERTIFICATE_EXPIRED", "CERTIFICATE_UNTRUSTED"].contains(&refused.reason.as_str()), "{refused:?}");
}

/// Nobody learns which clients others have.
#[tokio::test]
async fn no_such_client_and_not_your_client_are_one_answer() {
    let mut site = Site::new();
    site.append(
        "\n[[client]]\nname = \"other\"\nclient_id = \"other-id\"\ntoken_endpoint = \"https://as.example/token\"\n\
         hsm = [\"soft\"]\nkeys = [{ alg = \"ES256\" }]\n",
    );
    let server = site.start();
    server.ready().await;
    let others = refusal(&server, for_client("other")).await;
    let nobodys = refusal(&server, for_client("nosuch")).await;
    assert_refused(&others, Code::PermissionDenied, "CLIENT_NOT_PERMITTED");
    assert_refused(&nobodys, Code::PermissionDenied, "CLIENT_NOT_PERMITTED");
    assert_eq!(others.message.replace("other", "X"), nobodys.message.replace("nosuch", "X"));

    let named = |client: &str| GetClientRequest { client: client.to_owned() };
    for name in ["other", "nosuch"] {
        let hidden: Refusal = server.app().clients().get_client(named(name)).await.unwrap_err().into();
        assert_refused(&hidden, Code::PermissionDenied, "CLIENT_NOT_PERMITTED");
    }
    let all: Refusal = server.app().clients().list_clients(ListClientsRequest::default()).await.unwrap_err().into();
    assert_refused(&all, Code::PermissionDenied, "NOT_AN_OPERATOR");

    let of = |client: &str| GetJwksRequest { client: client.to_owned() };
    let others: Refusal = server.app().jwks().get_jwks(of("other")).await.unwrap_err().into();
    let nobodys: Refusal = server.app().jwks().get_jwks(of("nosuch")).await.unwrap_err().into();
    assert_refused(&others, Code::PermissionDenied, "CLIENT_NOT_PERMITTED");
    assert_refused(&nobodys, Code::PermissionDenied, "CLIENT_NOT_PERMITTED");
}

#[tokio::test]
async fn what_is_configured_of_a_client_is_told_to_those_who_need_it() {
    let mut site = Site::new();
    site.append(
        "\n[[client]]\nname = \"other\"\nprofile = \"openemr-7\"\ntoken_endpoint = \"https://as.example//token/\"\n\
         hsm = [\"soft\"]\njwks_path = \"/k/7f3a/jwks.json\"\n",
    );
    let server = site.start();
    let own = GetClientRequest { client: "demo".to_owned() };
    let own = server.app().clients().get_client(own).await.unwrap().into_inner().client.unwrap();
    assert_eq!((own.name.as_str(), own.profile.as_str(), own.algs), ("demo", "generic", vec!["ES256".to_owned()]));

    let mut names = Vec::new();
    let mut page = ListClientsRequest { page_size: 1, ..Default::default() };
    loop {
        let answer = server.ops().clients().list_clients(page.clone()).await.unwrap().into_inner();
        names.extend(answer.clients);
        if answer.next_page_token.is_empty() {
            break;
        }
        page.page_token = answer.next_page_token;
    }
    let [demo, other] = &names[..] else { panic!("{names:?}") };
    assert_eq!((demo.name.as_str(), other.name.as_str(), other.client_id.as_str()), ("demo", "other", ""));
    assert_eq!((other.audience.as_str(), &other.token_endpoint), ("https://as.example//token/", &other.audience));
    assert!(other.jwks_url.ends_with("/k/7f3a/jwks.json"), "{}", other.jwks_url);
    assert!(other.public_key_url.ends_with("/k/7f3a/public_key.pem"), "{}", other.public_key_url);
}

#[tokio::test]
async fn what_a_workload_may_choose_and_what_not() {
    let mut site = Site::new();
    site.replace(
        "clients = [\"demo\"]",
        "clients = [\"demo\"]\naudiences = [\"https://as.example/\"]\nclaims = [\"extensions\"]",
    );
    let server = site.start();
    server.ready().await;

    let with = |audience: &str, claims: &str| SignAssertionRequest {
        audience: audience.to_owned(),
        claims_json: claims.as_bytes().to_vec(),
        ..for_client("demo")
    };
    // Byte for byte: not even a slash more or less.
    for audience in ["https://evil.example/token", "https://as.example", "https://as.example/token/"] {
        assert_refused(&refusal(&server, with(audience, "")).await, Code::PermissionDenied, "AUDIENCE_NOT_PERMITTED");
    }
    for claim in ["iss", "sub", "aud", "exp", "iat", "nbf", "jti"] {
        let claims = format!("{{\"{claim}\": \"x\"}}");
        assert_refused(&refusal(&server, with("", &claims)).await, Code::InvalidArgument, "RESERVED_CLAIM");
    }
    assert_refused(
        &refusal(&server, with("", "{\"admin\": true}")).await,
        Code::PermissionDenied,
        "CLAIM_NOT_PERMITTED",
    );
    for not_claims in ["[1]", "{\"extensions\": 1, \"extensions\": 2}", "{", "\u{0}"] {
        assert_refused(&refusal(&server, with("", not_claims)).await, Code::InvalidArgument, "INVALID_CLAIMS");
    }
    let mut other_alg = for_client("demo");
    other_alg.alg = "RS384".to_owned();
    assert_refused(&refusal(&server, other_alg).await, Code::InvalidArgument, "ALG_NOT_CONFIGURED");
    let mut long = for_client("demo");
    long.lifetime = Some(prost_types::Duration { seconds: 301, nanos: 0 });
    assert_refused(&refusal(&server, long).await, Code::InvalidArgument, "LIFETIME_TOO_LONG");

    // What it may choose arrives as it was sent: an integer that no double holds stays what it is.
    let signed = server.app().sign(with("https://as.example/", "{\"extensions\": {\"n\": 9007199254740993}}")).await;
    let claims = crate::support::claims(&signed.unwrap().assertion);
    assert_eq!(claims["aud"], "https://as.example/");
    assert_eq!(claims["extensions"]["n"].to_string(), "9007199254740993");
}

#[tokio::test]
async fn a_used_up_rate_says_when_to_come_back() {
    let mut site = Site::new();
    site.append("\n[[workload]]\nid = \"spiffe://test.example/slow\"\nclients = [\"demo\"]\nrate = \"3/m\"\n");
    let server = site.start();
    server.ready().await;
    let slow = server.caller(Some(&site.ca.client("spiffe://test.example/slow")));
    for _ in 0..3 {
        slow.sign_for("demo").await.unwrap();
    }
    let refused = slow.sign_for("demo").await.unwrap_err();
    assert_refused(&refused, Code::ResourceExhausted, "RATE_LIMITED");
    let delay = refused.retry_after.unwrap();
    assert!(delay > Duration::from_secs(5) && delay <= Duration::from_secs(60), "{delay:?}");
    // It is that workload's rate, and nobody else's.
    server.app().sign_for("demo").await.unwrap();
}

#[tokio::test]
async fn a_workload_has_only_so_many_requests_under_way() {
    let mut site = Site::new();
    site.replace("clients = [\"demo\"]", "clients = [\"demo\"]\nconcurrency = 1");
    // Each request is under way for at least as long as its audit record takes to reach the disk.
    site.append("\n[unsafe_testing]\naudit_sync_delay = \"300ms\"\n");
    let server = site.start_with(|command| _ = command.arg("--unsafe-testing"));
    server.ready().await;
    let app = server.app();
    app.sign_for("demo").await.unwrap();
    let (one, two) = tokio::join!(app.sign_for("demo"), app.sign_for("demo"));
    let refused = [one, two].into_iter().filter_map(Result::err).collect::<Vec<_>>();
    assert_eq!(refused.len(), 1);
    assert_refused(&refused[0], Code::ResourceExhausted, "CONCURRENCY_LIMITED");
    assert!(refused[0].retry_after.is_some());
    app.sign_for("demo").await.unwrap();
}

#[tokio::test]
async fn keys_are_for_operators() {
    let site = Site::new();
    let server = site.start();
    server.ready().await;
    let app = server.app();
    let create = || CreateKeysRequest {
        request_id: "1".to_owned(),
        reason: "test".to_owned(),
        client: "demo".to_owned(),
        alg: String::new(),
    };
    let refused: [Refusal; 3] = [
        app.keys().list_keys(ListKeysRequest::default()).await.unwrap_err().into(),
        app.keys().get_key(GetKeyRequest { kid: "x".to_owned() }).await.unwrap_err().into(),
        app.keys().create_keys(create()).await.unwrap_err().into(),
    ];
    for refusal in &refused {
        assert_refused(refusal, Code::PermissionDenied, "NOT_AN_OPERATOR");
    }
    // Nor is an operator a workload.
    assert_refused(&server.ops().sign_for("demo").await.unwrap_err(), Code::PermissionDenied, "WORKLOAD_UNKNOWN");

    let listed = server.ops().keys().list_keys(ListKeysRequest::default()).await.unwrap().into_inner();
    assert_eq!(listed.keys.iter().filter(|key| key.client == "demo").count(), 2);
    let again: Refusal = server.ops().keys().create_keys(create()).await.unwrap_err().into();
    assert_refused(&again, Code::AlreadyExists, "ALREADY_EXISTS");
}

#[tokio::test]
async fn a_unix_socket_tells_who_calls() {
    let uid = rustix::process::getuid().as_raw();
    let mut site = Site::new();
    site.append(&format!("\n[[workload]]\nid = \"uid:{uid}\"\nclients = [\"demo\"]\n"));
    let server = site.start();
    server.ready().await;
    let caller = crate::support::Caller::unix(&server.unix);
    assert!(!caller.sign_for("demo").await.unwrap().assertion.is_empty());
    assert_refused(&caller.sign_for("other").await.unwrap_err(), Code::PermissionDenied, "CLIENT_NOT_PERMITTED");
}

#[tokio::test]
async fn a_uid_that_is_not_listed_is_nobody() {
    let site = Site::new();
    let server = site.start();
    server.ready().await;
    let refused = crate::support::Caller::unix(&server.unix).sign_for("demo").await.unwrap_err();
    assert_refused(&refused, Code::PermissionDenied, "WORKLOAD_UNKNOWN");
}
