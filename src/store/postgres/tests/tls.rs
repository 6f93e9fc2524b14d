//! The database's certificate.

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair, SanType};

use super::*;

#[tokio::test]
async fn who_can_not_show_the_right_certificate_is_no_database() {
    let (ca, other_ca) = (Authority::new(), Authority::new());
    let (certificate, key) = ca.server();
    let Some(cluster) = Postgres::with_tls(&certificate, &key) else { return };
    let folder = TempDir::new().unwrap();
    let (right, wrong) = (folder.path().join("right.pem"), folder.path().join("wrong.pem"));
    fs::write(&right, &ca.pem).unwrap();
    fs::write(&wrong, &other_ca.pem).unwrap();
    let url = cluster.tls_url(&cluster.database());
    let verified = |ca: &Path| format!("{url}sslmode=verify-full&sslrootcert={}", ca.display());

    let store = open(&verified(&right)).await;
    let encrypted: bool = sqlx::query_scalar("SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()")
        .fetch_one(&store.pool)
        .await
        .unwrap();
    assert!(encrypted && store.try_lead().await.unwrap().is_some(), "the lock's connection is made in the same way");

    let by_address = verified(&right).replace("localhost", "127.0.0.1");
    for (url, what) in [(verified(&wrong), "of another CA"), (by_address, "of another name")] {
        let refusal = PostgresStore::open(options(&url, "one")).await.unwrap_err().to_string();
        assert!(refusal.contains("hint: its certificate must be for the host"), "a certificate {what}: {refusal}");
    }
}

struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pem: String,
}

impl Authority {
    fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// Certificate and key for `localhost`, PEM.
    fn server(&self) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![SanType::DnsName("localhost".try_into().unwrap())];
        (params.signed_by(&key, &self.issuer).unwrap().pem(), key.serialize_pem())
    }
}
