//! Which chains are taken for a key, and when a leaf is shown.

use std::time::Duration;

use rcgen::KeyUsagePurpose;

use super::fixture::{Key, NOW, YEAR, authority, ca_params, chain_for, issue, params, refused};
use crate::{
    certificate::{
        self, Validity,
        chain::{check, read},
    },
    client::Client,
    error::Reason,
    key::Alg,
    profile::Profile,
};

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
fn a_leaf_is_shown_only_while_it_holds() {
    let mut client =
        Client::new("clinic".parse().unwrap(), Profile::find("generic").unwrap(), "https://as.example/token");
    let validity = Validity { not_before: NOW, not_after: NOW.plus(YEAR) };
    certificate::check(&client, None, NOW).unwrap();
    client.makes.x5t = true;
    certificate::check(&client, Some(validity), NOW).unwrap();
    for (validity, now, says) in [
        (None, NOW, "it has none"),
        (Some(validity), NOW.minus(Duration::from_secs(1)), "it is not valid before 2027-01-15T08:00:00Z"),
        (Some(validity), NOW.plus(YEAR + Duration::from_secs(1)), "it expired at 2028-01-15T08:00:00Z"),
    ] {
        let error = certificate::check(&client, validity, now).unwrap_err();
        assert_eq!(error.reason, Reason::NoCertificate);
        assert!(error.message.contains(says) && error.message.contains("hallmark cert install clinic"), "{error}");
    }
    assert!(validity.ends_within(YEAR, NOW) && !validity.ends_within(YEAR - Duration::from_secs(1), NOW));
}
