use serde_json::value::RawValue;

use super::{request::RESERVED, *};
use crate::profile::Profile;

const NOW: Timestamp = Timestamp::from_secs(1_000);

fn client(name: &str) -> Client {
    Client {
        client_id: Some("id".into()),
        ..Client::new(name.parse().unwrap(), Profile::find("smart-v2").unwrap(), "https://as.example/token/")
    }
}

fn policy() -> Policy {
    let workload = Workload {
        id: "dns:billing.example".parse().unwrap(),
        clients: vec!["epic".parse().unwrap()],
        audiences: vec!["https://other.example/token".into()],
        claims: vec!["extensions".into()],
        rate: None,
        concurrency: None,
    };
    Policy::new([workload], [("dns:ops.example".parse().unwrap(), vec![OperatorRole::Rotate])])
}

fn caller(id: &str) -> Caller {
    Caller {
        identity: id.parse().unwrap(),
        roles: Roles { workload: true, operator: true },
        not_after: None,
        credential: Credential::Socket,
    }
}

fn request(client: &str) -> AssertionRequest {
    AssertionRequest {
        client: client.parse().unwrap(),
        alg: None,
        audience: None,
        lifetime: None,
        scope: None,
        claims: Claims::default(),
    }
}

fn refusal(caller: &Caller, request: AssertionRequest) -> Reason {
    let client = client("epic");
    policy().authorise(caller, request, Some(&client), NOW).unwrap_err().reason
}

#[test]
fn a_workload_signs_for_its_client() {
    let client = client("epic");
    let grant = policy().authorise(&caller("dns:billing.example"), request("epic"), Some(&client), NOW).unwrap();
    assert_eq!(grant.request().client.as_str(), "epic");
}

#[test]
fn a_client_of_others_and_one_that_does_not_exist_get_the_same_answer() {
    let other = client("cerner");
    let caller = caller("dns:billing.example");
    let not_yours = policy().authorise(&caller, request("cerner"), Some(&other), NOW).unwrap_err();
    let not_there = policy().authorise(&caller, request("cerner"), None, NOW).unwrap_err();
    assert_eq!(not_yours.reason, Reason::ClientNotPermitted);
    assert_eq!((not_yours.reason, not_yours.message), (not_there.reason, not_there.message));
}

#[test]
fn strangers_and_callers_without_the_role_are_refused() {
    assert_eq!(refusal(&caller("dns:stranger.example"), request("epic")), Reason::WorkloadUnknown);
    let mut operator_only = caller("dns:billing.example");
    operator_only.roles.workload = false;
    assert_eq!(refusal(&operator_only, request("epic")), Reason::WorkloadUnknown);
}

#[test]
fn an_expired_certificate_is_refused_on_an_open_connection() {
    let mut late = caller("dns:billing.example");
    late.not_after = Some(Timestamp::from_millis(NOW.millis() - 1));
    assert_eq!(refusal(&late, request("epic")), Reason::CertificateExpired);
}

#[test]
fn audiences_are_compared_byte_for_byte() {
    let billing = caller("dns:billing.example");
    let ask = |audience: &str| AssertionRequest { audience: Some(audience.into()), ..request("epic") };
    assert_eq!(refusal(&billing, ask("https://as.example/token")), Reason::AudienceNotPermitted);
    for permitted in ["https://as.example/token/", "https://other.example/token"] {
        assert!(policy().authorise(&billing, ask(permitted), Some(&client("epic")), NOW).is_ok());
    }
}

#[test]
fn claims_must_be_listed_and_never_ours() {
    let billing = caller("dns:billing.example");
    let ask = |name: &str| {
        let value = RawValue::from_string("1".into()).unwrap();
        AssertionRequest { claims: Claims(vec![(name.into(), value)]), ..request("epic") }
    };
    for reserved in RESERVED {
        assert_eq!(refusal(&billing, ask(reserved)), Reason::ReservedClaim);
    }
    assert_eq!(refusal(&billing, ask("admin")), Reason::ClaimNotPermitted);
    assert!(policy().authorise(&billing, ask("extensions"), Some(&client("epic")), NOW).is_ok());
}

#[test]
fn lifetimes_stay_within_the_profile() {
    let billing = caller("dns:billing.example");
    let ask = |secs| AssertionRequest { lifetime: Some(Duration::from_secs(secs)), ..request("epic") };
    assert_eq!(refusal(&billing, ask(301)), Reason::LifetimeTooLong);
    assert_eq!(refusal(&billing, ask(5)), Reason::InvalidRequest);
    assert!(policy().authorise(&billing, ask(300), Some(&client("epic")), NOW).is_ok());
}

#[test]
fn an_operator_has_the_roles_below_its_own() {
    let ops = caller("dns:ops.example");
    assert!(policy().operator(&ops, OperatorRole::Follow, NOW).is_ok());
    assert!(policy().operator(&ops, OperatorRole::View, NOW).is_ok());
    assert!(policy().operator(&ops, OperatorRole::Rotate, NOW).is_ok());
    assert!(policy().operator(&ops, OperatorRole::Destroy, NOW).is_err());
    assert!(policy().operator(&caller("dns:billing.example"), OperatorRole::View, NOW).is_err());
}

#[test]
fn identities_read_back() {
    for text in ["spiffe://corp.example/billing", "dns:a.example", "uid:1000", "jwt:https://issuer.example#sub"] {
        assert_eq!(text.parse::<Identity>().unwrap().to_string(), text);
    }
    for bad in ["billing", "dns:", "dns:*.example", "uid:x", "spiffe://", "spiffe:///x", "jwt:only"] {
        assert!(bad.parse::<Identity>().is_err(), "{bad} was taken");
    }
}

proptest::proptest! {
    /// The audit log and the configuration name an identity by its text: it must stand for that one alone.
    #[test]
    fn an_identity_reads_back_as_it_is_written(text in "((spiffe|dns|uid|jwt):)?(//)?[a-zA-Z0-9#:/.*+ -]{0,12}") {
        if let Ok(identity) = text.parse::<Identity>() {
            assert_eq!(identity.to_string().parse::<Identity>().unwrap(), identity);
        }
    }
}

/// What no certificate can show must not stand in a configuration, where it would wait for a caller that never comes.
#[test]
fn identities_that_no_caller_can_have_are_refused() {
    for good in ["spiffe://prod.example/billing", "spiffe://d/a/B.c_d-e", "dns:a.example", "dns:a", "uid:0"] {
        assert!(good.parse::<Identity>().is_ok(), "{good}");
    }
    assert_eq!("dns:A.Example".parse(), Ok(Identity::Dns("a.example".to_owned())));
    for bad in [
        "spiffe://Prod.example/a",
        "spiffe://d",
        "spiffe://d/",
        "spiffe://d/a//b",
        "spiffe://d/a/../b",
        "spiffe://d/a?b",
        "SPIFFE://d/a",
        "dns:foo bar",
        "dns:*.example",
        "dns:a..b",
        "dns:-a.example",
        "dns:",
        "uid:-1",
        "billing",
    ] {
        assert!(bad.parse::<Identity>().is_err(), "{bad}");
    }
}
