use std::{pin::Pin, sync::Arc, time::Duration};

use hallmark_core::{
    client::Client,
    key::{Alg, KeySpec},
    profile::Profile,
};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use super::{health::Health, jwks::Jwks, metrics::Observatory};
use crate::{
    service::publish::{Publisher, sample_record},
    telemetry::Metrics,
    transport::fixture::{Still, exchange, header, plain},
};

const SET: &str = "/clients/epic/jwks.json";

struct Known(Result<(), &'static str>, Result<(), &'static str>);

impl Health for Known {
    fn sign(&self) -> Pin<Box<dyn Future<Output = Result<(), String>> + Send + '_>> {
        Box::pin(async { self.0.map_err(str::to_owned) })
    }

    fn jwks(&self) -> Result<(), String> {
        self.1.map_err(str::to_owned)
    }
}

fn client(name: &str) -> Client {
    Client {
        hsms: vec!["h".parse().unwrap()],
        keys: vec![KeySpec { alg: Alg::EdDSA, rsa_bits: 2048 }],
        ..Client::new(name.parse().unwrap(), Profile::find(Profile::DEFAULT).unwrap(), "https://as.example/token")
    }
}

/// `epic` has a key, `new` has none.
async fn key_sets(metrics: &Metrics, health: Known) -> TcpStream {
    let publisher = Arc::new(Publisher::new("https://keys.example", Duration::from_secs(300)));
    publisher.rebuild(&[client("epic"), client("new")], &[sample_record("epic", 1)]);
    let service = Jwks::new(publisher, Arc::new(health), Arc::new(Still), metrics.jwks());
    let listener = plain(metrics).await;
    let addr = listener.socket.addr().unwrap();
    tokio::spawn(super::jwks::serve(listener, service, CancellationToken::new()));
    TcpStream::connect(addr).await.unwrap()
}

fn body(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").unwrap().1
}

fn status(answer: &str) -> &str {
    answer.split(' ').nth(1).unwrap()
}

#[tokio::test]
async fn a_key_set_has_the_headers_that_verifiers_want() {
    let metrics = Metrics::new();
    let mut stream = key_sets(&metrics, Known(Ok(()), Ok(()))).await;
    let answer = exchange(&mut stream, "GET", &format!("{SET}?x=y"), "accept-encoding: gzip\r\n").await.unwrap();
    assert_eq!(status(&answer), "200");
    assert_eq!(header(&answer, "content-type"), Some("application/json"));
    assert_eq!(header(&answer, "cache-control"), Some("public, max-age=300, s-maxage=0"));
    assert_eq!(header(&answer, "content-length"), Some(body(&answer).len().to_string().as_str()));
    let names = answer.split_once("\r\n\r\n").unwrap().0.lines().skip(1).map(|line| line.split(':').next().unwrap());
    let mut names: Vec<_> = names.collect();
    names.sort_unstable();
    assert_eq!(names, ["cache-control", "content-length", "content-type", "date", "etag"], "and no others");
    let set: serde_json::Value = serde_json::from_str(body(&answer)).unwrap();
    assert_eq!(set["keys"][0]["kid"], "k1");

    let head = exchange(&mut stream, "HEAD", SET, "").await.unwrap();
    let without_date = |answer: &str| {
        let head = answer.split("\r\n\r\n").next().unwrap();
        let mut lines: Vec<_> = head.lines().filter(|line| !line.starts_with("date")).map(str::to_owned).collect();
        lines.sort_unstable();
        lines
    };
    assert_eq!(without_date(&head), without_date(&answer));
    assert_eq!(body(&head), "");
    // The stream is still in step: a HEAD that sent a body would show here.
    let pem = exchange(&mut stream, "GET", "/clients/epic/public_key.pem", "").await.unwrap();
    assert_eq!((status(&pem), header(&pem, "content-type")), ("200", Some("application/x-pem-file")));
    assert!(body(&pem).starts_with("-----BEGIN PUBLIC KEY-----\n"), "{pem}");
}

