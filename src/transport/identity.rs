//! From a client's certificate to an identity.
//!
//! TLS proves that the peer holds the certificate's key, no more (see [`super::tls`]); [`Trusts::identify`] says whether
//! a configured authority vouches for the certificate, and for whom.

use std::path::{Path, PathBuf};

use aws_lc_rs::digest;
use hallmark_core::{
    error::{Error, Reason},
    policy::{Caller, Credential, Identity, Roles},
    time::Timestamp,
};
use rustls::pki_types::{CertificateDer, TrustAnchor, UnixTime, pem::PemObject};
use webpki::{EndEntityCert, KeyUsage, VerifiedPath};

mod names;

pub use hallmark_core::policy::Scope;

/// One `[[trust]]` of the configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrustSpec {
    /// PEM file with the authority's certificates.
    pub bundle: PathBuf,
    pub scope: Scope,
    /// What those that it vouches for may be.
    pub roles: Roles,
}

/// Every `[[trust]]`, its bundle read.
#[derive(Debug)]
pub struct Trusts(Vec<Trust>);

#[derive(Debug)]
struct Trust {
    anchors: Vec<TrustAnchor<'static>>,
    scope: Scope,
    roles: Roles,
}

impl Trusts {
    /// Reads the bundles. A bundle without a certificate, or with one that does not parse, is an error.
    pub fn load(specs: &[TrustSpec]) -> Result<Self, InvalidBundle> {
        specs.iter().map(Trust::load).collect::<Result<_, _>>().map(Self)
    }

