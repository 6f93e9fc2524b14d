//! `hallmark csr` and `hallmark cert`: certificates for authorization servers that hold one.

use std::{
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use base64::{Engine, prelude::BASE64_STANDARD, prelude::BASE64_URL_SAFE_NO_PAD};
use hallmark_client::{Certificate, CertificateNames, CertificateRequest, Key, KeyChange, KeyChoice, KeyState};
use hallmark_core::certificate::{chain, pem, to_pem};
use serde_json::{Value, json};

use super::{
    Failure,
    args::{CertCommand, ChoiceArgs, CsrArgs, InstallArgs, NameArgs, SelfSignArgs, ShowCertArgs},
    connect::{As, connect, failure},
    keys::{made, render},
    output::{Output, distance, now, time},
};

pub(super) async fn csr(args: CsrArgs, connection: Option<PathBuf>, json: bool) -> Result<u8, Failure> {
    let CsrArgs { client, key, names, out, reason } = args;
    let hallmark = connect(connection, As::Operator)?;
    let request = hallmark.request_certificate(choice(&client, key), named(names), reason).await;
    let request = request.map_err(|error| failure(&error, &client))?;
    if let Some(out) = &out {
        let cause = fs::write(out, pem(REQUEST, &request.der));
        cause.map_err(|error| Failure::new(format!("can't write `{}`", out.display())).caused_by(&error))?;
    }
    if json { csr_as_json(&request) } else { csr_as_text(&request, &client, out.as_deref()) }.print()
}

pub(super) async fn cert(command: CertCommand, connection: Option<PathBuf>, json: bool) -> Result<u8, Failure> {
    match command {
        CertCommand::Install(args) => install(args, connection, json).await,
        CertCommand::SelfSign(args) => self_sign(args, connection, json).await,
        CertCommand::Show(args) => show(args, connection, json).await,
    }
}

async fn install(args: InstallArgs, connection: Option<PathBuf>, json: bool) -> Result<u8, Failure> {
    let InstallArgs { client, file, kid, order, force } = args;
    // Read here, so that a file with a private key in it goes nowhere.
    let chain = read(&file)?;
    let key = KeyChoice { client: client.clone(), kid, standby: false };
    let change = connect(connection, As::Operator)?.install_certificate(key, chain, made(order, force)).await;
    let change = change.map_err(|error| failure(&error, &client))?;
    told(&change, &format!("installed; see it: hallmark cert show {client}"), json)
}

async fn self_sign(args: SelfSignArgs, connection: Option<PathBuf>, json: bool) -> Result<u8, Failure> {
    let SelfSignArgs { client, days, key, names, order, force } = args;
    let lifetime = Duration::from_hours(24 * u64::from(days));
    let hallmark = connect(connection, As::Operator)?;
    let change = hallmark.self_sign_certificate(choice(&client, key), named(names), lifetime, made(order, force)).await;
    let change = change.map_err(|error| failure(&error, &client))?;
    told(&change, &format!("made and installed; see it: hallmark cert show {client}"), json)
}

async fn show(args: ShowCertArgs, connection: Option<PathBuf>, json: bool) -> Result<u8, Failure> {
    let ShowCertArgs { client, kid } = args;
    let keys = connect(connection, As::Operator)?.list_keys(Some(&client)).await;
    let mut keys = keys.map_err(|error| failure(&error, &client))?;
    keys.retain(|key| !is_over(key) && kid.as_ref().is_none_or(|kid| key.kid.as_ref() == Some(kid)));
    if json { show_as_json(&keys) } else { show_as_text(&keys, &client, now()) }.print()
}

/// Those that ended are of no interest to anyone who registers or renews.
fn is_over(key: &Key) -> bool {
    matches!(key.state, KeyState::Retired | KeyState::Compromised | KeyState::Destroyed)
}

fn read(file: &Path) -> Result<Vec<Vec<u8>>, Failure> {
    let cant = |error: io::Error| Failure::new(format!("can't read `{}`", file.display())).caused_by(&error);
    let mut bytes = Vec::new();
    let limit = u64::try_from(chain::LONGEST).unwrap_or(u64::MAX) + 1;
    fs::File::open(file).and_then(|file| file.take(limit).read_to_end(&mut bytes)).map_err(cant)?;
    chain::read(&bytes).map_err(|error| {
        Failure::new(format!("`{}` can't be installed: {}", file.display(), error.message))
            .detail("reason", error.reason.code())
    })
}

fn choice(client: &str, ChoiceArgs { kid, standby }: ChoiceArgs) -> KeyChoice {
    KeyChoice { client: client.to_owned(), kid, standby }
}

fn named(NameArgs { subject, san_uris, san_dns }: NameArgs) -> CertificateNames {
    CertificateNames { subject, san_uris, san_dns }
}

fn told(change: &KeyChange, done: &str, json: bool) -> Result<u8, Failure> {
    if json { Output::json(&render::change_as_json(change)) } else { render::change_as_text(change, done, now()) }
        .print()
}

fn csr_as_text(request: &CertificateRequest, client: &str, out: Option<&Path>) -> Output {
    let key = &request.key;
    let place = out.map(|out| format!(", in {}", out.display())).unwrap_or_default();
    let stderr = format!(
        "a request for {} key {} of `{client}` ({}){place}\n\
         have it signed by the CA that the authorization server trusts, then: hallmark cert install {client} FILE --reason \
         TEXT\n",
        key.state,
        key.kid.as_deref().unwrap_or("?"),
        key.alg,
    );
    let stdout = if out.is_none() { pem(REQUEST, &request.der) } else { String::new() };
    Output { stdout, stderr }
}

fn csr_as_json(request: &CertificateRequest) -> Output {
    let CertificateRequest { der, key } = request;
    Output::json(&json!({ "request": pem(REQUEST, der), "key": render::key_as_json(key) }))
}

fn show_as_text(keys: &[Key], client: &str, now: SystemTime) -> Output {
    let blocks: Vec<_> = keys.iter().filter_map(|key| Some(block(key, key.certificate.as_ref()?, now))).collect();
    let without = keys.iter().filter(|key| key.certificate.is_none());
    let without: Vec<_> = without.filter_map(|key| Some(format!("{} ({})", key.kid.as_deref()?, key.state))).collect();
    let mut stderr = String::new();
    if !without.is_empty() {
        stderr += &format!("without a certificate: {}\n", without.join(", "));
    }
    if blocks.is_empty() {
        stderr += &format!("ask for one with: hallmark csr {client}\n");
    }
    Output { stdout: blocks.join("\n"), stderr }
}

fn block(key: &Key, shown: &Certificate, now: SystemTime) -> String {
    let mut lines = vec![
        ("key", format!("{} ({}, {} on {})", key.kid.as_deref().unwrap_or("-"), key.state, key.alg, key.hsm)),
        // Texts of whoever issued it do not get to write on this terminal.
        ("subject", shown.subject.escape_debug().to_string()),
        ("issuer", shown.issuer.escape_debug().to_string()),
        ("serial", shown.serial.clone()),
    ];
    let at = |at: Option<SystemTime>| at.map_or("-".to_owned(), |at| format!("{}, {}", time(at), distance(now, at)));
    lines.push(("not before", at(shown.not_before)));
    lines.push(("not after", at(shown.not_after)));
    lines.extend(shown.san_uris.iter().map(|uri| ("SAN URI", uri.escape_debug().to_string())));
    lines.extend(shown.san_dns.iter().map(|dns| ("SAN DNS", dns.escape_debug().to_string())));
    lines.push(("SHA-1", render::hex(&shown.sha1)));
    lines.push(("SHA-256", render::hex(&shown.sha256)));
    lines.push(("x5t", BASE64_URL_SAFE_NO_PAD.encode(&shown.sha1)));
    lines.push(("x5t#S256", BASE64_URL_SAFE_NO_PAD.encode(&shown.sha256)));
    lines.push(("chain", format!("{} certificates, leaf first", key.certificate_chain.len())));
    let lines: String = lines.into_iter().map(|(name, value)| format!("{name:<12} {value}\n")).collect();
    lines + &to_pem(&key.certificate_chain)
}

fn show_as_json(keys: &[Key]) -> Output {
    let certified = keys.iter().filter_map(|key| Some((key, key.certificate.as_ref()?)));
    let one = |(key, shown): (&Key, &Certificate)| {
        let chain: Vec<_> = key.certificate_chain.iter().map(|der| BASE64_STANDARD.encode(der)).collect();
        json!({
            "kid": key.kid,
            "state": key.state.as_str(),
            "certificate": as_json(shown),
            "x5c": chain,
            "pem": to_pem(&key.certificate_chain),
        })
    };
    Output::json(&json!({ "certificates": certified.map(one).collect::<Vec<_>>() }))
}

/// What a leaf says, as listings of keys have it too.
pub(super) fn as_json(shown: &Certificate) -> Value {
    json!({
        "subject": shown.subject,
        "issuer": shown.issuer,
        "serial": shown.serial,
        "not_before": shown.not_before.map(time),
        "not_after": shown.not_after.map(time),
        "san_uris": shown.san_uris,
        "san_dns": shown.san_dns,
        "sha1": render::hex(&shown.sha1),
        "sha256": render::hex(&shown.sha256),
        "x5t": BASE64_URL_SAFE_NO_PAD.encode(&shown.sha1),
        "x5t#S256": BASE64_URL_SAFE_NO_PAD.encode(&shown.sha256),
    })
}

const REQUEST: &str = "CERTIFICATE REQUEST";

#[cfg(test)]
mod tests;
