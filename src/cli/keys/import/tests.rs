//! Files that are no good, or not what they seem.

use base64::{Engine, prelude::BASE64_STANDARD};
use p12_keystore::{EncryptionAlgorithm, KeyStore, KeyStoreEntry, MacAlgorithm, PrivateKey, PrivateKeyChain};
use proptest::prelude::*;

use super::{file::Contents, material::Material, *};

const PASSPHRASE: &str = "correct horse";

fn key() -> rcgen::KeyPair {
    rcgen::KeyPair::generate().unwrap()
}

fn certificate(pair: &rcgen::KeyPair) -> Vec<u8> {
    rcgen::CertificateParams::new(Vec::new()).unwrap().self_signed(pair).unwrap().der().to_vec()
}

/// With few rounds, for a test opens thousands.
fn pkcs12(keys: &[&rcgen::KeyPair], algorithm: EncryptionAlgorithm) -> Vec<u8> {
    pkcs12_of(keys, algorithm, 10)
}

fn pkcs12_of(keys: &[&rcgen::KeyPair], algorithm: EncryptionAlgorithm, rounds: u32) -> Vec<u8> {
    let mut store = KeyStore::new();
    for (number, pair) in keys.iter().enumerate() {
        let key = PrivateKey::from_der(&pair.serialize_der()).unwrap();
        let leaf = p12_keystore::Certificate::from_der(&certificate(pair)).unwrap();
        let chain = PrivateKeyChain::new(vec![u8::try_from(number).unwrap()], key, [leaf]);
        store.add_entry(&format!("key {number}"), KeyStoreEntry::PrivateKeyChain(chain));
    }
    let writer = store.writer(PASSPHRASE).encryption_algorithm(algorithm).encryption_iterations(rounds);
    writer.mac_algorithm(MacAlgorithm::HmacSha256).mac_iterations(rounds).write().unwrap()
}

fn pem_of(label: &str, der: &[u8]) -> String {
    let base64 = BASE64_STANDARD.encode(der);
    let lines: Vec<_> = base64.as_bytes().chunks(64).map(|line| str::from_utf8(line).unwrap()).collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}

fn said(contents: Result<Contents, Failure>) -> String {
    match contents.and_then(Material::new) {
        Ok(material) => format!("taken: {}", material.title),
        Err(failure) => failure.render(false),
    }
}

fn from_pem(text: &str) -> String {
    said(pem::contents(text.as_bytes(), ""))
}

#[test]
fn a_key_is_taken_with_its_chain() {
    let pair = key();
    for algorithm in
        [EncryptionAlgorithm::PbeWithHmacSha256AndAes256, EncryptionAlgorithm::PbeWithShaAnd3KeyTripleDesCbc]
    {
        let file = pkcs12(&[&pair], algorithm);
        let material = Material::new(pkcs12::contents(&file, PASSPHRASE).unwrap()).unwrap();
        assert_eq!(material.public.spki(), rcgen::PublicKeyData::subject_public_key_info(&pair));
        assert_eq!(material.certificates.len(), 1);
        let is_old = algorithm != EncryptionAlgorithm::PbeWithHmacSha256AndAes256;
        assert_eq!(material.warnings.len(), usize::from(is_old), "{:?}", material.warnings);
    }
}

#[test]
fn a_wrong_passphrase_is_told_from_a_broken_file() {
    let file = pkcs12(&[&key()], EncryptionAlgorithm::PbeWithHmacSha256AndAes256);
    let wrong = said(pkcs12::contents(&file, "staple"));
    assert!(wrong.contains("the passphrase does not open it") && !wrong.contains("staple"), "{wrong}");
    let broken = said(pkcs12::contents(&file[..file.len() - 7], PASSPHRASE));
    assert!(broken.contains("no PKCS#12 file that can be read"), "{broken}");
}

#[test]
fn of_two_keys_both_are_named() {
    let (one, two) = (key(), key());
    let thumbprint = |pair: &rcgen::KeyPair| {
        PublicKey::from_spki(&rcgen::PublicKeyData::subject_public_key_info(pair)).unwrap().thumbprint().to_string()
    };
    let said =
        said(pkcs12::contents(&pkcs12(&[&one, &two], EncryptionAlgorithm::PbeWithHmacSha256AndAes256), PASSPHRASE));
    assert!(said.contains("several private keys"), "{said}");
    assert!(said.contains(&thumbprint(&one)) && said.contains(&thumbprint(&two)), "{said}");
}

#[test]
fn a_certificate_of_another_key_is_refused() {
    let text = pem_of("PRIVATE KEY", &key().serialize_der()) + &pem_of("CERTIFICATE", &certificate(&key()));
    assert!(from_pem(&text).contains("none of its certificates is the key's"), "{}", from_pem(&text));
    let alone = pem_of("CERTIFICATE", &certificate(&key()));
    assert!(from_pem(&alone).contains("no private key"), "{}", from_pem(&alone));
}

