//! Nothing that a server writes, answers or keeps in memory shows a secret.

use std::{
    fs::{self, File},
    os::unix::fs::FileExt,
    path::Path,
    process::Command,
};

use aws_lc_rs::{
    rand::SystemRandom,
    signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair},
};
use base64::{Engine, prelude::BASE64_URL_SAFE_NO_PAD};
use hallmark_proto::v1::{RevokeKeyRequest, SignAssertionRequest};
use hallmark_testkit::softhsm::SoftHsm;

use serde_json::{Value, json};

use crate::support::{Caller, HALLMARK, Server, Site, caller::for_client, claims, root::is_root};

/// Bytes that must not be found, and what they are.
pub(crate) type Secret = (&'static str, Vec<u8>);

/// Reads what a server left in all places that people, programs and other machines may look at. Panics where one of them
/// shows one of `secrets`, an assertion or a TLS key; files of `site` whose names end in one of `hold` are where secrets come from.
pub(crate) async fn none_is_shown(site: &Site, server: &Server, secrets: &[Secret], hold: &[&str]) {
    let app = server.app();
    let signed = app.sign_for("demo").await.unwrap();
    let signature = signed.assertion.rsplit('.').next().unwrap().to_owned();
    let mut secrets = secrets.to_vec();
    secrets.push(("a signature", signature.into_bytes()));
    secrets.push(("an assertion", signed.assertion.clone().into_bytes()));
    let key = fs::read_to_string(site.folder().join("server.key")).unwrap();
    secrets.push(("a TLS key", key.lines().nth(1).unwrap().as_bytes().to_vec()));

    let mut places = vec![("the log".to_owned(), server.log().into_bytes())];
    places.push(("the metrics".to_owned(), server.health("/metrics").await.1.into_bytes()));
    places.push(("refusals".to_owned(), refusals(server).await.into_bytes()));
    places.push(("commands".to_owned(), commands(site, server).into_bytes()));
    files(site.folder(), hold, &mut places);
    assert!(places.iter().any(|(place, _)| place.ends_with(".jsonl")), "the audit log is among them");
    assert!(places.iter().any(|(place, _)| place.ends_with("keys.db")), "and the store");
    for (place, bytes) in &places {
        assert!(!bytes.is_empty() || place.contains("wal"), "{place} is empty");
        for (what, secret) in &secrets {
            assert!(!holds(bytes, secret), "{place} shows {what}");
        }
    }
}

/// As a core file would show it. The text of an assertion is not looked for: it is in the buffers of its answer, which are
/// not wiped, and good for minutes.
pub(crate) fn none_is_in_memory(server: &Server, secrets: &[Secret]) {
    if !is_root("look into the server's memory") {
        return;
    }
    let (mut found, mut known, mut size) = (Vec::new(), false, 0);
    each_region(server.process.pid(), |name, bytes| {
        size += bytes.len();
        known |= holds(bytes, b"demo-id");
        found.extend(
            secrets.iter().filter(|(_, secret)| holds(bytes, secret)).map(|(what, _)| format!("{what} in {name}")),
        );
    });
    eprintln!("looked through {} MiB of memory", size >> 20);
    assert!(known, "what is known to be there is found");
    assert!(found.is_empty(), "the memory holds {found:?}");
}

/// What callers without rights, or with nonsense, are told.
async fn refusals(server: &Server) -> String {
    let (app, ops, nobody) = (server.app(), server.ops(), server.caller(None));
    let broken = SignAssertionRequest { audience: "x".repeat(99), ..for_client("demo") };
    let mut said = Vec::new();
    let tries: [(&Caller, SignAssertionRequest); 4] =
        [(&app, for_client("nosuch")), (&app, broken), (&nobody, for_client("demo")), (&ops, for_client("demo"))];
    for (caller, request) in tries {
        said.push(format!("{:?}", caller.sign(request).await.unwrap_err()));
    }
    let revoke = RevokeKeyRequest { request_id: "r".into(), reason: "r".into(), kid: "nosuch".into() };
    said.push(format!("{:?}", ops.keys().revoke_key(revoke).await.unwrap_err()));
    said.join("\n")
}

/// What people and pipelines see.
fn commands(site: &Site, server: &Server) -> String {
    site.connections(server);
    let config = site.write();
    let config = config.to_str().unwrap();
    let tries: &[&[&str]] = &[
        &["check-config", "--config", config],
        &["keys", "list", "--json"],
        &["keys", "list", "--fresh"],
        &["rotation", "plan", "--json"],
        &["policy", "lint", "--json"],
        &["keys", "custody", "--json"],
        &["doctor", "demo", "--config", config, "--json"],
    ];
    let run = |arguments: &&[&str]| {
        let mut command = Command::new(HALLMARK);
        command
            .args(*arguments)
            .env("HALLMARK_CONNECTION", site.folder().join("ops.toml"))
            .env("HALLMARK_LOG", "trace");
        let output = command.output().unwrap();
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
    };
    tries.iter().map(run).collect()
}

fn files(folder: &Path, hold: &[&str], places: &mut Vec<(String, Vec<u8>)>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.display().to_string();
        if path.is_dir() {
            files(&path, hold, places);
        } else if path.is_file() && !hold.iter().any(|end| name.ends_with(end)) {
            places.push((name, fs::read(&path).unwrap()));
        }
    }
}

