//! What `hallmark inspect` prints.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hallmark_core::{
    inspect::{Finding, Inspection, Part, Signature, printable},
    profile::Profile,
};
use serde_json::{Value, json};

use super::{
    super::output::{Output, distance, time},
    counts,
};

pub(super) fn output(inspection: &Inspection, profile: &Profile, now: SystemTime, json: bool) -> Output {
    if json {
        return Output::json(&json!({
            "ok": !inspection.has_errors(),
            "profile": profile.name,
            "at": time(now),
            "header": inspection.header,
            "claims": inspection.claims,
            "signature": inspection.signature,
            "findings": inspection.findings,
        }));
    }
    let mut text = part("header", inspection.header.as_ref(), now);
    text += &part("claims", inspection.claims.as_ref(), now);
    text += &match &inspection.signature {
        Signature::Verified(key) => format!("signature\n  verified with {key}\n"),
        Signature::Failed(why) => format!("signature\n  FAILED: {why}\n"),
        Signature::NotChecked(why) => format!("signature\n  not checked: {why}\n"),
    };
    text += &format!("\n{}", summary(inspection, profile));
    text.extend(inspection.findings.iter().map(finding));
    Output { stdout: text, ..Output::default() }
}

fn summary(inspection: &Inspection, profile: &Profile) -> String {
    let of = format!("for `{}` ({})", profile.name, profile.system);
    match inspection.findings.is_empty() {
        true => match inspection.signature {
            Signature::NotChecked(_) => format!("OK: nothing is wrong with what it says {of}\n"),
            _ => format!("OK: nothing is wrong with it {of}\n"),
        },
        false => format!("{} {of}\n", counts(inspection)),
    }
}

fn finding(finding: &Finding) -> String {
    let Finding { severity, what, hint, rule, .. } = finding;
    let what = printable(what);
    format!("\n{}: {what}\n  rule: {rule}\n  hint: {hint}\n", severity.as_str())
}

fn part(title: &str, part: Option<&Part>, now: SystemTime) -> String {
    let mut text = format!("{title}\n");
    let Some(part) = part else { return text + "  can't be read\n" };
    let width = part.members().map(|(name, _)| printable(name).chars().count()).max().unwrap_or(0).min(WIDEST_NAME);
    for (name, value) in part.members() {
        let date = if DATES.contains(&name) { date(value, now) } else { String::new() };
        text += &format!("  {:width$}  {}{date}\n", printable(name), shortened(&printable(&value.to_string())));
    }
    text
}

/// In the calendar, and how far from now.
fn date(value: &Value, now: SystemTime) -> String {
    let seconds = value.as_u64().filter(|seconds| *seconds <= END_OF_9999);
    let Some(at) = seconds.and_then(|seconds| UNIX_EPOCH.checked_add(Duration::from_secs(seconds))) else {
        return String::new();
    };
    format!("  {}, {}", time(at), distance(now, at))
}

/// Certificates and the like are long, and nobody reads them here.
fn shortened(text: &str) -> String {
    match text.char_indices().nth(LONGEST_VALUE) {
        Some((at, _)) => format!("{}… ({} bytes)", &text[..at], text.len()),
        None => text.to_owned(),
    }
}

const DATES: [&str; 3] = ["iat", "nbf", "exp"];
/// What RFC 3339 can write.
const END_OF_9999: u64 = 253_402_300_799;
const LONGEST_VALUE: usize = 160;
const WIDEST_NAME: usize = 24;
