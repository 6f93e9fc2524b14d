//! On PostgreSQL: the database goes away under a running server and comes back, with nobody's help.

use std::time::Duration;

use hallmark_testkit::postgres::Postgres;

use crate::support::{PATIENCE, Site, eventually};

/// Long enough to sign within it after the database has stopped, on a machine that is busy.
const LEASE: Duration = Duration::from_secs(4);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn signing_goes_on_until_the_lease_ends_and_again_with_the_database() {
    let Some(cluster) = Postgres::own() else { return };
    let mut site = Site::new();
    let sqlite = format!("url = \"sqlite://{}/keys.db\"", site.folder().display());
    site.replace(&sqlite, &format!("url = \"{}\"\nlease = \"{}s\"", cluster.database(), LEASE.as_secs()));
    let server = site.start();
    server.ready().await;
    let app = server.app();
    let sign = async || app.sign_for("demo").await.map(drop).map_err(|refusal| refusal.reason);

    cluster.stop();
    sign().await.expect("an outage must not be noticed within the lease");
    let stopped = async || (sign().await == Err("STORE_UNAVAILABLE".into())).then_some(());
    eventually("a replica that is cut off stops signing", PATIENCE, stopped).await;
    let jwks = reqwest::get(server.jwks_url("demo")).await.unwrap();
    assert_eq!(jwks.status(), 200, "the JWKS must stay up");

    cluster.start();
    eventually("signing resumes by itself", PATIENCE, async || sign().await.ok()).await;
    server.stop().await;
}