    /// Who the peer is that showed `chain`, leaf first, and proved to hold the leaf's key.
    ///
    /// The chain must lead to a bundle whose scope covers the identity; the roles of all such trusts are joined.
    /// The identity is the URI SAN if that is the only one and a SPIFFE ID (SPIFFE X.509-SVID §2; DNS SANs beside it
    /// are for other purposes), else the only DNS SAN. Fails with `NotAuthenticated` without a certificate,
    /// `CertificateUntrusted` where the chain leads nowhere, `IdentityInvalid` where it names nobody, or somebody whom
    /// that authority may not vouch for.
    pub fn identify(&self, chain: &[CertificateDer<'_>], now: Timestamp) -> Result<Caller, Error> {
        let Some((leaf, intermediates)) = chain.split_first() else {
            return Err(not_authenticated());
        };
        let leaf = EndEntityCert::try_from(leaf).map_err(|error| untrusted("does not parse", error))?;
        let mut vouchers = Vec::new();
        let mut failure = webpki::Error::UnknownIssuer;
        for trust in &self.0 {
            match trust.verify(&leaf, intermediates, now) {
                Ok(path) => vouchers.push((trust, path)),
                // "Unknown issuer" of one trust says less than what another found wrong with its own certificate.
                Err(webpki::Error::UnknownIssuer) => {}
                Err(error) => failure = error,
            }
        }
        if vouchers.is_empty() {
            return Err(why_untrusted(failure));
        }
        let identity = names::identity(&leaf.der())?;
        vouchers.retain(|(trust, _)| trust.scope.covers(&identity));
        if vouchers.is_empty() {
            let text = format!("the authority of the certificate may not vouch for `{identity}`");
            return Err(invalid(text + "\nhint: compare `trust_domain` or `dns_suffixes` of its [[trust]]"));
        }
        let credential = Credential::Certificate { key: key_mark(&leaf) };
        let mut caller = Caller { identity, roles: Roles::default(), not_after: None, credential };
        for (trust, path) in &vouchers {
            caller.roles.workload |= trust.roles.workload;
            caller.roles.operator |= trust.roles.operator;
            let end = names::not_after(path)?;
            caller.not_after = Some(caller.not_after.map_or(end, |earlier| earlier.min(end)));
        }
        Ok(caller)
    }
}

/// Reads the identity in `certificate` (DER) as if an authority had vouched for it, whatever comes; for the fuzz target.
pub fn try_certificate(certificate: &[u8]) -> Result<Identity, Error> {
    let certificate = CertificateDer::from(certificate);
    let leaf = EndEntityCert::try_from(&certificate).map_err(|error| untrusted("does not parse", error))?;
    names::identity(&leaf.der())
}

/// What tells a certificate from others: its public key, which stays when it is renewed for the same key.
fn key_mark(leaf: &EndEntityCert<'_>) -> String {
    let digest = digest::digest(&digest::SHA256, leaf.subject_public_key_info().as_ref());
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The caller at the other end of a Unix socket. It has both roles: `[[workload]]` and `[[operator]]` decide.
pub fn unix_caller(uid: u32) -> Caller {
    Caller {
        identity: Identity::Uid(uid),
        roles: Roles { workload: true, operator: true },
        not_after: None,
        credential: Credential::Socket,
    }
}

/// The answer to whoever showed no credential.
pub fn not_authenticated() -> Error {
    let text = "no client certificate was shown, and no bearer token\nhint: connect with one from an authority in a [[trust]], \
                over the Unix socket, or with a token of an [[issuer]]";
    Error::new(Reason::NotAuthenticated, text)
}

/// The answer to whoever showed a token where none can count.
pub(super) fn no_issuer() -> Error {
    let text = "a bearer token was shown, and the configuration of this server has no [[issuer]]\nhint: ask an operator to \
                add the token's [[issuer]], or connect with a client certificate from an authority in a [[trust]]";
    Error::new(Reason::NotAuthenticated, text)
}

/// A trust bundle that can't be used.
#[derive(Debug, thiserror::Error)]
#[error("trust bundle `{path}`: {why}\nhint: it must be a PEM file of CA certificates")]
pub struct InvalidBundle {
    path: PathBuf,
    why: String,
}

impl InvalidBundle {
    fn new(path: &Path, why: impl ToString) -> Self {
        Self { path: path.to_owned(), why: why.to_string() }
    }
}

impl Trust {
    fn load(spec: &TrustSpec) -> Result<Self, InvalidBundle> {
        let fail = |why: String| InvalidBundle::new(&spec.bundle, why);
        let certificates = CertificateDer::pem_file_iter(&spec.bundle).map_err(|error| fail(error.to_string()))?;
        let mut anchors = Vec::new();
        for certificate in certificates {
            let certificate = certificate.map_err(|error| fail(error.to_string()))?;
            let anchor = webpki::anchor_from_trusted_cert(&certificate).map_err(|error| fail(error.to_string()))?;
            anchors.push(anchor.to_owned());
        }
        if anchors.is_empty() {
            return Err(fail("holds no certificate".to_owned()));
        }
        Ok(Self { anchors, scope: spec.scope.clone(), roles: spec.roles })
    }

    fn verify<'p>(
        &'p self,
        leaf: &'p EndEntityCert<'p>,
        intermediates: &'p [CertificateDer<'p>],
        now: Timestamp,
    ) -> Result<VerifiedPath<'p>, webpki::Error> {
        let now = UnixTime::since_unix_epoch(now.since(Timestamp::from_millis(0)));
        let algs = webpki::ALL_VERIFICATION_ALGS;
        leaf.verify_for_usage(algs, &self.anchors, intermediates, now, KeyUsage::client_auth(), None, None)
    }
}

fn why_untrusted(error: webpki::Error) -> Error {
    use webpki::Error as E;
    let what = match &error {
        E::CertExpired { .. } => "or one of its chain has expired\nhint: get a new one and connect again",
        E::CertNotValidYet { .. } => "or one of its chain is not valid yet\nhint: compare the clocks",
        E::UnknownIssuer => {
            "comes from an issuer that no [[trust]] knows\nhint: send the intermediate certificates too, or ask an \
             operator to add the authority"
        }
        E::RequiredEkuNotFoundContext(_) => "is not for client authentication (extended key usage)",
        _ => "does not verify",
    };
    untrusted(what, error)
}

fn untrusted(what: &str, error: webpki::Error) -> Error {
    Error::new(Reason::CertificateUntrusted, format!("the client certificate {what}")).with_detail(error)
}

fn invalid(text: impl Into<String>) -> Error {
    Error::new(Reason::IdentityInvalid, text)
}

#[cfg(test)]
mod tests;