/// All memory that was written to, region by region.
fn each_region(pid: u32, mut look: impl FnMut(&str, &[u8])) {
    let memory = File::open(format!("/proc/{pid}/mem")).unwrap();
    for line in fs::read_to_string(format!("/proc/{pid}/maps")).unwrap().lines() {
        let mut words = line.split_whitespace();
        let (range, rights) = (words.next().unwrap(), words.next().unwrap());
        let name = words.nth(3).unwrap_or("memory without a name");
        if !rights.starts_with("rw") || name.starts_with("[vv") {
            continue;
        }
        let (start, end) = range.split_once('-').unwrap();
        let [start, end] = [start, end].map(|text| u64::from_str_radix(text, 16).unwrap());
        let mut bytes = vec![0; usize::try_from(end - start).unwrap()];
        // A region may go while we look.
        if memory.read_exact_at(&mut bytes, start).is_ok() {
            look(name, &bytes);
        }
    }
}

fn holds(bytes: &[u8], wanted: &[u8]) -> bool {
    let first = wanted[0];
    let mut rest = bytes;
    while let Some(at) = rest.iter().position(|byte| *byte == first) {
        if rest[at..].starts_with(wanted) {
            return true;
        }
        rest = &rest[at + 1..];
    }
    false
}

/// With everything logged that can be, for people or as JSON: one has its values as text, the other as fields of a record.
const FORMATS: [&[&str]; 2] = [&[], &["--json"]];

/// Tells everything, in that format.
fn talkative(site: &Site, format: &[&str]) -> Server {
    let server = site.start_with(|command| _ = command.args(format).env("HALLMARK_LOG", "trace"));
    let log = server.log();
    let json = log.lines().filter(|line| serde_json::from_str::<Value>(line).is_ok()).count();
    assert_eq!(json > 0, !format.is_empty(), "it is in the format that was asked for:\n{log}");
    server
}

#[tokio::test]
async fn no_bearer_token_is_shown() {
    for format in FORMATS {
        no_bearer_token_is_shown_in(format).await;
    }
}

/// A token that is shown instead of a certificate, whether it counts or not.
async fn no_bearer_token_is_shown_in(format: &[&str]) {
    let mut site = Site::new();
    let issuer = Issuer::of(&mut site);
    let server = talkative(&site, format);
    server.ready().await;
    // The server's clock, as an assertion shows it.
    let now = claims(&server.app().sign_for("demo").await.unwrap().assertion)["iat"].as_i64().unwrap();
    let (good, expired) = (issuer.token(now + 300), issuer.token(now - 300));
    let sign = async |token: &str| {
        let mut request = tonic::Request::new(for_client("demo"));
        request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().unwrap());
        server.caller(None).sign(request).await
    };
    sign(&good).await.unwrap();
    let refused = format!("{:?}", sign(&expired).await.unwrap_err());
    assert!(!refused.contains(&expired), "{refused}");
    let last = |token: &str| token.rsplit('.').next().unwrap().as_bytes().to_vec();
    let secrets = [("a good bearer token", last(&good)), ("a bearer token that expired", last(&expired))];
    none_is_shown(&site, &server, &secrets, &["server.key", "app.key", "ops.key"]).await;
    server.stop().await;
}

/// Signs bearer tokens, by a key of which the site has the public half.
struct Issuer(EcdsaKeyPair);

impl Issuer {
    fn of(site: &mut Site) -> Self {
        let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        let point = key.public_key().as_ref();
        let [x, y] = [&point[1..33], &point[33..]].map(|part| BASE64_URL_SAFE_NO_PAD.encode(part));
        let set = json!({ "keys": [{ "kty": "EC", "crv": "P-256", "x": x, "y": y, "kid": "k", "alg": "ES256", "use": "sig" }] });
        fs::write(site.folder().join("issuer.json"), set.to_string()).unwrap();
        site.append(
            "\n[[issuer]]\nkind = \"generic\"\nissuer = \"https://issuer.example\"\naudience = \"hallmark\"\n\
             algorithms = [\"ES256\"]\njwks_file = \"issuer.json\"\n\n[[workload]]\n\
             id = \"jwt:https://issuer.example#billing\"\nclients = [\"demo\"]\n",
        );
        Self(key)
    }

    fn token(&self, exp: i64) -> String {
        let part = |value: Value| BASE64_URL_SAFE_NO_PAD.encode(value.to_string());
        let claims = json!({ "iss": "https://issuer.example", "sub": "billing", "aud": "hallmark", "exp": exp });
        let input = format!("{}.{}", part(json!({ "alg": "ES256", "kid": "k" })), part(claims));
        let signature = self.0.sign(&SystemRandom::new(), input.as_bytes()).unwrap();
        format!("{input}.{}", BASE64_URL_SAFE_NO_PAD.encode(signature.as_ref()))
    }
}

#[tokio::test]
async fn no_secret_of_a_pkcs11_token_is_shown_or_kept() {
    for format in FORMATS {
        let site = Site::new();
        let server = talkative(&site, format);
        server.ready().await;
        let secrets = [("the PIN", SoftHsm::PIN.as_bytes().to_vec())];
        none_is_shown(&site, &server, &secrets, &["server.key", "app.key", "ops.key"]).await;
        none_is_in_memory(&server, &secrets);
        server.stop().await;
    }
}
