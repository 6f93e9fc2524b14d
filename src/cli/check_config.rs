//! `hallmark check-config`: reads a configuration as `serve` would, and says what it found.

use std::path::Path;

use hallmark_core::client::Client;
use serde_json::{Value, json};

use super::{args::Role, failure};
use crate::config::{
    self, Config, ConfigError, Device, FollowedSource, Hsm, Jwks, MAX_JWKS_KEYS, published_keys, slots_needed,
};

/// What to print, and how to exit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Checked {
    /// For standard output; ends in a newline.
    pub(super) text: String,
    /// 0, or [`failure::CONFIG`].
    pub(super) exit_code: u8,
}

/// Checks the configuration at `path`. With `json`, the text is one JSON object:
/// `{"ok": bool, "problems": [{"file", "line", "what", "hint"}], "warnings": […], "clients": […]}`.
pub(super) fn run(path: &Path, role: Role, json: bool) -> Checked {
    match role {
        Role::All => run_all(path, json),
        Role::Jwks => run_jwks(path, json),
    }
}

fn run_all(path: &Path, json: bool) -> Checked {
    match config::load(path) {
        Ok(config) if json => Checked { text: format!("{}\n", good_json(&config)), exit_code: 0 },
        Ok(config) => Checked { text: good_text(path, &config), exit_code: 0 },
        Err(error) if json => Checked { text: format!("{}\n", bad_json(&error)), exit_code: failure::CONFIG },
        Err(error) => Checked { text: format!("error: {error}\n"), exit_code: failure::CONFIG },
    }
}

/// For `serve --role jwks`.
fn run_jwks(path: &Path, json: bool) -> Checked {
    match config::load_follower(path) {
        Ok(config) if json => {
            let good = json!({ "ok": true, "problems": [], "warnings": config.warnings, "clients": [] });
            Checked { text: format!("{good}\n"), exit_code: 0 }
        }
        Ok(config) => {
            let mut text = format!("OK: {}\n", path.display());
            let (source, kept) = match &config.source {
                FollowedSource::Signer(follow) => (follow.address.clone(), follow.state_dir.display().to_string()),
                FollowedSource::Store(read) => {
                    let kept = config.jwks.state_dir.as_ref().map(|dir| dir.display().to_string());
                    (read.store.url.clone(), kept.unwrap_or_else(|| "nowhere".to_owned()))
                }
            };
            let rows = [("role", "jwks".to_owned()), ("source", source), ("kept in", kept)];
            let jwks = ("JWKS", format!("{}, {}", config.jwks.listen, how(&config.jwks)));
            let metrics = config.metrics.as_ref().map_or("off".to_owned(), |metrics| metrics.listen.to_string());
            for (name, value) in rows.into_iter().chain([jwks, ("metrics", metrics)]) {
                text += &format!("  {name:<10} {value}\n");
            }
            for warning in &config.warnings {
                text += &format!("\nwarning: {warning}\n");
            }
            Checked { text, exit_code: 0 }
        }
        Err(error) if json => Checked { text: format!("{}\n", bad_json(&error)), exit_code: failure::CONFIG },
        Err(error) => Checked { text: format!("error: {error}\n"), exit_code: failure::CONFIG },
    }
}

fn good_text(path: &Path, config: &Config) -> String {
    let mut text = format!("OK: {}\n", path.display());
    for (name, value) in summary(config) {
        text += &format!("  {name:<10} {value}\n");
    }
    for warning in &config.warnings {
        text += &format!("\nwarning: {warning}\n");
    }
    text
}

