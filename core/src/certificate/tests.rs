use aws_lc_rs::{
    rand::SystemRandom,
    rsa::KeySize,
    signature::{
        self, ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair,
        RsaKeyPair,
    },
};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyUsagePurpose, PublicKeyData};

use super::{
    algorithm::{SignedRef, is_signed_by},
    chain::{check, read},
    request::{Names, finish, request, self_signed},
    *,
};
use crate::{assertion::SigningInput, key::Alg, profile::Profile, public_key::Curve};

const NOW: Timestamp = Timestamp::from_secs(1_800_000_000);
const YEAR: Duration = Duration::from_secs(365 * 86_400);

/// A key that signs as an HSM does: in JOSE form.
struct Key {
    alg: Alg,
    public: PublicKey,
    pair: Pair,
}

enum Pair {
    Rsa(RsaKeyPair),
    Ecdsa(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

impl Key {
    fn new(alg: Alg) -> Self {
        let ecdsa = |algorithm, curve| {
            let pair = EcdsaKeyPair::generate(algorithm).unwrap();
            (PublicKey::from_ec_point(curve, pair.public_key().as_ref()).unwrap(), Pair::Ecdsa(pair))
        };
        let (public, pair) = match alg {
            Alg::ES256 => ecdsa(&ECDSA_P256_SHA256_FIXED_SIGNING, Curve::P256),
            Alg::ES384 => ecdsa(&ECDSA_P384_SHA384_FIXED_SIGNING, Curve::P384),
            Alg::EdDSA => {
                let pair = Ed25519KeyPair::generate().unwrap();
                (PublicKey::from_ed25519(pair.public_key().as_ref()).unwrap(), Pair::Ed25519(pair))
            }
            _ => {
                let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
                let key = pair.public_key();
                let (n, e) = (key.modulus().big_endian_without_leading_zero(), key.exponent());
                (PublicKey::from_rsa(n, e.big_endian_without_leading_zero()).unwrap(), Pair::Rsa(pair))
            }
        };
        Self { alg, public, pair }
    }

    fn sign(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match &self.pair {
            Pair::Ecdsa(pair) => pair.sign(&random, message).unwrap().as_ref().to_vec(),
            Pair::Ed25519(pair) => pair.sign(message).as_ref().to_vec(),
            Pair::Rsa(pair) => {
                let padding: &dyn signature::RsaEncoding = match self.alg {
                    Alg::RS256 => &signature::RSA_PKCS1_SHA256,
                    Alg::RS384 => &signature::RSA_PKCS1_SHA384,
                    Alg::RS512 => &signature::RSA_PKCS1_SHA512,
                    Alg::PS256 => &signature::RSA_PSS_SHA256,
                    Alg::PS384 => &signature::RSA_PSS_SHA384,
                    _ => &signature::RSA_PSS_SHA512,
                };
                let mut signature = vec![0; pair.public_modulus_len()];
                pair.sign(padding, &random, message, &mut signature).unwrap();
                signature
            }
        }
    }

    /// Signs what was prepared, and gives the DER.
    fn finish(&self, input: &SigningInput, random: u8) -> Vec<u8> {
        let signed = input.encode(NOW, [random; 16]).unwrap();
        let signature = self.sign(&signed.bytes);
        assert!(self.public.verifier(self.alg).unwrap().verifies(&signed.bytes, &signature));
        finish(&signed, self.alg, &signature).unwrap()
    }

    /// A certificate that signs itself, good for a year.
    fn self_signed(&self) -> Vec<u8> {
        self.finish(&self_signed(names(), &self.public, self.alg, YEAR).unwrap(), 7)
    }
}

/// What `rcgen` certifies.
struct Spki<'a>(&'a PublicKey);

impl PublicKeyData for Spki<'_> {
    fn der_bytes(&self) -> &[u8] {
        match self.0.numbers() {
            crate::public_key::Numbers::Ec { curve, .. } => {
                let len = if *curve == Curve::P256 { 65 } else { 97 };
                &self.0.spki()[self.0.spki().len() - len..]
            }
            _ => unreachable!("only ES256 and ES384 are certified here"),
        }
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        &rcgen::PKCS_ECDSA_P256_SHA256
    }
}

type Issuer = CertifiedIssuer<'static, rcgen::KeyPair>;

fn authority(name: &str) -> Issuer {
    Issuer::self_signed(ca_params(name), rcgen::KeyPair::generate().unwrap()).unwrap()
}

fn below(name: &str, issuer: &Issuer) -> Issuer {
    Issuer::signed_by(ca_params(name), rcgen::KeyPair::generate().unwrap(), issuer).unwrap()
}

