use super::*;

/// As WebChart's servers write it: an empty issuer, a text where a list belongs, a token endpoint that ends with a slash.
const WEBCHART: &str = r#"{
    "issuer": "",
    "grant_types_supported": ["authorization_code"],
    "token_endpoint": "https://handle.example/handle/webchart.cgi/oauth/token/",
    "token_endpoint_auth_methods_supported": ["private_key_jwt"],
    "token_endpoint_auth_signing_alg_values_supported": "RS384",
    "capabilities": ["client-confidential-symmetric", "client-public"]
}"#;

/// As Cerner's servers have it, with two token endpoints.
const CERNER: &str = r#"{
    "resourceType": "CapabilityStatement",
    "rest": [{"security": {"extension": [{
        "url": "http://fhir-registry.smarthealthit.org/StructureDefinition/oauth-uris",
        "extension": [
            {"url": "token", "valueUri": "https://authorization.cerner.com/tenants/t/protocols/oauth2/profiles/smart-v1/token"},
            {"url": "carequality-token", "valueUri": "https://fhir-ehr.cerner.com/beta/t/Authorization/token"}
        ]
    }]}}]
}"#;

fn discovery(documents: &[(Kind, &str)]) -> Discovery {
    let read = |(kind, body): &(Kind, &str)| (*kind, kind.read(body.as_bytes()).unwrap());
    Discovery { url: "https://handle.example".into(), documents: documents.iter().map(read).collect() }
}

fn guessed(discovery: &Discovery) -> &'static str {
    discovery.guesses()[0].profile.name
}

#[test]
fn odd_documents_are_read_and_the_oddities_told() {
    let document = Kind::Smart.read(WEBCHART.as_bytes()).unwrap();
    assert_eq!(document.issuer, None);
    assert_eq!(document.signing_algs, ["RS384"]);
    assert_eq!(document.token_endpoint.as_deref(), Some("https://handle.example/handle/webchart.cgi/oauth/token/"));
    assert_eq!(
        document.oddities,
        [
            "`issuer` is empty",
            "`token_endpoint_auth_signing_alg_values_supported` is a text, not a list",
            "`grant_types_supported` does not list client_credentials",
            "`capabilities` does not list client-confidential-asymmetric",
        ]
    );
}

#[test]
fn urls_are_kept_byte_for_byte() {
    let odd = "https://EHR.example:443//a/../token/%7e?x=1 ";
    let body = format!("\u{feff}{{\"token_endpoint\": \"{odd}\", \"scopes_supported\": [1, \"system/*.rs\"]}}");
    let document = Kind::OpenId.read(body.as_bytes()).unwrap();
    assert_eq!(
        (document.token_endpoint.as_deref(), &document.scopes[..]),
        (Some(odd), &["system/*.rs".to_owned()][..])
    );
}

#[test]
fn a_capability_statement_names_both_token_endpoints() {
    let found = discovery(&[(Kind::Capability, CERNER)]);
    let document = &found.documents[0].1;
    let ordinary = "https://authorization.cerner.com/tenants/t/protocols/oauth2/profiles/smart-v1/token";
    assert_eq!(document.token_endpoint.as_deref(), Some(ordinary));
    assert_eq!(
        document.carequality_token_endpoint.as_deref(),
        Some("https://fhir-ehr.cerner.com/beta/t/Authorization/token")
    );
    let of_its_own = r#"{"resourceType": "Conformance", "rest": {"security": {"extension": {
        "url": "https://fhir-ehr.cerner.com/r4/StructureDefinition/carequality-oauth-uris",
        "extension": [{"url": "token", "valueUri": "https://cq.example/token"}]}}}}"#;
    let document = Kind::Capability.read(of_its_own.as_bytes()).unwrap();
    assert_eq!(document.carequality_token_endpoint.as_deref(), Some("https://cq.example/token"));
    assert_eq!(document.token_endpoint, None);
}

#[test]
fn documents_are_believed_in_order_and_contradictions_shown() {
    let openid = r#"{"token_endpoint": "https://other.example/token", "issuer": "https://other.example"}"#;
    let found = discovery(&[(Kind::Smart, WEBCHART), (Kind::OpenId, openid)]);
    assert_eq!(found.token_endpoint().unwrap().0, Kind::Smart);
    assert_eq!(found.issuer(), Some((Kind::OpenId, "https://other.example")));
    let others: Vec<_> = found.other_token_endpoints().collect();
    assert_eq!(others, [(Kind::OpenId, "https://other.example/token")]);
}