/// One line for each thing that someone would want to see confirmed.
fn summary(config: &Config) -> Vec<(&'static str, String)> {
    let mut lines = vec![("instance", config.instance.id.clone())];
    if let Some(listen) = config.grpc.listen {
        let tls = if config.grpc.tls.is_some() { "mutual TLS" } else { "no TLS" };
        lines.push(("gRPC", format!("{listen}, {tls}")));
    }
    if let Some(unix) = &config.grpc.unix {
        lines.push(("gRPC", format!("unix:{}", unix.display())));
    }
    lines.push(("JWKS", format!("{}, {}", config.jwks.listen, how(&config.jwks))));
    if !config.jwks.followers.is_empty() {
        let followers: Vec<_> = config.jwks.followers.iter().map(ToString::to_string).collect();
        lines.push(("JWKS", format!("served by {}", followers.join(", "))));
    }
    let metrics = config.metrics.as_ref().map_or("off".to_owned(), |metrics| metrics.listen.to_string());
    lines.push(("metrics", metrics));
    lines.push(("store", config.store.url.clone()));
    lines.push(("audit", config.audit.dir.display().to_string()));
    lines.extend(config.hsms.iter().map(|hsm| ("HSM", hsm_line(config, hsm))));
    lines.extend(config.hsms_elsewhere.iter().map(|hsm| ("HSM", format!("{hsm}: another replica's"))));
    lines.extend(config.clients.iter().map(|client| ("client", client_line(config, client))));
    lines.extend(config.workloads.iter().map(|workload| {
        let clients: Vec<_> = workload.clients.iter().map(ToString::to_string).collect();
        ("workload", format!("{} for {}", workload.id, clients.join(", ")))
    }));
    lines.extend(config.operators.iter().map(|(id, _)| ("operator", id.to_string())));
    lines
}

fn hsm_line(config: &Config, hsm: &Hsm) -> String {
    match &hsm.device {
        Device::Pkcs11(pkcs11) => format!("{}: {}, {} workers", hsm.name, pkcs11.module.display(), hsm.workers),
        Device::Yubikey(yubikey) => {
            let which = yubikey.serial.map_or("the only one".to_owned(), |serial| serial.to_string());
            let (needs, has) = (slots_needed(&hsm.name, &config.clients), yubikey.slots.len());
            format!("{}: YubiKey {which}, up to {needs} of {has} slots", hsm.name)
        }
    }
}

fn how(jwks: &Jwks) -> &'static str {
    match (&jwks.tls, jwks.behind_proxy) {
        (Some(_), _) => "TLS",
        (None, true) => "behind a proxy",
        (None, false) => "no TLS",
    }
}

fn client_line(config: &Config, client: &Client) -> String {
    let algs: Vec<_> = client.keys.iter().map(|key| key.alg.as_str()).collect();
    let hsms: Vec<_> = client.hsms.iter().map(ToString::to_string).collect();
    let registered = if client.client_id.is_some() { "" } else { ", not registered yet" };
    let (keys, url) = (published_keys(client), config.jwks_url(client));
    let (algs, hsms) = (algs.join(", "), hsms.join(", "));
    format!("{}: {algs} on {hsms}, up to {keys} of {MAX_JWKS_KEYS} keys{registered}, {url}", client.name)
}

fn good_json(config: &Config) -> Value {
    let client = |client: &Client| {
        json!({
            "name": client.name,
            "registered": client.client_id.is_some(),
            "jwks_url": config.jwks_url(client),
            "most_keys": published_keys(client),
        })
    };
    let clients: Vec<_> = config.clients.iter().map(client).collect();
    json!({ "ok": true, "problems": [], "warnings": config.warnings, "clients": clients })
}

fn bad_json(error: &ConfigError) -> Value {
    json!({ "ok": false, "problems": error.problems, "warnings": [], "clients": [] })
}

/// What is wrong, for programs.
pub(super) fn problems(error: &ConfigError) -> Value {
    json!(error.problems)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(path: &str, json: bool) -> String {
        let Checked { text, exit_code } = run(path.as_ref(), role_of(path), json);
        format!("{}exit code {exit_code}\n", text.replace(env!("CARGO_MANIFEST_DIR"), "/repo"))
    }

    fn role_of(path: &str) -> Role {
        if path.contains("follower") { Role::Jwks } else { Role::All }
    }

    #[test]
    fn a_follower_is_summed_up() {
        insta::assert_snapshot!(shown("hsm-config/follower.toml", false), @r"
        OK: hsm-config/follower.toml
          role       jwks
          source     https://hallmark.internal:8443
          kept in    /var/lib/hallmark-jwks
          JWKS       0.0.0.0:8080, TLS
          metrics    127.0.0.1:9464
        exit code 0
        ");
    }

    #[test]
    fn a_good_file_is_summed_up() {
        insta::assert_snapshot!("good", shown("hsm-config/basic.toml", false));
        insta::assert_snapshot!("good_json", shown("hsm-config/basic.toml", true));
    }

    #[test]
    fn a_bad_file_exits_with_ex_config() {
        insta::assert_snapshot!("bad", shown("src/config/tests/bad/public-url.toml", false));
        insta::assert_snapshot!("bad_json", shown("src/config/tests/bad/public-url.toml", true));
    }
}
