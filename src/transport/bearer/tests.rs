use std::{
    path::Path,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
};

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair},
};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde_json::json;

use super::*;

mod rotation;

const NOW: i64 = 1_800_000_000;
const ISSUER: &str = "https://issuer.example";

#[derive(Debug)]
struct Still;

impl Clock for Still {
    fn now(&self) -> Timestamp {
        Timestamp::from_secs(NOW)
    }
}

/// An issuer whose key set can be changed, and that can be down.
#[derive(Default)]
struct Served {
    set: Mutex<Option<Value>>,
    readings: AtomicUsize,
}

impl Served {
    fn of(keys: &[&Key]) -> Arc<Self> {
        let served = Arc::new(Self::default());
        served.publish(keys);
        served
    }

    fn publish(&self, keys: &[&Key]) {
        let keys: Vec<_> = keys.iter().map(|key| key.jwk()).collect();
        *self.set.lock().unwrap() = Some(json!({ "keys": keys }));
    }

    fn go_down(&self) {
        *self.set.lock().unwrap() = None;
    }

    fn readings(&self) -> usize {
        self.readings.load(Ordering::SeqCst)
    }
}

impl FetchKeys for Served {
    fn fetch<'a>(&'a self, _: &'a str, _: Option<&'a Path>) -> Fetched<'a> {
        self.readings.fetch_add(1, Ordering::SeqCst);
        let set = self.set.lock().unwrap().clone();
        Box::pin(async move { set.map(|set| set.to_string().into_bytes()).ok_or_else(|| "down".to_owned()) })
    }
}