/// jwt.io's key for ES256, as that page shows it.
#[test]
fn a_key_that_everyone_has_is_refused() {
    let key = "MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgevZzL1gdAFr88hb2OF/2NxApJCzGCEDdfSp6VQO30hyhRANCAAQRWz+\
               jn65BtOMvdyHKcvjBeBSDZH2r1RTwjmYSi9R/zpBnuQ4EiMnCqfMPWiZqB4QdbAd0E7oH50VpuZ1P087G";
    let said = from_pem(&pem_of("PRIVATE KEY", &BASE64_STANDARD.decode(key).unwrap()));
    assert!(said.contains("known to everyone: it is jwt.io's example for ES256"), "{said}");
}

#[test]
fn keys_of_other_kinds_are_named() {
    let p521 = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P521_SHA512).unwrap();
    let said = from_pem(&pem_of("PRIVATE KEY", &p521.serialize_der()));
    assert!(said.contains("a curve that hallmark does not sign with: P-521"), "{said}");
    let old =
        from_pem("-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nAAAA\n-----END RSA PRIVATE KEY-----\n");
    assert!(old.contains("openssl pkcs8 -topk8"), "{old}");
    let ssh = from_pem("-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n-----END OPENSSH PRIVATE KEY-----\n");
    assert!(ssh.contains("ssh-keygen"), "{ssh}");
}

#[test]
fn text_between_the_blocks_does_not_matter() {
    let pair = key();
    let key = pem_of("PRIVATE KEY", &pair.serialize_der());
    let taken = from_pem(&format!(
        "Bag Attributes\n  friendlyName: x\n-----BEGIN EC PARAMETERS-----\nBggq\n-----END EC PARAMETERS-----\n{key}"
    ));
    assert!(taken.starts_with("taken: the P-256 key"), "{taken}");
}

/// What asks for years of work is refused before the work.
#[test]
fn work_is_bounded() {
    let file = pkcs12(&[&key()], EncryptionAlgorithm::PbeWithHmacSha256AndAes256);
    let many = [file.as_slice(), &b"\x06\x09\x2a\x86\x48\x86\xf7\x0d\x01\x05\x0d".repeat(40)].concat();
    assert!(said(pkcs12::contents(&many, PASSPHRASE)).contains("encrypted parts"));
    // A file of beginnings, or of empty blocks.
    for text in ["-----BEGIN PRIVATE KEY-----\n", "-----BEGIN X-----\n-----END Y-----\n"] {
        let text = text.repeat(file::MAX_FILE / text.len());
        assert!(from_pem(&text).contains("no private key"));
    }
    // PBES2 with PBKDF2 of 2^31 - 1 rounds.
    let pbkdf2 =
        "MEsGCSqGSIb3DQEFDTA+MB0GCSqGSIb3DQEFDDAQBAgAAAAAAAAAAAIEf////zAdBglghkgBZQMEASoEEAAAAAAAAAAAAAAAAAAAAAA=";
    let scheme = BASE64_STANDARD.decode(pbkdf2).unwrap();
    let der = [&[0x30, u8::try_from(scheme.len() + 18).unwrap()], scheme.as_slice(), &[4, 16], &[0; 16]].concat();
    let said = from_pem(&pem_of("ENCRYPTED PRIVATE KEY", &der));
    assert!(said.contains("ten million rounds"), "{said}");
}

/// The library takes them as one round. Those of a bag inside an encrypted part can't be seen before it is opened.
#[test]
fn counts_below_one_neither_hang_nor_panic() {
    for rounds in [0, u32::MAX] {
        let file = pkcs12_of(&[&key()], EncryptionAlgorithm::PbeWithShaAnd3KeyTripleDesCbc, rounds);
        let taken = said(pkcs12::contents(&file, PASSPHRASE));
        assert!(taken.starts_with("taken: the P-256 key"), "{taken}");
    }
}

/// Changes some bytes, or cuts the end off.
fn mutated(of: Vec<u8>) -> impl Strategy<Value = Vec<u8>> {
    let length = of.len();
    let changes = prop::collection::vec((0..length, any::<u8>()), 0..4);
    (changes, 0..=length.min(40)).prop_map(move |(changes, cut)| {
        let mut bytes = of.clone();
        changes.into_iter().for_each(|(at, byte)| bytes[at] = byte);
        bytes.truncate(length - cut / 8);
        bytes
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn no_file_makes_it_panic(
        modern in mutated(pkcs12(&[&key()], EncryptionAlgorithm::PbeWithHmacSha256AndAes256)),
        old in mutated(pkcs12(&[&key()], EncryptionAlgorithm::PbeWithShaAnd40BitRc4Cbc)),
        bare in mutated(key().serialize_der()),
        leaf in mutated(certificate(&key())),
        text in "(-----(BEGIN|END) (PRIVATE KEY|CERTIFICATE|X)-----\n?|[A-Za-z=\n-]{0,9}){0,12}",
    ) {
        for file in [&modern, &old] {
            said(pkcs12::contents(file, PASSPHRASE));
        }
        from_pem(&text);
        let contents = Contents { keys: vec![(bare.into(), None)], certificates: vec![leaf], warnings: Vec::new() };
        said(Ok(contents));
    }
}
