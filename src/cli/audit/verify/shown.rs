//! A verdict, for people.

use hallmark_core::audit::finding::{Finding, Verdict};

use super::super::shown_time;
use crate::cli::output::printable;

/// What was found of one chain, line by line.
pub(super) fn text(verdict: &Verdict) -> String {
    let state = match verdict.findings.len() as u64 + verdict.more_findings {
        0 => "whole".to_owned(),
        1 => "1 finding".to_owned(),
        count => format!("{count} findings"),
    };
    let instance = printable(&verdict.instance);
    let mut text = match &verdict.end {
        Some(end) => {
            format!(
                "{instance}: records {} to {}, {} checkpoints: {state}\n",
                verdict.first, end.seq, verdict.checkpoints
            )
        }
        None => format!("{instance}: no records: {state}\n"),
    };
    text += &format!("  {}\n", proof(verdict));
    for Finding { kind, file, text: what, .. } in &verdict.findings {
        text += &format!("  ✗ {kind}: {} (in `{}`)\n", printable(what), printable(file));
    }
    if verdict.more_findings > 0 {
        text += &format!("  ✗ and {} more\n", verdict.more_findings);
    }
    let notes = verdict.notes.iter().map(|note| format!("  – {}\n", printable(note)));
    text + &notes.collect::<String>()
}

fn proof(verdict: &Verdict) -> String {
    let end = verdict.end.as_ref().map_or(0, |end| end.seq);
    match &verdict.proven {
        Some(proven) => {
            let behind = end.saturating_sub(proven.place.seq);
            let by = match proven.signed {
                true => "proven",
                false => "not proven, for no custody key was given: consistent",
            };
            let time = shown_time(proven.time);
            format!(
                "{by} up to record {} by a checkpoint of {time}; {behind} records behind it are only chained",
                proven.place.seq
            )
        }
        None => format!("not proven: no checkpoint holds; {end} records are only chained"),
    }
}