struct Key(EcdsaKeyPair, &'static str);

impl Key {
    fn new(kid: &'static str) -> Self {
        Self(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap(), kid)
    }

    fn jwk(&self) -> Value {
        let point = self.0.public_key().as_ref();
        let [x, y] = [&point[1..33], &point[33..]].map(|part| BASE64_URL_SAFE_NO_PAD.encode(part));
        json!({ "kty": "EC", "crv": "P-256", "x": x, "y": y, "kid": self.1, "alg": "ES256", "use": "sig" })
    }

    fn sign(&self, header: &Value, claims: &Value) -> String {
        let input = format!("{}.{}", part(header), part(claims));
        let signature = self.0.sign(&SystemRandom::new(), input.as_bytes()).unwrap();
        format!("{input}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature.as_ref()))
    }

    fn token(&self, claims: &Value) -> String {
        self.sign(&json!({ "alg": "ES256", "kid": self.1 }), claims)
    }
}

fn part(value: &Value) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(value.to_string())
}

fn with(name: &str, value: Value) -> Value {
    let mut claims = json!({
        "iss": ISSUER, "sub": "system:serviceaccount:prod:billing", "aud": ["hallmark", "other"],
        "exp": NOW + 600, "iat": NOW, "kubernetes.io": { "namespace": "prod" }
    });
    claims[name] = value;
    claims
}

fn claims() -> Value {
    with("iat", json!(NOW))
}

fn spec() -> IssuerSpec {
    IssuerSpec {
        issuer: Some(ISSUER.into()),
        naming: Naming::Subject,
        audience: "hallmark".into(),
        algorithms: vec![Alg::ES256],
        keys: KeySource::Url { url: "https://issuer.example/jwks".into(), ca: None },
        roles: Roles { workload: true, operator: false },
        subjects: vec!["system:serviceaccount:prod:*".into()],
        require: [("kubernetes.io/namespace".to_owned(), "prod".to_owned())].into(),
    }
}

fn bearers(spec: IssuerSpec, key: &Key) -> (Arc<Bearers>, Arc<Served>) {
    let served = Served::of(&[key]);
    let bearers = Arc::new(Bearers::new(vec![spec], served.clone(), Arc::new(Still)));
    tokio::spawn(bearers.clone().follow_keys(CancellationToken::new()));
    (bearers, served)
}

async fn shown(bearers: &Bearers, token: &str) -> Result<Caller, Reason> {
    let mut headers = HeaderMap::new();
    headers.insert(AUTHORIZATION, format!("Bearer {token}").parse().unwrap());
    bearers.identify(&headers).await.map_err(|error| {
        assert!(token.is_empty() || !error.to_string().contains(token), "a token is in an error");
        error.reason
    })
}

#[tokio::test]
async fn a_good_token_says_who_bears_it_and_until_when() {
    let key = Key::new("k1");
    let (bearers, served) = bearers(spec(), &key);
    let caller = shown(&bearers, &key.token(&claims())).await.unwrap();
    assert_eq!(caller.identity.to_string(), format!("jwt:{ISSUER}#system:serviceaccount:prod:billing"));
    assert_eq!((caller.roles.workload, caller.roles.operator), (true, false));
    assert_eq!((caller.not_after, caller.credential), (Some(Timestamp::from_secs(NOW + 600)), Credential::Token));
    served.go_down();
    assert!(shown(&bearers, &key.token(&claims())).await.is_ok(), "the last set counts while the issuer is down");
}

#[tokio::test]
async fn a_spiffe_token_is_of_its_trust_domain() {
    let key = Key::new("k1");
    let naming = Naming::Spiffe { trust_domain: "prod.example".into() };
    let spec = IssuerSpec { issuer: None, naming, subjects: vec![], require: BTreeMap::new(), ..spec() };
    let (bearers, _) = bearers(spec, &key);
    let of = |id: &str| key.token(&json!({ "sub": id, "aud": "hallmark", "exp": NOW + 60 }));
    let caller = shown(&bearers, &of("spiffe://prod.example/billing")).await.unwrap();
    assert_eq!(caller.identity.to_string(), "spiffe://prod.example/billing");
    for other in ["spiffe://prod.example.evil/billing", "spiffe://other.example/billing", "spiffe://prod.example/", "x"]
    {
        assert_eq!(shown(&bearers, &of(other)).await.unwrap_err(), Reason::TokenInvalid, "{other}");
    }
}

#[tokio::test]
async fn hostile_tokens_count_for_nothing() {
    let (key, stranger) = (Key::new("k1"), Key::new("k1"));
    let (bearers, _) = bearers(spec(), &key);
    let good = key.token(&claims());
    let (body, signature) = good.rsplit_once('.').unwrap();
    let (header, payload) = body.split_once('.').unwrap();
    let alg = |alg: &str| part(&json!({ "alg": alg, "kid": "k1" }));
    // A key that is public is no secret that one could sign with.
    let secret = aws_lc_rs::hmac::Key::new(aws_lc_rs::hmac::HMAC_SHA256, key.0.public_key().as_ref());
    let hs_input = format!("{}.{payload}", alg("HS256"));
    let hs_tag = BASE64_URL_SAFE_NO_PAD.encode(aws_lc_rs::hmac::sign(&secret, hs_input.as_bytes()));
    let mut invalid = vec![
        String::new(),
        "a.b.c".into(),
        "x".repeat(MAX_TOKEN + 1),
        format!("{}.{payload}.", alg("none")),
        format!("{hs_input}.{hs_tag}"),
        format!("{}.{payload}.{signature}", alg("RS256")),
        format!("{header}.{}.{signature}", part(&with("sub", json!("system:serviceaccount:prod:root")))),
        format!("{good}.x"),
        stranger.token(&claims()),
        key.sign(&json!({ "alg": "ES256", "kid": "unknown" }), &claims()),
        key.sign(&json!({ "alg": "ES256", "kid": "k1", "crit": ["b64"], "b64": false }), &claims()),
    ];
    let wrong = [
        ("iss", json!("https://issuer.example/")),
        ("aud", json!("hallmark2")),
        ("aud", json!([["hallmark"]])),
        ("sub", json!("system:serviceaccount:dev:billing")),
        ("nbf", json!(NOW + 3600)),
        ("exp", json!("soon")),
        ("exp", json!(1e300)),
        ("exp", Value::Null),
        ("kubernetes.io", json!({ "namespace": "dev" })),
    ];
    invalid.extend(wrong.into_iter().map(|(name, value)| key.token(&with(name, value))));
    for name in ["iss", "aud", "sub", "exp", "kubernetes.io"] {
        let mut claims = claims();
        claims.as_object_mut().unwrap().remove(name);
        invalid.push(key.token(&claims));
    }
    for token in invalid {
        assert_eq!(shown(&bearers, &token).await.map(|caller| caller.identity), Err(Reason::TokenInvalid), "{token}");
    }
    // Clocks differ by a minute at most, where something begins; an end is an end.
    for name in ["nbf", "iat"] {
        shown(&bearers, &key.token(&with(name, json!(NOW + 60)))).await.expect(name);
        let early = shown(&bearers, &key.token(&with(name, json!(NOW + 61)))).await;
        assert_eq!(early.unwrap_err(), Reason::TokenInvalid, "{name}");
    }
    shown(&bearers, &key.token(&with("exp", json!(NOW + 1)))).await.expect("a second is left");
    for end in [NOW, NOW - 1, 0] {
        assert_eq!(shown(&bearers, &key.token(&with("exp", json!(end)))).await.unwrap_err(), Reason::TokenExpired);
    }
    let mut twice = HeaderMap::new();
    for _ in 0..2 {
        twice.append(AUTHORIZATION, format!("Bearer {good}").parse().unwrap());
    }
    assert_eq!(bearers.identify(&twice).await.unwrap_err().reason, Reason::TokenInvalid);
}
