use serde_json::{Value, json, value::RawValue};

use super::*;
use crate::{
    policy::{AssertionRequest, Caller, Credential, Policy, Roles, Workload},
    profile::Profile,
};

const NOW: Timestamp = Timestamp::from_millis(1_700_000_000_999);

fn client() -> Client {
    Client {
        client_id: Some("my-client".into()),
        ..Client::new("epic".parse().unwrap(), Profile::find("smart-v2").unwrap(), "https://as.example/oauth2/token/")
    }
}

fn key(alg: Alg, kid: &Kid) -> HeaderKey<'_> {
    HeaderKey { alg, kid, certificates: &[] }
}

fn grant(request: AssertionRequest) -> Grant {
    let id: crate::policy::Identity = "dns:w.example".parse().unwrap();
    let workload = Workload {
        id: id.clone(),
        clients: vec!["epic".parse().unwrap()],
        audiences: vec![],
        claims: vec!["big".into()],
        rate: None,
        concurrency: None,
    };
    let caller = Caller {
        identity: id,
        roles: Roles { workload: true, operator: false },
        not_after: None,
        credential: Credential::Socket,
    };
    Policy::new([workload], []).authorise(&caller, request, Some(&client()), NOW).unwrap()
}

fn request() -> AssertionRequest {
    AssertionRequest {
        client: "epic".parse().unwrap(),
        alg: None,
        audience: None,
        lifetime: None,
        scope: None,
        claims: Claims::default(),
    }
}

fn decode(bytes: &[u8]) -> (Value, String) {
    let text = std::str::from_utf8(bytes).unwrap();
    let (header, claims) = text.split_once('.').unwrap();
    let part = |part: &str| URL_SAFE_NO_PAD.decode(part).unwrap();
    (serde_json::from_slice(&part(header)).unwrap(), String::from_utf8(part(claims)).unwrap())
}

#[test]
fn header_and_claims_are_what_verifiers_want() {
    let input = prepare(grant(request()), &client(), key(Alg::ES384, &"kid-1".parse().unwrap())).unwrap();
    let encoded = input.encode(NOW, [7; 16]).unwrap();
    let (header, claims) = decode(&encoded.bytes);
    assert_eq!(header, json!({"typ": "JWT", "alg": "ES384", "kid": "kid-1"}));
    assert_eq!(
        serde_json::from_str::<Value>(&claims).unwrap(),
        json!({
            "iss": "my-client", "sub": "my-client", "aud": "https://as.example/oauth2/token/",
            "jti": "07070707-0707-4707-8707-070707070707",
            "iat": 1_699_999_995, "exp": 1_700_000_295,
        })
    );
}

#[test]
fn lifetime_is_never_a_second_over_the_limit() {
    for millis in [0, 1, 499, 500, 999] {
        let input = prepare(grant(request()), &client(), key(Alg::RS384, &"k".parse().unwrap())).unwrap();
        let stamp = input.encode(Timestamp::from_millis(1_700_000_000_000 + millis), [0; 16]).unwrap().stamp;
        assert_eq!(stamp.expires_at.secs() - stamp.issued_at.secs(), 300);
    }
}

#[test]
fn extra_claims_keep_their_digits() {
    let value = RawValue::from_string("12345678901234567890123".into()).unwrap();
    let request = AssertionRequest { claims: Claims(vec![("big".into(), value)]), ..request() };
    let input = prepare(grant(request), &client(), key(Alg::RS384, &"k".parse().unwrap())).unwrap();
    let (_, claims) = decode(&input.encode(NOW, [0; 16]).unwrap().bytes);
    assert!(claims.contains(r#""big":12345678901234567890123"#), "{claims}");
}

#[test]
fn an_unregistered_client_does_not_sign() {
    let unregistered = Client { client_id: None, ..client() };
    let refused = prepare(grant(request()), &unregistered, key(Alg::RS384, &"k".parse().unwrap())).unwrap_err();
    assert_eq!(refused.reason, Reason::NotRegistered);
}

#[test]
fn a_probe_is_no_jose_input() {
    let bytes = probe().encode(NOW, [1; 16]).unwrap().bytes;
    assert!(bytes.contains(&0), "a NUL byte keeps it out of every JWS");
}

#[test]
fn the_token_request_is_ready_to_send() {
    let request = token_request(&client(), Some("system/*.read"), "a.b.c");
    assert_eq!(request.url, "https://as.example/oauth2/token/");
    let names: Vec<_> = request.form.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(names, ["grant_type", "scope", "client_assertion_type", "client_assertion"]);
    assert_eq!(token_request(&client(), None, "a.b.c").form.len(), 3);
}

#[test]
fn what_a_client_sends_otherwise_is_sent_so() {
    let mut other = client();
    other.iss = Some("https://me.example/".into());
    other.issuer = Some("https://as.example".into());
    other.jwks_url = Some("https://keys.example/jwks.json".into());
    other.claims = serde_json::from_str::<Value>(r#"{"extensions":{"a":1},"big":1}"#)
        .map(|claims| {
            Claims(claims.as_object().unwrap().iter().map(|(name, value)| (name.clone(), raw(value))).collect())
        })
        .unwrap();
    other.makes = Makes {
        typ: crate::profile::Typ::Absent,
        kid: false,
        jku: true,
        x5c: true,
        x5t: true,
        x5t_s256: true,
        iss: Iss::Registered,
        aud: crate::profile::Audience::Issuer,
        lifetime: Duration::from_secs(60),
        backdate: Duration::ZERO,
        iat: false,
        nbf: true,
    };
    let claims = Claims(vec![("big".into(), raw(&json!(2)))]);
    let key = HeaderKey { alg: Alg::RS256, kid: &"k".parse().unwrap(), certificates: &[vec![0xfb, 0xff], vec![1]] };
    let encoded =
        prepare(grant(AssertionRequest { claims, ..request() }), &other, key).unwrap().encode(NOW, [7; 16]).unwrap();
    let (header, claims) = decode(&encoded.bytes);
    assert_eq!(
        header,
        json!({
            "alg": "RS256", "jku": "https://keys.example/jwks.json", "x5c": ["+/8=", "AQ=="],
            "x5t": "SiME1U3oqdXjhLV2RiiGKAXGPsw", "x5t#S256": "24_tVBWa_kCs5bSdcCJZ_YjJxACTBxgYJEh7qrXGveo",
        })
    );
    assert_eq!(
        serde_json::from_str::<Value>(&claims).unwrap(),
        json!({
            "iss": "https://me.example/", "sub": "my-client", "aud": "https://as.example",
            "jti": "07070707-0707-4707-8707-070707070707", "nbf": 1_700_000_000, "exp": 1_700_000_060,
            "extensions": {"a": 1}, "big": 2,
        })
    );
    assert_eq!(claims.matches("\"big\"").count(), 1, "no claim is there twice: {claims}");
}

#[test]
fn without_a_certificate_nothing_is_signed_that_must_show_one() {
    let mut other = client();
    other.makes.x5t = true;
    let refused = prepare(grant(request()), &other, key(Alg::RS256, &"k".parse().unwrap())).unwrap_err();
    assert_eq!(refused.reason, Reason::NoCertificate);
}

fn raw(value: &Value) -> Box<RawValue> {
    serde_json::value::to_raw_value(value).unwrap()
}
