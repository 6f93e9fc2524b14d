//! TLS for the listeners: what rustls is told.
//!
//! Client certificates are asked for, not judged here. A handshake proves that the peer holds the key of the certificate
//! it showed; whether that certificate counts is [`super::identity`]'s to say, so that a refused caller gets a status with
//! a reason instead of a bare TLS alert, and everyone may ask for health.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use rustls::{
    DigitallySignedStruct, DistinguishedName, Error, ServerConfig, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    crypto::{CryptoProvider, WebPkiSupportedAlgorithms, aws_lc_rs, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, PrivateKeyDer, UnixTime, pem::PemObject},
    server::{
        NoClientAuth,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
};

use super::reload::Reloading;
use crate::telemetry::metrics::ReloadMetrics;

/// What a listener shows and asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TlsSpec {
    /// PEM file: the server's certificate, then its intermediates.
    pub cert: PathBuf,
    /// PEM file: its private key (PKCS#8, SEC1 or PKCS#1).
    pub key: PathBuf,
    pub peer_certificates: PeerCertificates,
}

/// Whether whoever connects is asked for a certificate, and with that which port it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PeerCertificates {
    /// gRPC, HTTP/2 only.
    Asked,
    /// HTTP/2 and 1.1.
    NotAsked,
}

/// A configuration that follows its files.
pub fn follow(
    what: &str,
    spec: TlsSpec,
    metrics: ReloadMetrics,
) -> Result<Arc<Reloading<ServerConfig>>, InvalidTlsFile> {
    Reloading::new(what, vec![spec.cert.clone(), spec.key.clone()], move || server_config(&spec), metrics)
}

/// TLS 1.2 and 1.3. Fails where a file can't be read or the key is not the certificate's.
fn server_config(spec: &TlsSpec) -> Result<ServerConfig, InvalidTlsFile> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let chain = CertificateDer::pem_file_iter(&spec.cert).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let chain = chain.map_err(|error| InvalidTlsFile::new(&spec.cert, error))?;
    let key = PrivateKeyDer::from_pem_file(&spec.key).map_err(|error| InvalidTlsFile::new(&spec.key, error))?;

    let (verifier, protocols): (Arc<dyn ClientCertVerifier>, &[&[u8]]) = match spec.peer_certificates {
        PeerCertificates::Asked => (Arc::new(Possession::new(&provider)), &[b"h2"]),
        PeerCertificates::NotAsked => (Arc::new(NoClientAuth), &[b"h2", b"http/1.1"]),
    };
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| InvalidTlsFile::new(&spec.cert, error))?
        .with_client_cert_verifier(verifier)
        .with_single_cert(chain, key);
    let mut config = config.map_err(|error| InvalidTlsFile::new(&spec.cert, error))?;
    config.alpn_protocols = protocols.iter().map(|protocol| protocol.to_vec()).collect();
    Ok(config)
}

/// A certificate or key that can't be used.
#[derive(Debug, thiserror::Error)]
#[error(
    "TLS file `{path}`: {why}\nhint: `cert` is a PEM file with the server's certificate first, `key` its private key"
)]
pub struct InvalidTlsFile {
    path: PathBuf,
    why: String,
}

impl InvalidTlsFile {
    fn new(path: &Path, why: impl ToString) -> Self {
        Self { path: path.to_owned(), why: why.to_string() }
    }
}

/// Checks the signature that proves possession of the key, and lets any chain through.
#[derive(Debug)]
struct Possession(WebPkiSupportedAlgorithms);

impl Possession {
    fn new(provider: &CryptoProvider) -> Self {
        Self(provider.signature_verification_algorithms)
    }
}

impl ClientCertVerifier for Possession {
    fn client_auth_mandatory(&self) -> bool {
        false
    }

    /// No hints: with them, many clients keep back a certificate that we would rather refuse with a reason.
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        _now: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        // Not an acceptance: `identity::Trusts` judges the chain before any request gets a caller.
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls12_signature(message, cert, dss, &self.0)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, cert, dss, &self.0)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.supported_schemes()
    }
}
