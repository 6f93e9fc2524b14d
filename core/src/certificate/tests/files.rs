//! Certificates as files and strangers send them.

use super::fixture::{Key, NOW, chain_for, refused};
use crate::{
    certificate::{
        Certificate, Validity,
        chain::{check, read},
        pem,
        request::{Names, request},
        to_pem,
    },
    key::Alg,
    public_key::PublicKey,
};

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
