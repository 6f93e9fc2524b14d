//! `hallmark jwks check`: whether authorization servers see the keys that Hallmark publishes.

use std::path::PathBuf;

use hallmark_client::Jwks;
use serde_json::json;

use crate::{
    cli::{
        Failure,
        args::JwksCheckArgs,
        connect::{As, connect, failure},
        output::Output,
    },
    verifier::{Seen, Unseen, Verifier, kids_of},
};

pub(super) async fn run(args: JwksCheckArgs, connection: Option<PathBuf>, json: bool) -> Result<u8, Failure> {
    let JwksCheckArgs { client, ca } = args;
    let ours = connect(connection, As::Workload)?.jwks(&client).await.map_err(|error| failure(&error, &client))?;
    if ours.document.is_empty() {
        let text = format!("`{client}` has no key yet, so its JWKS URL answers 404: `{}`", ours.url);
        return Err(
            Failure::new(text).hint(format!("make its first keys: hallmark keys create {client} --reason TEXT"))
        );
    }
    let verifier = Verifier::new(ca.as_deref()).map_err(|error| Failure::new("can't fetch URLs").caused_by(&error))?;
    let seen = verifier.fetch(&ours.url).await.map_err(|error| unseen(&ours.url, &error))?;
    judge(&ours, &seen)?.output(json).print()
}

/// What there is to say about a set that verifiers see, and that is the one that Hallmark publishes.
#[derive(Debug)]
struct Checked<'a> {
    url: &'a str,
    seen: &'a Seen,
}

/// Fails where a verifier would not find what Hallmark signs with, or finds what it must not.
fn judge<'a>(ours: &'a Jwks, seen: &'a Seen) -> Result<Checked<'a>, Failure> {
    let kids = kids_of(&ours.document)
        .map_err(|error| Failure::new("the server sent a JWKS that is not JSON").caused_by(&error))?;
    let missing = seen.lacks(kids.iter().map(String::as_str));
    let more: Vec<_> = seen.kids().into_iter().filter(|kid| !kids.iter().any(|ours| ours == kid)).collect();
    if !missing.is_empty() || !more.is_empty() {
        let text = format!("authorization servers see other keys than Hallmark publishes: `{}`", ours.url);
        let hint = "a cache or a static host in between has an old document: see its age, and `edge_ttl`; or the URL \
                    leads to another server";
        let failure = Failure::new(text).hint(hint).detail("missing", json!(missing)).detail("more", json!(more));
        let named = |what: &str, kids: &[&str]| (!kids.is_empty()).then(|| format!("{what}: `{}`", kids.join("`, `")));
        let causes = [named("not there", &missing), named("there, and no longer published", &more)];
        return Err(causes.into_iter().flatten().fold(failure, Failure::because));
    }
    Ok(Checked { url: &ours.url, seen })
}

fn unseen(url: &str, error: &Unseen) -> Failure {
    let hint = match error {
        Unseen::Failed(_) => "the URL must be reached from here for this check; a private CA is named with --ca FILE",
        Unseen::Status(_) | Unseen::Redirected(_) => {
            "see what is at the URL: `curl -i`; `public_url` of [jwks] must lead to Hallmark, or to its export"
        }
        Unseen::NoUrl(_) => "see `public_url` of [jwks]",
        Unseen::Ca(..) | Unseen::NoCa(_) => "it must be a PEM file of CA certificates",
        Unseen::TooLarge | Unseen::NotASet(_) => "the URL leads to something else: see `public_url` of [jwks]",
    };
    Failure::new(format!("the JWKS URL {error}: `{url}`")).hint(hint)
}

impl Checked<'_> {
    fn output(&self, json: bool) -> Output {
        let Seen { etag, max_age, age, took, findings, .. } = self.seen;
        let max_age = max_age.map(|max_age| max_age.as_secs());
        if json {
            return Output::json(&json!({
                "ok": true, "url": self.url, "kids": self.seen.kids(), "etag": etag, "max_age": max_age,
                "age": age.as_secs(), "took_ms": u64::try_from(took.as_millis()).unwrap_or(u64::MAX), "findings": findings,
            }));
        }
        let kept = max_age.map_or("as long as a verifier likes".to_owned(), |seconds| format!("{seconds} s"));
        let mut stdout = format!("OK: authorization servers see what Hallmark publishes: {}\n", self.url);
        stdout +=
            &format!("  keys  {}\n  kept  {kept}\n  took  {} ms\n", self.seen.kids().join(", "), took.as_millis());
        let stderr = findings.iter().map(|finding| format!("warning: {finding}\n")).collect();
        Output { stdout, stderr }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::verifier::SeenKey;

    fn seen(kids: &[&str]) -> Seen {
        let key = |kid: &&str| SeenKey { kid: (*kid).to_owned(), ..SeenKey::default() };
        Seen {
            keys: kids.iter().map(key).collect(),
            body: bytes::Bytes::new(),
            etag: Some("\"e\"".to_owned()),
            max_age: Some(Duration::from_secs(300)),
            age: Duration::ZERO,
            took: Duration::from_millis(12),
            findings: vec!["the URL is not https".to_owned()],
        }
    }

    #[test]
    fn the_same_keys_or_what_differs() {
        let url = "https://keys.example/clients/clinic/jwks.json".to_owned();
        let document = br#"{"keys":[{"kid":"a"},{"kid":"b"}]}"#.to_vec();
        let ours = Jwks { document, url, etag: "\"e\"".to_owned() };
        let good = seen(&["a", "b"]);
        let output = judge(&ours, &good).expect("the same").output(false);
        insta::assert_snapshot!(output.stdout + &output.stderr, @r"
        OK: authorization servers see what Hallmark publishes: https://keys.example/clients/clinic/jwks.json
          keys  a, b
          kept  300 s
          took  12 ms
        warning: the URL is not https
        ");
        let other = seen(&["a", "x"]);
        let old = judge(&ours, &other).expect_err("another").render(false);
        insta::assert_snapshot!(old, @r"
        error: authorization servers see other keys than Hallmark publishes: `https://keys.example/clients/clinic/jwks.json`
          caused by: not there: `b`
          caused by: there, and no longer published: `x`
        hint: a cache or a static host in between has an old document: see its age, and `edge_ttl`; or the URL leads to another server
        ");
    }
}
