//! An issuer of bearer tokens, whose keys change and who may be down.

use std::{
    path::Path,
    sync::{Arc, Mutex},
    time::{SystemTime, UNIX_EPOCH},
};

use aws_lc_rs::{
    hmac,
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair},
};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpListener, TcpStream},
};

use super::pki::replace;

/// `iss`.
pub(crate) const ISSUER: &str = "https://issuer.example";
/// `sub` of the workload.
pub(crate) const POD: &str = "system:serviceaccount:prod:billing";

/// Serves its key set on loopback.
pub(crate) struct Issuer {
    pub(crate) jwks_url: String,
    set: Arc<Mutex<Option<String>>>,
}

impl Issuer {
    pub(crate) async fn serving(keys: &[&SigningKey]) -> Self {
        let set = Arc::new(Mutex::new(Some(key_set(keys))));
        let served = set.clone();
        let socket = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let jwks_url = format!("http://{}/jwks", socket.local_addr().unwrap());
        tokio::spawn(async move {
            while let Ok((stream, _)) = socket.accept().await {
                let set = served.lock().unwrap().clone();
                // Whoever asked may be gone.
                let _ = answer(stream, set).await;
            }
        });
        Self { jwks_url, set }
    }

    pub(crate) fn publish(&self, keys: &[&SigningKey]) {
        *self.set.lock().unwrap() = Some(key_set(keys));
    }

    pub(crate) fn go_down(&self) {
        *self.set.lock().unwrap() = None;
    }
}

async fn answer(mut stream: TcpStream, set: Option<String>) -> std::io::Result<()> {
    // A question without a body fits into one segment.
    let _ = stream.read(&mut [0; 4096]).await?;
    let (status, body) = set.map_or(("503 Service Unavailable", String::new()), |set| ("200 OK", set));
    let length = body.len();
    let answer = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}");
    stream.write_all(answer.as_bytes()).await
}

/// A key of an issuer, and its `kid`.
pub(crate) struct SigningKey(EcdsaKeyPair, &'static str);

impl SigningKey {
    pub(crate) fn new(kid: &'static str) -> Self {
        Self(EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap(), kid)
    }

    fn jwk(&self) -> Value {
        let point = self.0.public_key().as_ref();
        let [x, y] = [&point[1..33], &point[33..]].map(|part| BASE64_URL_SAFE_NO_PAD.encode(part));
        json!({ "kty": "EC", "crv": "P-256", "x": x, "y": y, "kid": self.1, "alg": "ES256", "use": "sig" })
    }

    /// A good token of `subject`, for ten minutes.
    pub(crate) fn token(&self, subject: &str) -> String {
        self.sign(&claims(subject))
    }

    pub(crate) fn sign(&self, claims: &Value) -> String {
        let input = self.input("ES256", claims);
        let signature = self.0.sign(&SystemRandom::new(), input.as_bytes()).unwrap();
        format!("{input}.{}", part(signature.as_ref()))
    }

    /// As [`Self::sign`], by whoever has no more than the public key.
    pub(crate) fn forge(&self, claims: &Value) -> String {
        let input = self.input("HS256", claims);
        let secret = hmac::Key::new(hmac::HMAC_SHA256, self.0.public_key().as_ref());
        format!("{input}.{}", part(hmac::sign(&secret, input.as_bytes()).as_ref()))
    }

    /// With `alg` `none`.
    pub(crate) fn unsigned(&self, claims: &Value) -> String {
        format!("{}.", self.input("none", claims))
    }

    fn input(&self, alg: &str, claims: &Value) -> String {
        let header = json!({ "alg": alg, "kid": self.1 });
        format!("{}.{}", part(header.to_string().as_bytes()), part(claims.to_string().as_bytes()))
    }
}

/// What a good token of `subject` says.
pub(crate) fn claims(subject: &str) -> Value {
    json!({ "iss": ISSUER, "sub": subject, "aud": ["hallmark"], "iat": now(), "exp": now() + 600 })
}

/// Seconds since 1970.
#[expect(clippy::disallowed_methods, reason = "the server's clock is the real one")]
pub(crate) fn now() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()).unwrap()
}

/// Replaces the file in one step.
pub(crate) fn write_keys(path: &Path, keys: &[&SigningKey]) {
    replace(path, &key_set(keys));
}

fn key_set(keys: &[&SigningKey]) -> String {
    json!({ "keys": keys.iter().map(|key| key.jwk()).collect::<Vec<_>>() }).to_string()
}

fn part(bytes: &[u8]) -> String {
    BASE64_URL_SAFE_NO_PAD.encode(bytes)
}
