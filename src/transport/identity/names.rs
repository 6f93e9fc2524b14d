//! What a certificate says: names and times.

use hallmark_core::{error::Error, policy::Identity, time::Timestamp};
use rustls::pki_types::CertificateDer;
use webpki::VerifiedPath;
use x509_cert::{
    Certificate,
    der::Decode,
    ext::pkix::{SubjectAltName, name::GeneralName},
};

use super::invalid;

/// The one identity in the subject alternative names of `leaf`. The common name is never looked at.
pub(super) fn identity(leaf: &CertificateDer<'_>) -> Result<Identity, Error> {
    let certificate = parse(leaf)?;
    let names = certificate.tbs_certificate().get_extension::<SubjectAltName>();
    let names =
        names.map_err(|error| invalid("the certificate's alternative names do not parse").with_detail(error))?;
    let names = names.map(|(_, SubjectAltName(names))| names).unwrap_or_default();

    let (mut uris, mut dns) = (Vec::new(), Vec::new());
    for name in &names {
        match name {
            GeneralName::UniformResourceIdentifier(uri) => uris.push(uri.as_str()),
            GeneralName::DnsName(name) => dns.push(name.as_str()),
            _ => {}
        }
    }
    if let [_, _, ..] = uris[..] {
        return Err(invalid("the certificate has several URI names; an identity must be one"));
    }
    if let [uri] = uris[..]
        && uri.get(..7).is_some_and(|scheme| scheme.eq_ignore_ascii_case("spiffe:"))
    {
        return spiffe(uri);
    }
    match dns[..] {
        [name] => dns_name(name),
        [] => Err(invalid(
            "the certificate names nobody: it has neither a SPIFFE ID nor a DNS name among its subject alternative \
             names (a common name does not count)",
        )),
        _ => Err(invalid("the certificate has several DNS names; an identity must be one")),
    }
}

/// When the first certificate of `path` expires. The trust anchor's own time does not count (RFC 5280 §6.1.1).
pub(super) fn not_after(path: &VerifiedPath<'_>) -> Result<Timestamp, Error> {
    let mut end = end_of(&path.end_entity().der())?;
    for intermediate in path.intermediate_certificates() {
        end = end.min(end_of(&intermediate.der())?);
    }
    Ok(end)
}

fn end_of(certificate: &CertificateDer<'_>) -> Result<Timestamp, Error> {
    let end = parse(certificate)?.tbs_certificate().validity().not_after.to_unix_duration();
    Ok(Timestamp::from_secs(i64::try_from(end.as_secs()).unwrap_or(i64::MAX)))
}

fn parse(certificate: &CertificateDer<'_>) -> Result<Certificate, Error> {
    Certificate::from_der(certificate).map_err(|error| invalid("the certificate does not parse").with_detail(error))
}

fn spiffe(uri: &str) -> Result<Identity, Error> {
    Identity::spiffe(uri).ok_or_else(|| invalid(format!("not a SPIFFE ID of a workload: `{}`", shown(uri))))
}

fn dns_name(name: &str) -> Result<Identity, Error> {
    if name.contains('*') {
        return Err(invalid(format!("a wildcard is no identity: `{}`", shown(name))));
    }
    Identity::dns(name).ok_or_else(|| invalid(format!("not a DNS name: `{}`", shown(name))))
}

/// Names come from whoever made the certificate: bounded, and without control characters.
fn shown(name: &str) -> String {
    name.chars().take(80).flat_map(char::escape_default).collect()
}
