//! Certificates that are renewed on disk are used without a restart.

use std::time::{Duration, Instant};

use hallmark_client::{Client, Connection, SignRequest};

use crate::support::{
    Caller, PATIENCE, Site, eventually,
    pki::{Authority, replace},
    site::APP,
};

/// How soon a new file must be in force.
const SOON: Duration = Duration::from_secs(20);

#[tokio::test]
async fn the_servers_own_certificate() {
    let site = Site::new();
    let server = site.start();
    server.ready().await;
    let renewed = Authority::new();
    let app = site.ca.client(APP);
    let caller = || Caller::tls(&server.grpc, &renewed.pem, Some(&app));
    caller().sign_for("demo").await.expect_err("this CA has not certified the server yet");

    renewed.server().write(site.folder(), "server");
    eventually("the new certificate is shown", SOON, async || caller().sign_for("demo").await.ok()).await;
}

/// A pair that does not fit leaves the old one in force.
#[tokio::test]
async fn a_certificate_without_its_key_is_not_taken() {
    let site = Site::new();
    let mut server = site.start();
    server.ready().await;
    replace(&site.folder().join("server.key"), &Authority::new().server().key);
    server.process.wait_for_log("can't be used");
    server.app().sign_for("demo").await.unwrap();
}

#[tokio::test]
async fn the_callers_ca() {
    let site = Site::new();
    let server = site.start();
    server.ready().await;
    let other = Authority::new();
    let moved = server.caller(Some(&other.client(APP)));
    assert_eq!(moved.sign_for("demo").await.unwrap_err().reason, "CERTIFICATE_UNTRUSTED");

    replace(&site.folder().join("ca.pem"), &other.pem);
    let moved = || server.caller(Some(&other.client(APP)));
    eventually("the new CA is trusted", SOON, async || moved().sign_for("demo").await.ok()).await;
    // Whoever was certified by the CA that is gone has no say any more, on open connections either.
    eventually("the old CA is not", SOON, async || {
        server.app().sign_for("demo").await.err().filter(|refusal| refusal.reason == "CERTIFICATE_UNTRUSTED")
    })
    .await;
}

/// The other side: a service whose certificate lives for a few seconds, renewed by an agent beside it.
#[tokio::test]
async fn the_thin_clients_certificate() {
    let site = Site::new();
    let server = site.start();
    server.ready().await;
    let (cert, key) = site.ca.client_until(APP, Duration::from_secs(5)).write(site.folder(), "short");
    let connection = Connection::tls(server.grpc.as_str(), site.folder().join("ca.pem"), cert, key);
    let hallmark = Client::connect(connection).unwrap();
    let request = || SignRequest::new("demo").timeout(Duration::from_secs(5));
    hallmark.sign_assertion(request()).await.unwrap();

    site.ca.client(APP).write(site.folder(), "short");
    let end = Instant::now() + Duration::from_secs(8);
    eventually("the first certificate is long over", PATIENCE, async || {
        hallmark.sign_assertion(request()).await.unwrap();
        (Instant::now() > end).then_some(())
    })
    .await;
}
