use std::io::Write;

use hallmark_core::policy::Roles;
use rcgen::{CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, KeyPair, SanType, date_time_ymd};

use super::*;
use crate::transport::fixture::{Ca, NOW, ca_params, dns, params as named, root, uri};

const WORKLOAD: Roles = Roles { workload: true, operator: false };
const OPERATOR: Roles = Roles { workload: false, operator: true };

fn leaf(ca: &Ca, params: &CertificateParams) -> CertificateDer<'static> {
    params.signed_by(&KeyPair::generate().unwrap(), ca).unwrap().der().clone()
}

fn domain(domain: &str) -> Scope {
    Scope::TrustDomain(domain.to_owned())
}

fn suffixes(suffixes: &[&str]) -> Scope {
    Scope::DnsSuffixes(suffixes.iter().map(|&suffix| suffix.to_owned()).collect())
}

fn trusts(list: &[(&Ca, Scope, Roles)]) -> Trusts {
    let folder = tempfile::tempdir().unwrap();
    let spec = |(n, (ca, scope, roles)): (usize, &(&Ca, Scope, Roles))| {
        let bundle = folder.path().join(format!("{n}.pem"));
        std::fs::write(&bundle, ca.pem()).unwrap();
        TrustSpec { bundle, scope: scope.clone(), roles: *roles }
    };
    Trusts::load(&list.iter().enumerate().map(spec).collect::<Vec<_>>()).unwrap()
}

#[test]
fn the_names_decide() {
    let ca = root("ca");
    let trusts = trusts(&[
        (&ca, domain("prod.example"), WORKLOAD),
        (&ca, suffixes(&[".corp.example", "host.example"]), WORKLOAD),
    ]);
    let good: &[(&[SanType], &str)] = &[
        (&[uri("spiffe://prod.example/a/b")], "spiffe://prod.example/a/b"),
        (&[uri("spiffe://prod.example/a"), dns("x.other"), dns("y.other")], "spiffe://prod.example/a"),
        (&[dns("a.corp.example")], "dns:a.corp.example"),
        (&[dns("A.Corp.EXAMPLE")], "dns:a.corp.example"),
        (&[uri("https://a.example/"), dns("a.corp.example")], "dns:a.corp.example"),
        (&[dns("host.example")], "dns:host.example"),
        (&[dns("a.host.example")], "dns:a.host.example"),
    ];
    for (sans, identity) in good {
        let caller = trusts.identify(&[leaf(&ca, &named(sans))], NOW).unwrap();
        assert_eq!(caller.identity.to_string(), *identity);
        assert_eq!(caller.roles, WORKLOAD);
    }
    let bad: &[&[SanType]] = &[
        &[],
        &[uri("spiffe://prod.example/a"), uri("spiffe://prod.example/b")],
        &[uri("spiffe://prod.example/a"), uri("https://a.example/")],
        &[uri("spiffe://other.example/a")],
        &[uri("spiffe://PROD.example/a")],
        &[uri("SPIFFE://prod.example/a"), dns("a.corp.example")],
        &[uri("spiffe://prod.example")],
        &[uri("spiffe://prod.example/")],
        &[uri("spiffe://prod.example/a/")],
        &[uri("spiffe://prod.example/a/../b")],
        &[uri("spiffe://prod.example/a?b")],
        &[uri("spiffe://user@prod.example/a")],
        &[dns("a.corp.example"), dns("b.corp.example")],
        &[dns("*.corp.example")],
        &[dns("corp.example")],
        &[dns("evilcorp.example")],
        &[dns("evilhost.example")],
        &[dns("a.corp.example.evil")],
        &[dns("a..corp.example")],
        &[dns("a b.corp.example")],
    ];
    for sans in bad {
        let error = trusts.identify(&[leaf(&ca, &named(sans))], NOW).unwrap_err();
        assert_eq!(error.reason, Reason::IdentityInvalid, "{sans:?}: {error}");
    }
}

#[test]
fn a_common_name_is_no_identity() {
    let ca = root("ca");
    let mut params = named(&[]);
    params.distinguished_name.push(DnType::CommonName, "a.corp.example");
    let error = trusts(&[(&ca, suffixes(&["corp.example"]), WORKLOAD)]).identify(&[leaf(&ca, &params)], NOW);
    assert_eq!(error.unwrap_err().reason, Reason::IdentityInvalid);
}

