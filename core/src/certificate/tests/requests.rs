//! What is made for a certificate: requests, and certificates that sign themselves.

use der::Decode;

use super::fixture::{Key, NOW, YEAR, names};
use crate::{
    certificate::{
        algorithm::{SignedRef, is_signed_by},
        chain::check,
        request::{Names, finish, request, self_signed},
    },
    error::Reason,
    key::Alg,
};

#[test]
fn requests_are_signed_by_keys_of_every_algorithm() {
    for alg in Alg::ALL {
        let key = Key::new(alg);
        let der = key.finish(&request(&names(), &key.public).unwrap(), 1);
        let request = x509_cert::request::CertReq::from_der(&der).unwrap();
        assert_eq!(request.info.subject.to_string(), "CN=clinic.example,O=Clinic\\, Inc.,C=US");
        let signed = SignedRef::from_der(&der).unwrap();
        assert!(is_signed_by(&signed, &request.info.public_key).unwrap(), "{alg}");
        let other = Key::new(alg);
        let spki = Decode::from_der(other.public.spki()).unwrap();
        assert!(!is_signed_by(&signed, &spki).unwrap(), "{alg}");
    }
}

#[test]
fn certificates_that_sign_themselves_can_be_installed() {
    for alg in Alg::ALL {
        let key = Key::new(alg);
        let der = key.self_signed();
        let shown = check(std::slice::from_ref(&der), &key.public, NOW).unwrap();
        assert_eq!(
            (shown.subject.as_str(), &shown.issuer),
            ("CN=clinic.example,O=Clinic\\, Inc.,C=US", &shown.subject)
        );
        assert_eq!(
            (shown.san_uris.as_slice(), shown.san_dns.as_slice()),
            (["https://clinic.example/a".to_owned()].as_slice(), ["clinic.example".to_owned()].as_slice())
        );
        assert_eq!(shown.validity.not_after, NOW.plus(YEAR));
        assert!(shown.validity.not_before < NOW, "a clock behind ours must not refuse it");
        assert_ne!(key.finish(&self_signed(names(), &key.public, alg, YEAR).unwrap(), 8), der, "serial numbers differ");
    }
}

#[test]
fn what_is_signed_for_a_certificate_is_no_jose_input() {
    let key = Key::new(Alg::ES256);
    for input in [request(&names(), &key.public).unwrap(), self_signed(names(), &key.public, Alg::ES256, YEAR).unwrap()]
    {
        let signed = input.encode(NOW, [0xff; 16]).unwrap();
        assert_eq!(signed.bytes[0], 0x30);
        assert!(signed.bytes.iter().any(|byte| !byte.is_ascii()));
    }
}

/// One in 128 signatures has an r or an s that begins with a zero byte; DER has none of these, JOSE all.
#[test]
fn ecdsa_signatures_become_der_whatever_they_begin_with() {
    let key = Key::new(Alg::ES256);
    let signed = request(&names(), &key.public).unwrap().encode(NOW, [1; 16]).unwrap();
    let mut signature = [0xff; 64];
    (signature[0], signature[1], signature[32], signature[33]) = (0, 0x7f, 0, 0x80);
    let der = finish(&signed, Alg::ES256, &signature).unwrap();
    let encoded = x509_cert::request::CertReq::from_der(&der).unwrap().signature;
    let (r, s) = ([&[2, 31, 0x7f][..], &[0xff; 30]].concat(), [&[2, 32, 0, 0x80][..], &[0xff; 30]].concat());
    assert_eq!(encoded.raw_bytes(), [&[0x30, 67][..], &r, &s].concat());
}

#[test]
fn names_are_taken_as_they_must_be() {
    let one = |subject: &str, uri: &str, dns: &str| {
        let list = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty()).into_iter().collect::<Vec<_>>();
        Names::new(subject, &list(uri), &list(dns))
    };
    one("CN=a", "urn:oid:2.16.840.1", "").unwrap();
    one("CN=Zürich", "", "xn--zrich-kva.example").unwrap();
    for subject in ["", "clinic", "CN=", "/CN=a/O=b", "CN=a\nO=b", "C=ü", "NOPE=a", "CN=#zz"] {
        let error = one(subject, "", "").expect_err(subject);
        assert_eq!(error.reason, Reason::InvalidRequest);
        assert!(error.message.contains("RFC 4514"), "{error}");
    }
    for uri in ["clinic.example", "1x:y", "https://a b", "https://ü", "x:"] {
        assert!(one("CN=a", uri, "").is_err(), "{uri}");
    }
    for dns in ["*.clinic.example", "clinic..example", "a b", &"a".repeat(300)] {
        assert!(one("CN=a", "", dns).is_err(), "{dns}");
    }
}
