use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

use super::{
    Nonce,
    attestation::{self, Firmware, NotAttested, Policy},
    custody_keys,
    fixture::{
        Key, World,
        maker::{Maker, Says, attest_with},
        nonce, now, parts,
    },
    possession,
    roots::{FINGERPRINTS, Roots},
    verify::{Report, Standing, verify},
};
use crate::{
    certificate::{Certificate, chain},
    client::Custody,
    key::Purpose,
    time::Timestamp,
};

/// What failed.
fn failures(report: &Report) -> String {
    let failed = report.findings.iter().filter(|finding| finding.standing == Standing::Failed);
    failed.map(|finding| finding.text.as_str()).collect::<Vec<_>>().join("; ")
}

fn has(report: &Report, standing: Standing, text: &str) -> bool {
    report.findings.iter().any(|finding| finding.standing == standing && finding.text.contains(text))
}

#[test]
fn evidence_of_a_key_on_a_token_holds_and_says_what_is_only_claimed() {
    let world = World::new();
    let report = verify(&world.file(), &world.trust());
    assert!(report.holds(), "{}", failures(&report));
    assert_eq!(report.custody, Some(Custody::Local));
    assert!(has(&report, Standing::Proven, "the key was at hand"));
    assert!(has(&report, Standing::Proven, "it is fresh"));
    assert!(has(&report, Standing::Claimed, "CKA_NEVER_EXTRACTABLE true"));
    assert!(has(&report, Standing::Claimed, "custody: local"));
}

#[test]
fn what_is_not_known_is_not_said_to_be_proven() {
    let world = World::new();
    let trust = super::verify::Trust { custody_keys: Vec::new(), nonce: None, ..world.trust() };
    let report = verify(&world.file(), &trust);
    assert!(report.holds(), "{}", failures(&report));
    assert!(has(&report, Standing::Unchecked, "--custody-key"));
    assert!(has(&report, Standing::Unchecked, "--nonce"));
}

#[test]
fn every_changed_byte_is_found() {
    let world = World::new();
    let (file, trust) = (world.file(), world.trust());
    for at in (0..file.len()).step_by(37) {
        let mut bytes = file.clone().into_bytes();
        bytes[at] = if bytes[at] == b'A' { b'B' } else { b'A' };
        let changed = String::from_utf8(bytes).unwrap();
        assert!(!verify(&changed, &trust).holds(), "a change at {at} went unseen");
    }
}

#[test]
fn another_custody_key_is_refused_whoever_it_names() {
    let world = World::new();
    let (document, stranger) = (world.document(), Key::new());
    for (named, text) in [(&stranger, "none of the custody keys"), (&world.custody, "altered, or is another's")] {
        let report = verify(&world.file_of(&document, named, &stranger), &world.trust());
        assert!(failures(&report).contains(text), "{}", failures(&report));
    }
    let report = verify(&world.file_of(&document, &stranger, &world.custody), &world.trust());
    assert!(failures(&report).contains("was signed by another"), "{}", failures(&report));
}

#[test]
fn the_nonce_must_be_the_one_that_was_asked_for() {
    let world = World::new();
    let trust = super::verify::Trust { nonce: Some(nonce(2)), ..world.trust() };
    assert!(failures(&verify(&world.file(), &trust)).contains("the nonce is not the one"));
    assert!(Nonce::new(vec![0; 15]).is_err() && Nonce::new(vec![0; 65]).is_err());
    assert!(Nonce::new(vec![0; 16]).is_ok() && Nonce::new(vec![0; 64]).is_ok());
}

#[test]
fn the_possession_of_another_key_or_nonce_is_none() {
    let world = World::new();
    let elsewhere = World::new().possession(&nonce(1));
    for possession in [elsewhere, world.possession(&nonce(2)), Vec::new()] {
        let mut document = world.document();
        document.possession = URL_SAFE_NO_PAD.encode(possession);
        let report = verify(&world.file_of(&document, &world.custody, &world.custody), &world.trust());
        assert!(failures(&report).contains("possession does not hold"), "{}", failures(&report));
    }
}

#[test]
fn the_thumbprint_must_be_that_of_the_key() {
    let world = World::new();
    let mut document = world.document();
    document.thumbprint = Key::new().public.thumbprint().to_string();
    let report = verify(&world.file_of(&document, &world.custody, &world.custody), &world.trust());
    assert!(failures(&report).contains("thumbprint"), "{}", failures(&report));
}

#[test]
fn more_custody_than_the_attributes_show_is_refused() {
    let mut world = World::new();
    world.evidence.attributes.local = Some(false);
    let mut document = world.document();
    assert_eq!(document.custody, Some(Custody::Imported));
    for claimed in [Custody::Local, Custody::Attested] {
        document.custody = Some(claimed);
        let report = verify(&world.file_of(&document, &world.custody, &world.custody), &world.trust());
        assert!(failures(&report).contains("better than what it shows"), "{}", failures(&report));
        assert_eq!(report.custody, None);
    }
}

