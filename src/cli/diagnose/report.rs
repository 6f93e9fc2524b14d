//! Causes, for printing. All of it may be foreign text.

use hallmark_core::diagnosis::{Cause, printable};
use serde_json::{Value, json};

/// The likeliest first, numbered.
pub(in crate::cli) fn as_text(causes: &[Cause]) -> String {
    let mut text = String::new();
    for (number, cause) in causes.iter().enumerate() {
        let Cause { what, why, next, evidence, certainty, .. } = cause;
        let known =
            evidence.map(|(evidence, source)| format!(" ({}: {source})", evidence.as_str())).unwrap_or_default();
        text += &format!("{}. {} [{}]{known}\n", number + 1, printable(what, MOST), certainty.as_str());
        text += &format!("     why   {}\n     next  {}\n", printable(why, MOST), printable(next, MOST));
    }
    text
}

/// In the same order.
pub(in crate::cli) fn as_json(causes: &[Cause]) -> Value {
    let cause = |cause: &Cause| {
        json!({
            "about": cause.about.as_str(),
            "certainty": cause.certainty.as_str(),
            "what": printable(&cause.what, MOST),
            "why": printable(&cause.why, MOST),
            "next": printable(&cause.next, MOST),
            "evidence": cause.evidence.map(|(evidence, _)| evidence.as_str()),
            "source": cause.evidence.map(|(_, source)| source),
        })
    };
    causes.iter().map(cause).collect()
}

/// An answer's body in lines that steer no terminal.
pub(in crate::cli) fn body(body: &str) -> String {
    let lines = body.trim().lines().map(|line| format!("  {}\n", printable(line, MOST_BODY)));
    lines.collect::<String>().chars().take(MOST_BODY).collect()
}

const MOST: usize = 1000;
/// Of a body, in characters.
const MOST_BODY: usize = 2048;

#[cfg(test)]
mod tests {
    use hallmark_core::{
        diagnosis::{About, Certainty},
        profile::Evidence,
    };

    use super::*;

    fn cause() -> Cause {
        Cause {
            about: About::Audience,
            certainty: Certainty::Found,
            what: "`aud` is \u{1b}[31mred\u{9b}".to_owned(),
            why: "one\nline".to_owned(),
            next: "set it".to_owned(),
            evidence: Some((Evidence::Measured, "somewhere")),
        }
    }

    #[test]
    fn nothing_foreign_steers_a_terminal() {
        insta::assert_snapshot!(as_text(&[cause()]), @r"
        1. `aud` is \u{1b}[31mred\u{9b} [found] (measured: somewhere)
             why   one\nline
             next  set it
        ");
        let json = as_json(&[cause()]).to_string();
        assert!(!json.contains("\\u001b") && !json.contains('\u{9b}'), "{json}");
        assert_eq!(body("<html>\r\n\u{1b}]0;title\u{7}\u{202e}x\n"), "  <html>\n  \\u{1b}]0;title\\u{7}\\u{202e}x\n");
        assert!(body(&"ä".repeat(10_000)).chars().count() <= MOST_BODY);
    }
}
