//! `hallmark rotation rehearse`: reads a client's public JWKS URL as an authorization server would, and proves that the
//! next key is there before it signs.
//!
//! [`fetch`] goes there; [`check`] looks at what came back, and touches nothing.

mod check;
mod fetch;

use std::path::PathBuf;

use hallmark_client::{Client, Confirmation, Key, KeyAction, Order};
use serde_json::{Value, json};

use self::check::{Finding, is_standby};
use super::{
    Failure,
    args::RehearseArgs,
    connect::{As, connect, failure},
    output::Output,
    urls::refuse_userinfo,
};

pub(super) async fn run(args: RehearseArgs, connection: Option<PathBuf>, json: bool) -> Result<u8, Failure> {
    let RehearseArgs { client, url, ca, dry_run } = args;
    url.iter().try_for_each(|url| refuse_userinfo("the URL", url))?;
    let hallmark = connect(connection, As::Operator)?;
    let keys = hallmark.list_keys(Some(&client)).await.map_err(|error| failure(&error, &client))?;
    let url = match url {
        Some(url) => url,
        None => hallmark.jwks(&client).await.map_err(|error| failure(&error, &client))?.url,
    };
    let mut findings = vec![check::scheme(&url)];
    match fetch::fetch(&url, ca.as_deref()).await? {
        Ok(answer) => findings.extend(check::check(&keys, &answer)),
        Err(unreachable) => findings.push(unreachable),
    }
    let proved = findings.iter().all(|finding| finding.good);
    let confirmed = if proved && !dry_run { confirm(&hallmark, &client, &keys, &url).await? } else { Vec::new() };
    let rehearsal = Rehearsal { client, url, findings, confirmed, dry_run };
    if json { Output::json(&rehearsal.as_json()) } else { rehearsal.as_text() }.print()?;
    Ok(u8::from(!proved))
}

/// Tells the server that the next keys were seen. Gives their kids.
async fn confirm(hallmark: &Client, client: &str, keys: &[Key], url: &str) -> Result<Vec<String>, Failure> {
    let mut confirmed = Vec::new();
    for kid in keys.iter().filter(|key| is_standby(key)).filter_map(|key| key.kid.clone()) {
        // The audit log takes 1024 bytes, a URL may have more.
        let reason: String = format!("rehearsed at {url}").chars().take(250).collect();
        let done = hallmark.alter_key(KeyAction::Confirm(Confirmation::Rehearsed), &kid, Order::new(reason)).await;
        done.map_err(|error| failure(&error, client))?;
        confirmed.push(kid);
    }
    Ok(confirmed)
}

/// What was seen, for printing.
struct Rehearsal {
    client: String,
    url: String,
    findings: Vec<Finding>,
    confirmed: Vec<String>,
    dry_run: bool,
}

impl Rehearsal {
    fn as_text(&self) -> Output {
        let mut stdout = format!("{}\n", self.url);
        for Finding { good, what, hint } in &self.findings {
            stdout += &format!("{} {what}\n", if *good { '✓' } else { '✗' });
            if let Some(hint) = hint {
                stdout += &format!("    {hint}\n");
            }
        }
        let client = &self.client;
        let bad = self.findings.iter().filter(|finding| !finding.good).count();
        let stderr = match (bad, self.dry_run) {
            (0, true) => format!("`{client}` is ready for its next rotation; the server was not told: --dry-run\n"),
            (0, false) => format!("`{client}` is ready for its next rotation, and the server knows\n"),
            (1, _) => format!("`{client}` is not ready for its next rotation: 1 finding; the server was not told\n"),
            _ => format!("`{client}` is not ready for its next rotation: {bad} findings; the server was not told\n"),
        };
        Output { stdout, stderr }
    }

    fn as_json(&self) -> Value {
        let finding = |finding: &Finding| json!({ "ok": finding.good, "what": finding.what, "hint": finding.hint });
        let findings: Vec<_> = self.findings.iter().map(finding).collect();
        let ok = self.findings.iter().all(|finding| finding.good);
        json!({ "client": self.client, "url": self.url, "ok": ok, "findings": findings, "confirmed": self.confirmed })
    }
}

#[cfg(test)]
mod tests;