#[test]
fn a_key_that_can_leave_is_told_as_such() {
    let mut world = World::new();
    world.evidence.attributes.extractable = Some(true);
    let report = verify(&world.file(), &world.trust());
    assert!(report.holds(), "{}", failures(&report));
    assert_eq!(report.custody, None);
    assert!(has(&report, Standing::Claimed, "custody: none, for it can be extracted"));
}

#[test]
fn evidence_has_nothing_that_an_assertion_needs() {
    let world = World::new();
    let [header, claims] = parts(&world.file());
    assert_eq!(header["kid"], world.custody.public.thumbprint().as_str());
    for name in ["iss", "sub", "aud", "exp"] {
        assert!(claims.get(name).is_none(), "evidence has `{name}`");
    }
}

#[test]
fn possession_is_no_jose_input_and_of_the_purpose_of_its_key() {
    let world = World::new();
    let kid = world.key.public.thumbprint();
    for purpose in [Purpose::Assertion, Purpose::Custody] {
        let input = possession(&kid, purpose, &nonce(1));
        assert_eq!((input.purpose(), input.kind()), (purpose, "possession"));
        let (bytes, _) = world.key.answer(&input);
        assert!(bytes.starts_with(b"hallmark-possession-v1\0"));
        assert!(bytes.ends_with(&[1; 32]));
    }
}

#[test]
fn an_attested_key_is_proven_to_be_where_it_was_born() {
    for wrapped in [false, true] {
        let mut world = World::new();
        let maker = Maker::unknown();
        world.serial = "7654321".into();
        world.roots = Roots::none().with_pem(maker.root_pem().as_bytes()).unwrap();
        let says = Says { wrapped, ..Says::default() };
        world.evidence.attestation = maker.attest(world.key.public.spki(), &says);
        let report = verify(&world.file(), &world.trust());
        assert!(report.holds(), "{}", failures(&report));
        assert_eq!(report.custody, Some(Custody::Attested));
        let shown = report.attestation.unwrap();
        assert_eq!((shown.serial, shown.firmware, shown.slot.as_deref()), (7_654_321, Firmware(5, 7, 1), Some("9a")));
        assert_eq!((shown.pin_policy, shown.touch_policy), (Policy::Once, Policy::Never));
        assert_eq!(shown.form_factor, Some(3));
    }
}

#[test]
fn an_attestation_of_another_yubikey_than_the_one_named_is_refused() {
    let mut world = World::new();
    let maker = Maker::unknown();
    world.serial = "1".into();
    world.roots = Roots::none().with_pem(maker.root_pem().as_bytes()).unwrap();
    world.evidence.attestation = maker.attest(world.key.public.spki(), &Says::default());
    let report = verify(&world.file(), &world.trust());
    assert!(failures(&report).contains("of YubiKey 7654321"), "{}", failures(&report));
}

/// What `check` says of what `says` makes of a new key.
fn refusal(maker: &Maker, trusted: &Maker, says: &Says, at: Timestamp) -> NotAttested {
    let key = Key::new();
    let roots = Roots::none().with_pem(trusted.root_pem().as_bytes()).unwrap();
    attestation::check(&maker.attest(key.public.spki(), says), &key.public, &roots, at).unwrap_err()
}

#[test]
fn chains_that_do_not_hold_attest_nothing() {
    let maker = Maker::unknown();
    let says = Says::default();
    let refused = |says: Says| refusal(&maker, &maker, &says, now());
    assert!(matches!(refusal(&maker, &Maker::unknown(), &says, now()), NotAttested::NoRoot(_)), "a foreign root");
    assert!(matches!(refused(Says { until: 2020, ..says.clone() }), NotAttested::NotValid(_)), "expired");
    assert!(matches!(refused(Says { critical: true, ..says.clone() }), NotAttested::Critical(_)));
    for says in [
        Says { ca: true, ..says.clone() },
        Says { serial: None, ..says.clone() },
        Says { firmware: None, ..says.clone() },
        Says { policies: None, ..says.clone() },
    ] {
        assert!(matches!(refused(says), NotAttested::NoStatement(_)));
    }
    let long_ago = Timestamp::from_secs(0);
    assert!(matches!(refusal(&maker, &maker, &says, long_ago), NotAttested::NotValid(_)), "not valid yet");
}

#[test]
fn only_a_ca_can_have_issued_an_attestation() {
    let says = Says::default();
    let plain = Maker::with(false, None);
    assert!(matches!(refusal(&plain, &plain, &says, now()), NotAttested::NoRoot(_)));
    let (key, maker) = (Key::new(), Maker::with(true, None));
    let roots = Roots::none().with_pem(maker.root_pem().as_bytes()).unwrap();
    assert!(attestation::check(&maker.attest(key.public.spki(), &says), &key.public, &roots, now()).is_ok());
}

#[test]
fn every_changed_byte_of_an_attestation_is_found() {
    let (maker, key) = (Maker::unknown(), Key::new());
    let roots = Roots::none().with_pem(maker.root_pem().as_bytes()).unwrap();
    let chain = maker.attest(key.public.spki(), &Says::default());
    for (link, at) in (0..2).flat_map(|link| (0..chain[link].len()).map(move |at| (link, at))) {
        let mut changed = chain.clone();
        changed[link][at] ^= 1;
        let found = attestation::check(&changed, &key.public, &roots, now());
        assert!(found.is_err(), "a change of byte {at} of certificate {link} went unseen");
    }
}

