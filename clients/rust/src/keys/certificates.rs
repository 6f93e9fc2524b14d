//! Certificates of keys, and software statements, for operators.

use std::time::{Duration, SystemTime};

use hallmark_proto::v1::{self, key_service_client::KeyServiceClient};

use super::{Key, KeyChange, Order};
use crate::{Client, Error, client::timed, given};

/// Which of a client's keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyChoice {
    pub client: String,
    /// `None`: see `standby`.
    pub kid: Option<String>,
    /// The one that comes next; else the active one.
    pub standby: bool,
}

/// Whose certificate it is to be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CertificateNames {
    /// RFC 4514, such as `CN=clinic.example,O=Clinic,C=US`. `None`: the client's name.
    pub subject: Option<String>,
    /// Of the subject's alternative names; URIs byte for byte.
    pub san_uris: Vec<String>,
    pub san_dns: Vec<String>,
}

/// A request for a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateRequest {
    /// PKCS#10, DER.
    pub der: Vec<u8>,
    /// The key that it is for.
    pub key: Key,
}

/// A statement about a client, for the registration endpoint that it names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SoftwareStatement {
    /// JWS compact serialisation.
    pub jwt: String,
    pub kid: String,
    pub expires_at: Option<SystemTime>,
}

impl KeyChoice {
    /// The active key of `client`.
    pub fn active(client: impl Into<String>) -> Self {
        Self { client: client.into(), kid: None, standby: false }
    }
}

impl From<KeyChoice> for v1::KeyChoice {
    fn from(KeyChoice { client, kid, standby }: KeyChoice) -> Self {
        Self { client, kid: kid.unwrap_or_default(), standby }
    }
}

impl Client {
    /// Has a request for a certificate signed by the key that it is for. Nothing changes by it.
    pub async fn request_certificate(
        &self,
        key: KeyChoice,
        names: CertificateNames,
        order: impl Into<Order>,
    ) -> Result<CertificateRequest, Error> {
        let Order { request_id, reason, force: _ } = order.into();
        let CertificateNames { subject, san_uris, san_dns } = names;
        let (key, subject) = (Some(key.into()), subject.unwrap_or_default());
        let message = v1::CreateCertificateRequestRequest { request_id, reason, key, subject, san_uris, san_dns };
        let v1::CreateCertificateRequestResponse { request, key } = operate!(self, create_certificate_request(message));
        let key = key.ok_or_else(|| Error::unexpected("hallmark's answer lacks `key`"))?;
        Ok(CertificateRequest { der: request, key: key.into() })
    }

    /// Puts a chain of DER certificates, leaf first, beside the key that the leaf is for, or that `key` names.
    pub async fn install_certificate(
        &self,
        key: KeyChoice,
        certificate_chain: Vec<Vec<u8>>,
        order: impl Into<Order>,
    ) -> Result<KeyChange, Error> {
        let Order { request_id, reason, force } = order.into();
        let key = Some(key.into());
        let message = v1::InstallCertificateRequest { request_id, reason, key, certificate_chain, force };
        change!(self, install_certificate(message))
    }

    /// Makes a certificate that the key signs itself, good for `lifetime`, and installs it.
    pub async fn self_sign_certificate(
        &self,
        key: KeyChoice,
        names: CertificateNames,
        lifetime: Duration,
        order: impl Into<Order>,
    ) -> Result<KeyChange, Error> {
        let Order { request_id, reason, force } = order.into();
        let CertificateNames { subject, san_uris, san_dns } = names;
        let (key, subject) = (Some(key.into()), subject.unwrap_or_default());
        let lifetime = lifetime.try_into().ok();
        let message =
            v1::SelfSignCertificateRequest { request_id, reason, key, subject, san_uris, san_dns, lifetime, force };
        change!(self, self_sign_certificate(message))
    }

    /// Has a software statement signed: about the client whose key it is, for `registration_endpoint`, with the client
    /// metadata of `claims_json`. `issuer`: `None` for the first URI in the key's certificate. Nothing changes by it.
    pub async fn sign_software_statement(
        &self,
        key: KeyChoice,
        registration_endpoint: &str,
        issuer: Option<&str>,
        claims_json: &[u8],
        order: impl Into<Order>,
    ) -> Result<SoftwareStatement, Error> {
        let Order { request_id, reason, force: _ } = order.into();
        let message = v1::SignSoftwareStatementRequest {
            request_id,
            reason,
            key: Some(key.into()),
            registration_endpoint: registration_endpoint.to_owned(),
            issuer: issuer.unwrap_or_default().to_owned(),
            claims_json: claims_json.to_vec(),
        };
        let v1::SignSoftwareStatementResponse { software_statement, kid, expires_at } =
            operate!(self, sign_software_statement(message));
        Ok(SoftwareStatement { jwt: software_statement, kid, expires_at: given::value(expires_at) })
    }
}