#[test]
fn what_is_no_such_document_is_refused() {
    for (kind, body) in [(Kind::Smart, "<html>"), (Kind::Smart, "[]"), (Kind::OAuth, "\"x\""), (Kind::Smart, "")] {
        assert!(kind.read(body.as_bytes()).is_err(), "{body}");
    }
    let error = Kind::Capability.read(br#"{"resourceType": "OperationOutcome"}"#).unwrap_err();
    assert_eq!(error.to_string(), "is no CapabilityStatement but OperationOutcome");
    let deep = "[".repeat(1_000_000);
    assert!(Kind::Smart.read(deep.as_bytes()).is_err(), "no stack is that deep");
}

#[test]
fn the_well_known_part_goes_before_and_after_a_path() {
    assert_eq!(
        Kind::OAuth.urls("https://as.example:8443/tenant/1"),
        [
            "https://as.example:8443/.well-known/oauth-authorization-server/tenant/1",
            "https://as.example:8443/tenant/1/.well-known/oauth-authorization-server",
        ]
    );
    assert_eq!(Kind::OAuth.urls("https://as.example").len(), 1);
    assert_eq!(Kind::Capability.urls("https://as.example/r4"), ["https://as.example/r4/metadata"]);
}

#[test]
fn systems_give_themselves_away() {
    let openemr = r#"{"resourceType": "CapabilityStatement", "software": {"name": "OpenEMR", "version": "7.0.2"}}"#;
    let keycloak = r#"{"token_endpoint": "https://sso.example/realms/r/protocol/openid-connect/token"}"#;
    let smart = r#"{"token_endpoint": "https://e.example/t", "capabilities": ["client-confidential-asymmetric"]}"#;
    for (documents, profile) in [
        (&[(Kind::Capability, openemr)][..], "openemr-7"),
        (&[(Kind::Smart, WEBCHART)], "webchart"),
        (&[(Kind::Capability, CERNER)], "oracle-health"),
        (&[(Kind::OpenId, keycloak)], "keycloak"),
        (&[(Kind::Smart, smart)], "smart-v2"),
        (&[], "generic"),
    ] {
        assert_eq!(guessed(&discovery(documents)), profile);
    }
}

#[test]
fn what_can_be_guessed_is_a_profile() {
    let unknown: Vec<_> = guess::guessable().filter(|name| Profile::find(name).is_none()).collect();
    assert_eq!(unknown, [] as [&str; 0]);
}

#[test]
fn who_refuses_what_the_server_lists_is_not_guessed_first() {
    let only_es256 = r#"{"token_endpoint": "https://e.example/oauth2/default/token",
        "token_endpoint_auth_signing_alg_values_supported": ["ES256"], "token_endpoint_auth_methods_supported": ["private_key_jwt"]}"#;
    assert_eq!(guessed(&discovery(&[(Kind::OpenId, only_es256)])), "generic");
}

mod properties {
    use proptest::prelude::*;

    use super::*;

    /// A document in which one byte is another.
    fn damaged(document: &'static str) -> impl Strategy<Value = Vec<u8>> {
        (0..document.len(), any::<u8>()).prop_map(move |(place, byte)| {
            let mut bytes = document.as_bytes().to_vec();
            bytes[place] = byte;
            bytes
        })
    }

    fn take(kind: Kind, body: &[u8]) {
        if let Ok(document) = kind.read(body) {
            let found = Discovery { url: "https://ehr.example".into(), documents: vec![(kind, document)] };
            assert!(!found.guesses().is_empty());
        }
    }

    proptest! {
        #[test]
        fn whatever_a_server_sends_it_is_read_or_refused(
            webchart in damaged(WEBCHART),
            cerner in damaged(CERNER),
            noise in prop::collection::vec(any::<u8>(), 0..300),
        ) {
            take(Kind::Smart, &webchart);
            take(Kind::Capability, &cerner);
            take(Kind::OpenId, &noise);
        }
    }
}