/// Whoever has a YubiKey can sign what he likes with a key that it attested.
#[test]
fn an_attested_key_attests_no_other() {
    let maker = Maker::unknown();
    let roots = Roots::none().with_pem(maker.root_pem().as_bytes()).unwrap();
    let pair = rcgen::KeyPair::generate().unwrap();
    let own = maker.attest(&rcgen::PublicKeyData::subject_public_key_info(&pair), &Says::default());
    let soft = Key::new();
    let forged = attest_with("YubiKey PIV Attestation 9a", pair, soft.public.spki(), &Says::default());
    let chain = [vec![forged], own].concat();
    let refused = attestation::check(&chain, &soft.public, &roots, now());
    assert!(matches!(refused, Err(NotAttested::NoRoot(_))), "{refused:?}");
}

#[test]
fn the_attestation_of_another_key_is_none() {
    let maker = Maker::unknown();
    let roots = Roots::none().with_pem(maker.root_pem().as_bytes()).unwrap();
    let chain = maker.attest(Key::new().public.spki(), &Says::default());
    assert_eq!(attestation::check(&chain, &Key::new().public, &roots, now()), Err(NotAttested::OtherKey));
    assert_eq!(attestation::check(&[], &Key::new().public, &roots, now()), Err(NotAttested::None));
}

#[test]
fn the_roots_that_are_shipped_are_those_of_yubico_and_lead_to_each_other() {
    let roots = Roots::yubico();
    let all: Vec<_> = roots.anchors.iter().chain(&roots.intermediates).collect();
    let shown = all.iter().map(|der| {
        let certificate = Certificate::parse(der).unwrap();
        let hex: String = certificate.thumbprints.sha256.iter().map(|byte| format!("{byte:02x}")).collect();
        (hex, certificate.subject)
    });
    let expected = FINGERPRINTS.map(|(hex, subject)| (hex.to_owned(), subject.to_owned()));
    assert_eq!(shown.collect::<Vec<_>>(), expected);
    // Each intermediate is signed by another that is shipped: a chain from the last one up.
    for (leaf, issuer) in [(2, 1), (3, 1), (4, 2), (5, 3), (6, 3)] {
        let names = [leaf, issuer].map(|n| Certificate::parse(all[n]).unwrap());
        assert_eq!(names[0].issuer, names[1].subject);
        assert!(attestation::issued(all[issuer], all[leaf]), "{} did not issue {}", names[1].subject, names[0].subject);
    }
}

#[test]
fn a_file_of_roots_must_have_a_root() {
    let maker = Maker::unknown();
    assert!(Roots::none().with_pem(maker.root_pem().as_bytes()).is_ok());
    let device = crate::certificate::pem("CERTIFICATE", &maker.device());
    assert!(Roots::none().with_pem(device.as_bytes()).unwrap_err().message.contains("no root"));
    assert!(Roots::none().with_pem(b"nothing").is_err());
    assert!(chain::read(device.as_bytes()).is_ok());
}

#[test]
fn custody_keys_are_read_as_jwk_as_set_and_as_pem_and_never_with_a_private_part() {
    let key = Key::new().public;
    let jwk = super::document::jwk(&key, &key.thumbprint(), crate::key::Alg::ES256).unwrap();
    let set = serde_json::json!({ "keys": [jwk, jwk] }).to_string();
    let pem = crate::certificate::pem("PUBLIC KEY", key.spki());
    let read = |file: &str| custody_keys::read(file.as_bytes()).map(|keys| keys.len());
    assert_eq!(
        [read(&jwk.to_string()), read(&set), read(&pem), read(&(pem.clone() + &pem))],
        [Ok(1), Ok(2), Ok(1), Ok(2)]
    );
    assert_eq!(custody_keys::read(pem.as_bytes()).unwrap()[0].numbers(), key.numbers());
    let mut private = jwk;
    private["d"] = "AAAA".into();
    assert!(read(&private.to_string()).unwrap_err().contains("private key"));
    let private = crate::certificate::pem("PRIVATE KEY", &[1]);
    assert!(read(&private).unwrap_err().contains("private key"));
    assert!(read("{}").is_err() && read("").is_err());
}

#[test]
fn what_is_no_evidence_is_refused_in_words() {
    let trust = World::new().trust();
    for text in ["", "a.b", "a.b.c", "e30.e30.e30", "💥"] {
        let report = verify(text, &trust);
        assert!(failures(&report).starts_with("this is no evidence"), "{text}");
    }
}

proptest::proptest! {
    #[test]
    fn certificates_of_strangers_are_refused_and_no_more(bytes: Vec<u8>, more: Vec<u8>) {
        let key = Key::new().public;
        let refused = attestation::check(&[bytes, more], &key, &Roots::yubico(), now());
        proptest::prop_assert!(refused.is_err());
    }
}
