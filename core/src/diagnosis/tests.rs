use std::time::{Duration, UNIX_EPOCH};

use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use serde_json::json;

use super::*;
use crate::discovery::{Document, Kind};

const ENDPOINT: &str = "https://as.example/oauth2/token";
const NOW: i64 = 1_800_000_000;

/// What is known of a client for which all is as it should be; tests spoil one thing of it.
struct World {
    profile: &'static str,
    client_id: Option<&'static str>,
    header: Value,
    claims: Value,
    keys: KeySet,
    contact: Contact,
    discovery: Discovery,
    server_time: Timestamp,
    answer: Option<Answer>,
}

impl World {
    fn new() -> Self {
        let key = |kid: &str| json!({"kty": "RSA", "kid": kid, "n": format!("n-{kid}"), "e": "AQAB", "alg": "RS384"});
        let set: Vec<Members> = [key("a"), key("b")].iter().map(|key| key.as_object().unwrap().clone()).collect();
        let document = Document { token_endpoint: Some(ENDPOINT.to_owned()), ..Document::default() };
        Self {
            profile: "smart-v2",
            client_id: Some("app"),
            header: json!({"alg": "RS384", "kid": "a", "typ": "JWT"}),
            claims: json!({"iss": "app", "sub": "app", "aud": ENDPOINT, "iat": NOW - 5, "exp": NOW + 295, "jti": "1"}),
            keys: KeySet {
                url: "https://keys.example/jwks.json".to_owned(),
                ours: set.clone(),
                outside: Outside::Keys { keys: set, doubts: Vec::new() },
            },
            contact: Contact::Answered { at: "https://as.example".to_owned() },
            discovery: Discovery { url: ENDPOINT.to_owned(), documents: vec![(Kind::OpenId, document)] },
            server_time: Timestamp::from_secs(NOW),
            answer: Some(Answer { status: 401, body: r#"{"error": "invalid_client"}"#.to_owned() }),
        }
    }

    fn with<T>(self, look: impl FnOnce(&Facts<'_>) -> T) -> T {
        let of = |value: &Value| value.as_object().unwrap().clone();
        let assertion = Assertion { header: of(&self.header), claims: of(&self.claims) };
        let client = Registered { name: "clinic", client_id: self.client_id, iss: None, token_endpoint: ENDPOINT };
        look(&Facts {
            client,
            profile: Profile::find(self.profile).unwrap(),
            assertion: Some(&assertion),
            kid: assertion.header.get("kid").and_then(Value::as_str).or(Some("a")),
            key_set: &self.keys,
            contact: &self.contact,
            discovery: Some(&self.discovery),
            server_time: Some(self.server_time),
            our_time: Timestamp::from_secs(NOW),
            answer: self.answer.as_ref(),
        })
    }

    fn causes(self) -> Vec<Cause> {
        self.with(causes)
    }

    /// What comes first, which must have been found.
    fn found(self) -> (About, String, String) {
        let first = self.causes().remove(0);
        assert_eq!(first.certainty, Certainty::Found, "{first:?}");
        (first.about, first.what, first.why)
    }

    fn publishing(mut self, token_endpoint: &str) -> Self {
        self.discovery.documents[0].1.token_endpoint = Some(token_endpoint.to_owned());
        self
    }

    fn outside(mut self, change: impl FnOnce(&mut Vec<Members>)) -> Self {
        if let Outside::Keys { keys, .. } = &mut self.keys.outside {
            change(keys);
        }
        self
    }
}

#[test]
fn where_all_is_right_the_registration_is_what_remains() {
    let first = World::new().causes().remove(0);
    assert_eq!((first.about, first.certainty), (About::ClientId, Certainty::Possible));
    assert!(first.next.contains("hallmark sign clinic"), "{first:?}");
    let wrong = World::new().with(checks).into_iter().filter(|check| matches!(check.outcome, Outcome::Bad(_)));
    assert_eq!(wrong.count(), 0);
}

#[test]
fn the_audience_is_compared_byte_for_byte() {
    let how = |published: &str| {
        let (about, what, why) = World::new().publishing(published).found();
        assert_eq!(about, About::Audience);
        (what.rsplit(": ").next().unwrap().to_owned(), why.rsplit("difference ").next().unwrap().to_owned())
    };
    let (what, why) = how("https://as.example/oauth2/token/");
    assert_eq!(what, "the slash at the end is missing");
    assert_eq!(why, "is at byte 31: nothing more is sent, `/` is published");
    assert_eq!(how("https://as.example//oauth2/token").0, "a double slash");
    assert_eq!(how("http://as.example/oauth2/token").0, "http and https");
    let (what, why) = how("https://AS.example/oauth2/token");
    assert_eq!(what, "upper and lower case");
    assert_eq!(why, "is at byte 8: `as.example/oauth2/token` is sent, `AS.example/oauth2/token` is published");
}

#[test]
fn another_name_of_the_server_is_likely_wrong_and_no_more() {
    for published in ["https://as.example/other/token", "https://other.example/oauth2/token"] {
        let first = World::new().publishing(published).causes().remove(0);
        assert_eq!((first.about, first.certainty), (About::Audience, Certainty::Likely), "{first:?}");
    }
}

#[test]
fn the_right_one_of_several_names_is_enough() {
    let mut world = World::new().publishing("https://as.example/other/token");
    let document = Document { token_endpoint: Some(ENDPOINT.to_owned()), ..Document::default() };
    world.discovery.documents.push((Kind::OAuth, document));
    assert_eq!(world.causes()[0].about, About::ClientId);
}

#[test]
fn the_key_set_is_compared_with_what_signs() {
    let missing = World::new().outside(|keys| drop(keys.remove(0))).found();
    assert_eq!((missing.0, missing.1.as_str()), (About::Kid, "the key that signs, `a`, is not at the JWKS URL"));
    let twice = World::new().outside(|keys| keys.push(keys[0].clone())).found();
    assert_eq!(twice.0, About::Kid);
    let other = World::new().outside(|keys| drop(keys[0].insert("n".to_owned(), json!("other")))).found();
    assert_eq!((other.0, other.2.as_str()), (About::SameKey, "its `n` differs from Hallmark's"));
    let mut world = World::new();
    world.keys.outside = Outside::Nothing { what: "answers 404".to_owned(), next: "look".to_owned() };
    assert_eq!(world.found().1, "the JWKS URL answers 404");
}

#[test]
fn the_first_rsa_key_matters_to_some() {
    let swapped = |profile| World { profile, ..World::new() }.outside(|keys| keys.reverse());
    let (about, what, why) = swapped("openemr-7").found();
    assert_eq!((about, why.as_str()), (About::FirstRsaKey, "the first is `b`, `a` signs"));
    assert!(what.starts_with("OpenEMR 7 takes the first RSA key"), "{what}");
    assert_eq!(swapped("smart-v2").causes()[0].about, About::ClientId);
}

#[test]
fn clocks_are_compared_by_what_was_signed() {
    let at = |secs| World { server_time: Timestamp::from_secs(NOW + secs), ..World::new() };
    for fine in [-30, 0, 30] {
        assert_eq!(at(fine).causes()[0].about, About::ClientId, "{fine}");
    }
    let (about, what, why) = at(600).found();
    assert_eq!((about, what.as_str()), (About::Clock, "Hallmark's clock is 600 s behind the authorization server's"));
    assert!(why.ends_with("the assertion expired 305 s ago there"), "{why}");
    assert!(at(-600).found().2.contains("in the future"));
    // Odd, and no reason for a refusal by itself.
    let first = at(60).causes().remove(0);
    assert_eq!((first.about, first.certainty), (About::Clock, Certainty::Likely));
}

#[test]
fn algorithms_are_those_of_the_server_and_of_the_profile() {
    let mut world = World::new();
    world.discovery.documents[0].1.signing_algs = vec!["ES384".to_owned()];
    let causes = world.causes();
    assert_eq!((causes[0].about, causes[0].certainty), (About::Algorithm, Certainty::Found));
    assert!(causes[0].next.contains("alg = \"ES384\""), "{:?}", causes[0]);
    let mut world = World { profile: "openemr-7", ..World::new() };
    world.header["alg"] = json!("ES384");
    // The key itself is of another algorithm then, too.
    for key in &mut world.keys.ours {
        key.insert("alg".to_owned(), json!("ES384"));
    }
    let world =
        world.outside(|keys| keys.iter_mut().for_each(|key| drop(key.insert("alg".to_owned(), json!("ES384")))));
    let causes = world.causes();
    let alg = causes.iter().find(|cause| cause.about == About::Algorithm).unwrap();
    assert_eq!(
        (alg.certainty, alg.evidence.map(|(evidence, _)| evidence)),
        (Certainty::Found, Some(Evidence::Measured))
    );
}

#[test]
fn a_client_id_that_can_not_be_one_is_found() {
    for id in [None, Some(""), Some(" app"), Some("a b")] {
        let world = World { client_id: id, ..World::new() };
        let causes = world.causes();
        assert!(
            causes.iter().any(|cause| cause.about == About::ClientId && cause.certainty == Certainty::Found),
            "{id:?}"
        );
    }
    let mut world = World::new();
    world.claims["sub"] = json!("user-17");
    assert_eq!(world.found().1, "`sub` is `user-17` and not `app`");
}

#[test]
fn the_profiles_other_rules_are_looked_at_too() {
    let mut world = World::new();
    world.header["typ"] = json!("client-authentication+jwt");
    let (about, what, _) = world.found();
    assert!(about == About::Rules && what.contains("typ"), "{what}");
}

#[test]
fn known_words_are_told_before_what_may_be() {
    let body = r#"{"error" : "invalid_client" , "error_description" : "No signing key found for kid"}"#;
    let answer = Some(Answer { status: 400, body: body.to_owned() });
    let first = World { profile: "openemr-8", answer, ..World::new() }.causes().remove(0);
    assert_eq!((first.about, first.certainty), (About::Answer, Certainty::Said));
    let text = Answer { status: 404, body: "<html>no such page</html>".to_owned() };
    let first = World { answer: Some(text), ..World::new() }.causes().remove(0);
    assert_eq!(first.what, "there is no token endpoint at that URL");
}

#[test]
fn a_server_that_can_not_be_reached_is_a_broken_link() {
    let nothing = |unconnected| Contact::Nothing {
        unconnected,
        what: "`https://as.example` can't be reached".to_owned(),
        next: "curl -v https://as.example".to_owned(),
    };
    let outcome = |world: World| {
        let checks = world.with(checks);
        checks.into_iter().find(|check| check.about == About::Contact).unwrap().outcome
    };
    let asked = |unconnected| World { contact: nothing(unconnected), answer: None, ..World::new() };
    for (unconnected, certainty) in [(true, Certainty::Found), (false, Certainty::Likely)] {
        match outcome(asked(unconnected)) {
            Outcome::Bad(cause) => {
                assert_eq!(cause.certainty, certainty, "a server that is slow with documents breaks no chain");
                assert!(cause.what.contains("can't be reached") && cause.next.contains("curl"), "{cause:?}");
            }
            other => panic!("{other:?}"),
        }
    }
    // Where a token request was answered, that it can't be seen from here explains no refusal.
    let refused = World { contact: nothing(true), ..World::new() };
    assert!(matches!(outcome(refused), Outcome::Good(_)));
}

/// A server that complains of the scope has taken the assertion.
#[test]
fn what_comes_after_the_assertion_is_not_blamed_on_it() {
    let answer = Answer { status: 400, body: r#"{"error":"invalid_scope"}"#.to_owned() };
    let causes = World { answer: Some(answer), ..World::new().publishing("https://as.example/oauth2/token/") }.causes();
    assert_eq!((causes[0].about, causes[0].certainty), (About::Answer, Certainty::Said), "{causes:?}");
    assert!(causes.iter().all(|cause| cause.about != About::ClientId));
}

#[test]
fn systems_that_hold_a_certificate_do_not_read_the_key_set() {
    let world = World { profile: "careevolution", ..World::new() }.outside(Vec::clear);
    let causes = world.causes();
    assert!(causes.iter().all(|cause| !matches!(cause.about, About::KeySet | About::Kid)), "{causes:?}");
    assert!(causes.iter().any(|cause| cause.about == About::Certificate && cause.next.contains("hallmark csr clinic")));
}

/// With a certificate for the key, or for another one, that holds for 30 days.
fn certified(for_the_key: bool) -> World {
    let pair = rcgen::KeyPair::generate().unwrap();
    let mut params = rcgen::CertificateParams::default();
    let at = |days: i64| (UNIX_EPOCH + Duration::from_secs((NOW + days * 86_400).cast_unsigned())).into();
    (params.not_before, params.not_after) = (at(-1), at(30));
    let der = params.self_signed(&pair).unwrap().der().to_vec();
    let point = rcgen::PublicKeyData::der_bytes(&pair).to_vec();
    let b64 = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    let (x, y) = if for_the_key { (&point[1..33], &point[33..]) } else { (&point[33..], &point[1..33]) };
    let key = json!({"kty": "EC", "crv": "P-256", "kid": "a", "x": b64(x), "y": b64(y), "alg": "ES256"});
    let mut world = World { profile: "udap-b2b", ..World::new() };
    world.keys.ours = vec![key.as_object().unwrap().clone()];
    let thumbprint = crate::certificate::Thumbprints::of(&der).x5t_s256();
    world.header = json!({"alg": "ES256", "x5c": [STANDARD.encode(der)], "x5t#S256": thumbprint});
    world
}

#[test]
fn the_certificate_is_looked_at() {
    let of = |world: World| {
        let checks = world.with(checks);
        checks.into_iter().find(|check| check.about == About::Certificate).unwrap().outcome
    };
    let what = |world: World| match of(world) {
        Outcome::Bad(cause) => cause.what,
        other => format!("{other:?}"),
    };
    let good = Outcome::Good("the certificate is the key's, and good for 30 more days".to_owned());
    assert_eq!(of(certified(true)), good);
    assert_eq!(what(certified(false)), "the certificate is for another key than the one that signs");
    let at = |days: i64| World { server_time: Timestamp::from_secs(NOW + days * 86_400), ..certified(true) };
    assert_eq!(what(at(40)), "the certificate has expired");
    assert_eq!(what(at(-3)), "the certificate is not valid yet");
    let mut other = certified(true);
    other.header["x5t#S256"] = json!("another");
    assert_eq!(what(other), "the thumbprint in the header is another certificate's");
    let mut none = certified(true);
    none.header.as_object_mut().unwrap().remove("x5c");
    assert!(what(none).ends_with("wants a certificate, and the key has none"));
}

/// Every text that a server can choose is in one of these.
#[test]
fn nothing_foreign_steers_a_terminal() {
    let evil = "\u{1b}[2J\u{9b}\u{202e}\r\n";
    let mut world = World::new().publishing(&format!("{ENDPOINT}{evil}")).outside(|keys| {
        keys[0].insert("kid".to_owned(), json!(evil));
    });
    world.discovery.documents[0].1.signing_algs = vec![evil.to_owned()];
    world.answer = Some(Answer { status: 400, body: format!("{{\"error\":\"{evil}\"}}") });
    for cause in world.causes() {
        let text = format!("{}{}{}", cause.what, cause.why, cause.next);
        assert!(!text.chars().any(|char| char.is_control() || char == '\u{202e}'), "{text:?}");
    }
}
