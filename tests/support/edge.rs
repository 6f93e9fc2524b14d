//! A running `hallmark serve --role jwks`, which follows the server of a [`Site`].

use std::{
    fs,
    path::{Path, PathBuf},
};

use reqwest::StatusCode;

use super::{HALLMARK, PATIENCE, Process, Site, eventually};

/// The follower of [`Site::followed`].
pub(crate) const EDGE: &str = "spiffe://test.example/edge";

pub(crate) struct Edge {
    pub(crate) process: Process,
    /// `127.0.0.1:PORT`
    pub(crate) jwks: String,
    metrics: String,
    config: PathBuf,
}

/// What a verifier got.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Got {
    pub(crate) status: StatusCode,
    pub(crate) max_age: Option<u64>,
    pub(crate) etag: String,
    pub(crate) body: String,
}

impl Edge {
    /// Starts one beside `site`, whose server is or will be at `grpc`.
    pub(crate) fn start(site: &Site, grpc: &str) -> Self {
        site.ca.client(EDGE).write(site.folder(), "edge");
        let config = site.folder().join("edge.toml");
        let text = format!(
            "[jwks]\nlisten = \"127.0.0.1:0\"\n[metrics]\nlisten = \"127.0.0.1:0\"\n[follow]\naddress = \"{grpc}\"\n\
             tls = {{ cert = \"edge.pem\", key = \"edge.key\" }}\nca = \"ca.pem\"\nstate_dir = \"state\"\nmax_stale = \"1m\"\n"
        );
        fs::write(&config, text).unwrap();
        Self::spawn(config)
    }

    /// Starts one with the configuration of `site` itself: it reads the same database.
    pub(crate) fn of(site: &Site) -> Self {
        Self::spawn(site.write())
    }

    /// As after a crash.
    pub(crate) fn restart(self) -> Self {
        let Self { mut process, config, .. } = self;
        process.kill();
        Self::spawn(config)
    }

    fn spawn(config: PathBuf) -> Self {
        let folder = config.parent().unwrap();
        let mut process = Process::start("edge", folder, HALLMARK, |command| {
            command.args(["serve", "--role", "jwks", "--config"]).arg(&config);
        });
        let line = process.wait_for_log("addresses");
        let (jwks, metrics) = (address(&line, " jwks: "), address(&line, "metrics: Some("));
        Self { process, jwks, metrics, config }
    }

    pub(crate) fn state(&self) -> PathBuf {
        self.config.parent().unwrap_or(Path::new("/")).join("state")
    }

    pub(crate) async fn get(&self, path: &str) -> Got {
        get(&format!("http://{}{path}", self.jwks)).await
    }

    pub(crate) async fn metric(&self, name: &str) -> f64 {
        let text = reqwest::get(format!("http://{}/metrics", self.metrics)).await.unwrap().text().await.unwrap();
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {name} in:\n{text}")).parse().unwrap()
    }

    /// Waits until it answers as `wanted`.
    pub(crate) async fn until(&self, path: &str, what: &str, wanted: impl Fn(&Got) -> bool) -> Got {
        eventually(what, PATIENCE, async || Some(self.get(path).await).filter(&wanted)).await
    }
}

/// As a verifier does.
pub(crate) async fn get(url: &str) -> Got {
    let answer = reqwest::get(url).await.unwrap();
    let header = |name: &str| answer.headers().get(name).map_or("", |value| value.to_str().unwrap()).to_owned();
    let (etag, control) = (header("etag"), header("cache-control"));
    let max_age = control.strip_prefix("public, max-age=").and_then(|rest| rest.strip_suffix(", s-maxage=0"));
    let max_age = max_age.map(|seconds| seconds.parse().unwrap());
    assert!(max_age.is_some() || control == "no-store", "{control}");
    Got { status: answer.status(), max_age, etag, body: answer.text().await.unwrap() }
}

fn address(line: &str, name: &str) -> String {
    let rest = line.split_once(name).unwrap_or_else(|| panic!("no `{name}` in: {line}")).1;
    let ends = |char: char| !(char.is_ascii_digit() || matches!(char, '.' | ':'));
    rest.split(ends).next().unwrap_or_default().to_owned()
}