fn ca_params(name: &str) -> CertificateParams {
    let mut params = params(name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
}

fn params(name: &str) -> CertificateParams {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

fn issue(params: &CertificateParams, key: &PublicKey, issuer: &Issuer) -> Vec<u8> {
    params.signed_by(&Spki(key), issuer).unwrap().der().to_vec()
}

/// A root, an intermediate, and a leaf for `key`: leaf first.
fn chain_for(key: &PublicKey) -> Vec<Vec<u8>> {
    let root = authority("root");
    let intermediate = below("intermediate", &root);
    vec![issue(&params("leaf"), key, &intermediate), intermediate.der().to_vec(), root.der().to_vec()]
}

fn names() -> Names {
    Names::new(
        "CN=clinic.example, O=Clinic\\, Inc.,C=US",
        &["https://clinic.example/a".into()],
        &["clinic.example".into()],
    )
    .unwrap()
}

fn refused(result: Result<impl std::fmt::Debug, Error>) -> String {
    let error = result.unwrap_err();
    assert_eq!(error.reason, Reason::InvalidCertificate, "{error}");
    error.message
}

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

#[test]
fn a_chain_from_leaf_to_root_is_taken_with_or_without_its_root() {
    let key = Key::new(Alg::ES256);
    let chain = chain_for(&key.public);
    assert_eq!(check(&chain, &key.public, NOW).unwrap().subject, "CN=leaf");
    check(&chain[..2], &key.public, NOW).unwrap();
    check(&chain[..1], &key.public, NOW).unwrap();
}

#[test]
fn a_wrong_order_is_named_and_not_put_right() {
    let key = Key::new(Alg::ES256);
    let chain = chain_for(&key.public);
    let [leaf, intermediate, root] = <[_; 3]>::try_from(chain).unwrap();
    let order =
        |order: &[&Vec<u8>]| refused(check(&order.iter().copied().cloned().collect::<Vec<_>>(), &key.public, NOW));
    let turned = order(&[&root, &intermediate, &leaf]);
    assert!(turned.contains("wrong order: certificate 3 (`CN=leaf`) has this key and must come first"), "{turned}");
    let swapped = order(&[&leaf, &root, &intermediate]);
    assert!(
        swapped.contains("after certificate 1 (`CN=leaf`) comes `CN=intermediate`: that is certificate 3"),
        "{swapped}"
    );
    let gap = order(&[&leaf, &root]);
    assert!(gap.contains("that one is missing"), "{gap}");
    let twice = order(&[&leaf, &leaf]);
    assert!(twice.contains("wrong order"), "{twice}");
    let beyond = order(&[&leaf, &intermediate, &root, &leaf]);
    assert!(beyond.contains("it is a root, which comes last"), "{beyond}");
}

#[test]
fn only_the_issuer_of_that_name_and_key_will_do() {
    let key = Key::new(Alg::ES256);
    let leaf = issue(&params("leaf"), &key.public, &authority("root"));
    let impostor = authority("root").der().to_vec();
    let message = refused(check(&[leaf, impostor], &key.public, NOW));
    assert!(message.contains("is not signed by the key of certificate 2"), "{message}");
}

#[test]
fn a_certificate_of_another_key_is_refused() {
    let (ours, other) = (Key::new(Alg::ES256), Key::new(Alg::ES256));
    let message = refused(check(&chain_for(&other.public), &ours.public, NOW));
    assert!(message.contains("is for another key") && message.contains(ours.public.thumbprint().as_str()), "{message}");
}

#[test]
fn dates_must_hold() {
    let key = Key::new(Alg::ES256);
    let chain = [key.self_signed()];
    let validity = Validity::of_leaf(&chain).unwrap();
    let second = Duration::from_secs(1);
    check(&chain, &key.public, validity.not_before).unwrap();
    check(&chain, &key.public, validity.not_after).unwrap();
    let early = refused(check(&chain, &key.public, validity.not_before.minus(second)));
    assert!(early.contains("it is not valid before 2027-01-15T07:55:00Z"), "{early}");
    let late = refused(check(&chain, &key.public, validity.not_after.plus(second)));
    assert!(late.contains("it expired at 2028-01-15T08:00:00Z"), "{late}");
}

#[test]
fn a_leaf_must_be_a_leaf_that_may_sign() {
    let (key, root) = (Key::new(Alg::ES256), authority("root"));
    let ca = refused(check(&[issue(&ca_params("leaf"), &key.public, &root)], &key.public, NOW));
    assert!(ca.contains("is a CA's own"), "{ca}");
    let mut params = params("leaf");
    params.key_usages = vec![KeyUsagePurpose::KeyEncipherment];
    let usage = refused(check(&[issue(&params, &key.public, &root)], &key.public, NOW));
    assert!(usage.contains("lacks digitalSignature"), "{usage}");
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    check(&[issue(&params, &key.public, &root)], &key.public, NOW).unwrap();
}

#[test]
fn a_chain_is_bounded() {
    let key = Key::new(Alg::ES256);
    let leaf = key.self_signed();
    assert!(refused(check(&vec![leaf.clone(); 11], &key.public, NOW)).contains("at most 10"));
    assert!(refused(check(&[], &key.public, NOW)).contains("no certificate"));
    assert!(refused(check(&[vec![0x30; 65_537]], &key.public, NOW)).contains("64 KiB"));
    assert!(refused(read(&vec![b' '; 65_537])).contains("64 KiB"));
}

#[test]
fn a_file_is_read_with_what_is_between() {
    let chain = chain_for(&Key::new(Alg::ES256).public);
    let plain = to_pem(&chain);
    assert_eq!(read(plain.as_bytes()).unwrap(), chain);
    let dressed = format!(
        "\u{feff}Bag Attributes\r\n{}",
        plain.replace('\n', "\r\n").replace("-----BEGIN", "subject=x\r\n-----BEGIN")
    );
    assert_eq!(read(dressed.as_bytes()).unwrap(), chain);
    assert_eq!(read(&chain[0]).unwrap(), chain[..1], "one as DER");
}

#[test]
fn a_private_key_is_refused_and_not_repeated() {
    let leaf = Key::new(Alg::ES256).self_signed();
    for label in ["PRIVATE KEY", "RSA PRIVATE KEY", "EC PRIVATE KEY", "ENCRYPTED PRIVATE KEY"] {
        let file = to_pem([&leaf]) + &pem(label, b"the secret");
        let message = refused(read(file.as_bytes()));
        assert!(message.contains("private key") && !message.contains("dGhlIHNlY3JldA"), "{message}");
        let cut = &file[..file.len() - 30];
        let message = refused(read(cut.as_bytes()));
        assert!(message.contains("private key") && !message.contains("dGhlIHNlY3JldA"), "{message}");
    }
}

#[test]
fn other_files_are_told_apart() {
    for (label, says) in
        [("CERTIFICATE REQUEST", "send it to the CA"), ("PKCS7", "openssl pkcs7"), ("X\u{1b}[1m", "something else")]
    {
        let message = refused(read(pem(label, b"x").as_bytes()));
        assert!(message.contains(says) && !message.contains('\u{1b}'), "{message}");
    }
    assert!(refused(read(b"")).contains("no certificate"));
    assert!(refused(read(b"-----BEGIN CERTIFICATE-----\nAAAA")).contains("cut short"));
    assert!(refused(read(b"-----BEGIN CERTIFICATE-----\n!!\n-----END CERTIFICATE-----")).contains("not base64"));
    assert!(refused(read(&[0x30, 0x82, 1])).contains("not a certificate"));
}

#[test]
fn a_leaf_is_shown_only_while_it_holds() {
    let mut client =
        Client::new("clinic".parse().unwrap(), Profile::find("generic").unwrap(), "https://as.example/token");
    let validity = Validity { not_before: NOW, not_after: NOW.plus(YEAR) };
    super::check(&client, None, NOW).unwrap();
    client.makes.x5t = true;
    super::check(&client, Some(validity), NOW).unwrap();
    for (validity, now, says) in [
        (None, NOW, "it has none"),
        (Some(validity), NOW.minus(Duration::from_secs(1)), "it is not valid before 2027-01-15T08:00:00Z"),
        (Some(validity), NOW.plus(YEAR + Duration::from_secs(1)), "it expired at 2028-01-15T08:00:00Z"),
    ] {
        let error = super::check(&client, validity, now).unwrap_err();
        assert_eq!(error.reason, Reason::NoCertificate);
        assert!(error.message.contains(says) && error.message.contains("hallmark cert install clinic"), "{error}");
    }
    assert!(validity.ends_within(YEAR, NOW) && !validity.ends_within(YEAR - Duration::from_secs(1), NOW));
}

proptest::proptest! {
    /// Whatever a stranger sends is read or refused.
    #[test]
    fn damaged_certificates_never_panic(changes: Vec<(proptest::sample::Index, u8)>, cut: proptest::sample::Index) {
        let (key, mut der) = sample();
        for (place, byte) in changes {
            let place = place.index(der.len());
            der[place] = byte;
        }
        let _ = check(&[der.clone()], &key, NOW);
        let _ = Certificate::parse(&der);
        let _ = Validity::of_leaf(&[der.clone()]);
        der.truncate(cut.index(der.len()));
        let _ = check(&[der.clone(), der.clone()], &key, NOW);
        let _ = read(&der);
        let _ = read(pem("CERTIFICATE", &der).as_bytes());
    }

    #[test]
    fn files_of_any_kind_are_read_or_refused(bytes: Vec<u8>, text: String) {
        let _ = read(&bytes);
        let _ = read(text.as_bytes());
        let _ = read(format!("-----BEGIN {text}-----{text}-----END ").as_bytes());
        let _ = Names::new(&text, std::slice::from_ref(&text), std::slice::from_ref(&text));
        let _ = Names::new(&format!("CN={text}"), &[], &[]).map(|names| request(&names, &sample().0).unwrap());
    }
}

fn sample() -> (PublicKey, Vec<u8>) {
    static SAMPLE: std::sync::OnceLock<(PublicKey, Vec<u8>)> = std::sync::OnceLock::new();
    let made = || {
        let key = Key::new(Alg::ES256);
        let der = key.self_signed();
        (key.public, der)
    };
    SAMPLE.get_or_init(made).clone()
}
