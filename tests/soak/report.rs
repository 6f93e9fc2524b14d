//! The result, in Markdown.

use std::{fmt::Write, time::Duration};

use super::{Plan, clock::faked, tally::Seen};

pub(super) fn table(plan: &Plan, seen: &Seen, took: Duration) -> String {
    let mut text = format!("\n### {}\n\n| | |\n|---|---|\n", plan.name);
    let mut row = |name: &str, value: String| writeln!(text, "| {name} | {value} |").unwrap();
    row("time, real and faked", format!("{} s, {} min", took.as_secs(), faked(took).as_secs() / 60));
    row("key lines, callers", format!("{}, {}", plan.lines, plan.callers));
    row("rotations", seen.rotations().to_string());
    row("keys that left the JWKS", seen.retired.to_string());
    row("servers killed and started again", plan.kills.to_string());
    row("database stopped for 10 s", if plan.database_stops { "once" } else { "no" }.to_owned());
    row("signatures", seen.signatures.to_string());
    for (when, count) in &seen.accepted {
        row(&format!("accepted {when}"), count.to_string());
    }
    row("**refused**", format!("**{}**", seen.refused.len()));
    row("asked again, for the JWKS could not be fetched", seen.unreachable.to_string());
    row("shown too late by the test", seen.expired.to_string());
    for (reason, count) in &seen.failures {
        row(&format!("calls that failed: {reason}"), count.to_string());
    }
    row("longest gap of a client without a signature", seen.longest_gap.to_string());
    text
}