#[tokio::test]
async fn who_has_the_set_gets_304() {
    let metrics = Metrics::new();
    let mut stream = key_sets(&metrics, Known(Ok(()), Ok(()))).await;
    let first = exchange(&mut stream, "GET", SET, "").await.unwrap();
    let etag = header(&first, "etag").unwrap();
    assert!(etag.starts_with('"'), "strong: {etag}");
    for (asked, expected) in [
        (etag.to_owned(), "304"),
        (format!("W/{etag}"), "304"),
        (format!("\"other\", {etag}"), "304"),
        (format!("\"other\"\r\nif-none-match: {etag}"), "304"),
        ("*".to_owned(), "304"),
        ("\"other\"".to_owned(), "200"),
        (etag.trim_matches('"').to_owned(), "200"),
    ] {
        for method in ["GET", "HEAD"] {
            let answer = exchange(&mut stream, method, SET, &format!("if-none-match: {asked}\r\n")).await.unwrap();
            assert_eq!(status(&answer), expected, "{asked}");
            assert_eq!(header(&answer, "etag"), Some(etag));
            assert_eq!(header(&answer, "cache-control"), Some("public, max-age=300, s-maxage=0"));
        }
    }
    assert!(metrics.encode().contains(r#"hallmark_jwks_requests_total{status="304"} 10"#));
}

#[tokio::test]
async fn errors_have_no_body_and_are_not_kept() {
    let metrics = Metrics::new();
    let mut stream = key_sets(&metrics, Known(Ok(()), Ok(()))).await;
    for (method, path, expected) in [
        ("GET", "/clients/new/jwks.json", "404"),
        ("GET", "/clients/new/public_key.pem", "404"),
        ("GET", "/clients/nobody/jwks.json", "404"),
        ("GET", "/clients/epic/jwks.json/", "404"),
        ("GET", "/clients/epic/../epic/jwks.json", "404"),
        ("HEAD", "/", "404"),
        ("POST", SET, "405"),
        ("DELETE", "/clients/new/jwks.json", "405"),
    ] {
        let answer = exchange(&mut stream, method, path, "").await.unwrap();
        assert_eq!((status(&answer), body(&answer)), (expected, ""), "{method} {path}");
        assert_eq!(header(&answer, "cache-control"), Some("no-store"));
        assert_eq!(header(&answer, "allow"), (expected == "405").then_some("GET, HEAD"));
    }
}

#[tokio::test]
async fn http2_gets_the_same() {
    let metrics = Metrics::new();
    let addr = key_sets(&metrics, Known(Ok(()), Ok(()))).await.peer_addr().unwrap();
    let client = reqwest::Client::builder().http2_prior_knowledge().build().unwrap();
    let url = format!("http://{addr}{SET}");
    let get = client.get(&url).send().await.unwrap();
    let head = client.head(&url).send().await.unwrap();
    assert_eq!(get.headers()["content-length"], head.headers()["content-length"]);
    assert_eq!(head.headers()["content-type"], "application/json");
    assert_eq!(get.text().await.unwrap().len().to_string(), head.headers()["content-length"].to_str().unwrap());
    assert_eq!(head.bytes().await.unwrap().len(), 0);
}

#[tokio::test]
async fn the_open_port_tells_health_without_words() {
    let metrics = Metrics::new();
    let mut ready = key_sets(&metrics, Known(Err("no HSM"), Ok(()))).await;
    let mut unready = key_sets(&metrics, Known(Ok(()), Err("store `x` is gone"))).await;
    for (is_ready, path, expected) in [
        (true, "/livez", "200"),
        (true, "/readyz/jwks", "200"),
        (true, "/readyz/sign", "404"),
        (true, "/metrics", "404"),
        (false, "/livez", "200"),
        (false, "/readyz/jwks", "503"),
        (false, SET, "200"),
    ] {
        let stream = if is_ready { &mut ready } else { &mut unready };
        let answer = exchange(stream, "GET", path, "").await.unwrap();
        assert_eq!(status(&answer), expected, "{path}");
        assert!(path == SET || body(&answer).is_empty());
    }
}

async fn observed(health: Known) -> TcpStream {
    let metrics = Arc::new(Metrics::new());
    let listener = plain(&metrics).await;
    let addr = listener.socket.addr().unwrap();
    let service = Observatory { metrics, health: Arc::new(health) };
    tokio::spawn(super::metrics::serve(listener, service, CancellationToken::new()));
    TcpStream::connect(addr).await.unwrap()
}

#[tokio::test]
async fn one_role_is_enough_to_be_ready() {
    for (health, expected) in [
        (Known(Ok(()), Ok(())), ["200", "200", "200"]),
        (Known(Err("no HSM"), Ok(())), ["200", "503", "200"]),
        (Known(Ok(()), Err("no set")), ["200", "200", "503"]),
        (Known(Err("no HSM"), Err("no set")), ["503", "503", "503"]),
    ] {
        let mut stream = observed(health).await;
        for (path, expected) in ["/readyz", "/readyz/sign", "/readyz/jwks"].into_iter().zip(expected) {
            let answer = exchange(&mut stream, "GET", path, "").await.unwrap();
            assert_eq!(status(&answer), expected, "{path}");
            assert_eq!(body(&answer).contains("no HSM") || body(&answer).contains("no set"), expected == "503");
        }
    }
}

#[tokio::test]
async fn metrics_are_scraped() {
    let mut stream = observed(Known(Ok(()), Ok(()))).await;
    for _ in 0..2 {
        let answer = exchange(&mut stream, "GET", "/metrics", "").await.unwrap();
        assert!(header(&answer, "content-type").unwrap().starts_with("application/openmetrics-text"));
        assert!(body(&answer).contains(r#"hallmark_connections{listener="test"} 1"#), "{answer}");
        let head = exchange(&mut stream, "HEAD", "/metrics", "").await.unwrap();
        assert_eq!(body(&head), "");
    }
    assert_eq!(status(&exchange(&mut stream, "POST", "/metrics", "").await.unwrap()), "405");
}