#[test]
fn an_authority_vouches_within_its_scope_only() {
    let (a, b) = (root("a"), root("b"));
    let trusts = trusts(&[(&a, domain("a.example"), WORKLOAD), (&b, domain("b.example"), OPERATOR)]);
    let honest = trusts.identify(&[leaf(&b, &named(&[uri("spiffe://b.example/x")]))], NOW).unwrap();
    assert_eq!(honest.roles, OPERATOR);
    for claim in [uri("spiffe://a.example/x"), dns("a.example")] {
        let error = trusts.identify(&[leaf(&b, &named(&[claim]))], NOW).unwrap_err();
        assert_eq!(error.reason, Reason::IdentityInvalid, "{error}");
    }
    let stranger = trusts.identify(&[leaf(&root("c"), &named(&[uri("spiffe://a.example/x")]))], NOW).unwrap_err();
    assert_eq!(stranger.reason, Reason::CertificateUntrusted);
    assert!(stranger.message.contains("issuer"), "{stranger}");
}

#[test]
fn an_impostor_with_the_same_name_is_unknown() {
    let (real, impostor) = (root("ca"), root("ca"));
    let trusts = trusts(&[(&real, domain("a.example"), WORKLOAD)]);
    let error = trusts.identify(&[leaf(&impostor, &named(&[uri("spiffe://a.example/x")]))], NOW).unwrap_err();
    assert_eq!(error.reason, Reason::CertificateUntrusted);
}

#[test]
fn roles_are_joined_and_the_earliest_end_counts() {
    let ca = root("ca");
    let mut limited = ca_params("limited");
    limited.not_after = date_time_ymd(2030, 1, 1);
    let intermediate = CertifiedIssuer::signed_by(limited, KeyPair::generate().unwrap(), &ca).unwrap();
    let trusts = trusts(&[(&ca, domain("a.example"), WORKLOAD), (&ca, domain("a.example"), OPERATOR)]);
    let leaf = leaf(&intermediate, &named(&[uri("spiffe://a.example/x")]));

    let caller = trusts.identify(&[leaf.clone(), intermediate.der().clone()], NOW).unwrap();
    assert_eq!(caller.roles, Roles { workload: true, operator: true });
    assert_eq!(caller.not_after, Some(Timestamp::from_secs(1_893_456_000))); // 2030-01-01
    let error = trusts.identify(&[leaf], NOW).unwrap_err();
    assert_eq!(error.reason, Reason::CertificateUntrusted, "without the intermediate the chain leads nowhere");
}

#[test]
fn what_has_expired_says_so() {
    let (ca, other) = (root("ca"), root("other"));
    let trusts = trusts(&[(&other, domain("b.example"), WORKLOAD), (&ca, domain("a.example"), WORKLOAD)]);
    let mut old = named(&[uri("spiffe://a.example/x")]);
    old.not_after = date_time_ymd(2021, 1, 1);
    let error = trusts.identify(&[leaf(&ca, &old)], NOW).unwrap_err();
    assert_eq!(error.reason, Reason::CertificateUntrusted);
    assert!(error.message.contains("expired"), "{error}");
}

#[test]
fn a_server_certificate_is_for_servers() {
    let ca = root("ca");
    let trusts = trusts(&[(&ca, domain("a.example"), WORKLOAD)]);
    let mut server = named(&[uri("spiffe://a.example/x")]);
    server.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    let error = trusts.identify(&[leaf(&ca, &server)], NOW).unwrap_err();
    assert_eq!(error.reason, Reason::CertificateUntrusted);
    assert!(error.message.contains("client authentication"), "{error}");
}

#[test]
fn nothing_and_rubbish_are_told_apart() {
    let trusts = trusts(&[(&root("ca"), domain("a.example"), WORKLOAD)]);
    assert_eq!(trusts.identify(&[], NOW).unwrap_err().reason, Reason::NotAuthenticated);
    let rubbish = CertificateDer::from(b"rubbish".to_vec());
    assert_eq!(trusts.identify(&[rubbish], NOW).unwrap_err().reason, Reason::CertificateUntrusted);
}

#[test]
fn a_bundle_must_hold_certificates() {
    for content in ["", "text", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"] {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(content.as_bytes()).unwrap();
        let spec = TrustSpec { bundle: file.path().to_owned(), scope: domain("a.example"), roles: WORKLOAD };
        let error = Trusts::load(&[spec]).unwrap_err();
        assert!(error.to_string().contains("hint:"), "{error}");
    }
}
