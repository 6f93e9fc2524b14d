//! Certificates, as real callers and impostors would show them.

use std::{
    fs,
    net::{IpAddr, Ipv4Addr},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PublicKeyData, SanType,
};

/// A CA.
pub(crate) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub(crate) pem: String,
}

/// A certificate and its key, PEM.
#[derive(Clone)]
pub(crate) struct Certified {
    pub(crate) cert: String,
    pub(crate) key: String,
}

impl Authority {
    pub(crate) fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "test CA");
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let pem = params.self_signed(&key).unwrap().pem();
        Self { issuer: Issuer::new(params, key), pem }
    }

    /// For `localhost` and the loopback address.
    pub(crate) fn server(&self) -> Certified {
        let mut params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        params.subject_alt_names.push(SanType::IpAddress(IpAddr::V4(Ipv4Addr::LOCALHOST)));
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        self.sign(params)
    }

    /// For whoever `spiffe_id` is, for a day.
    pub(crate) fn client(&self, spiffe_id: &str) -> Certified {
        self.client_until(spiffe_id, Duration::from_secs(24 * 3600))
    }

    /// As [`Self::client`]; valid from yesterday until so long after now.
    pub(crate) fn client_until(&self, spiffe_id: &str, left: Duration) -> Certified {
        self.client_between(spiffe_id, now() - DAY, now() + left)
    }

    /// Valid until yesterday.
    pub(crate) fn expired_client(&self, spiffe_id: &str) -> Certified {
        self.client_between(spiffe_id, now() - 2 * DAY, now() - DAY)
    }

    fn client_between(&self, spiffe_id: &str, start: SystemTime, end: SystemTime) -> Certified {
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![SanType::URI(spiffe_id.try_into().unwrap())];
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        (params.not_before, params.not_after) = (start.into(), end.into());
        self.sign(params)
    }

    /// For a key that somebody else holds: DER.
    pub(crate) fn leaf_for(&self, key: &impl PublicKeyData) -> Vec<u8> {
        self.leaf_between(key, now() - DAY, now() + 60 * DAY)
    }

    /// As [`Self::leaf_for`]; valid until yesterday.
    pub(crate) fn expired_leaf_for(&self, key: &impl PublicKeyData) -> Vec<u8> {
        self.leaf_between(key, now() - 2 * DAY, now() - DAY)
    }

    fn leaf_between(&self, key: &impl PublicKeyData, start: SystemTime, end: SystemTime) -> Vec<u8> {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, "test leaf");
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        (params.not_before, params.not_after) = (start.into(), end.into());
        params.signed_by(key, &self.issuer).unwrap().der().to_vec()
    }

    fn sign(&self, mut params: CertificateParams) -> Certified {
        params.distinguished_name.push(DnType::CommonName, "test leaf");
        let key = KeyPair::generate().unwrap();
        let cert = params.signed_by(&key, &self.issuer).unwrap().pem();
        Certified { cert, key: key.serialize_pem() }
    }
}

#[expect(clippy::disallowed_methods, reason = "the server's clock is the real one")]
fn now() -> SystemTime {
    SystemTime::now()
}

impl Certified {
    /// Writes `NAME.pem` and `NAME.key`, each replaced in one step, as tools that renew certificates do.
    pub(crate) fn write(&self, folder: &Path, name: &str) -> (PathBuf, PathBuf) {
        let (cert, key) = (folder.join(format!("{name}.pem")), folder.join(format!("{name}.key")));
        replace(&cert, &self.cert);
        replace(&key, &self.key);
        (cert, key)
    }
}

pub(crate) fn replace(path: &Path, text: &str) {
    let fresh = path.with_extension("new");
    fs::write(&fresh, text).unwrap();
    fs::rename(fresh, path).unwrap();
}

const DAY: Duration = Duration::from_secs(24 * 3600);
