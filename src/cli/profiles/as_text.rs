//! A profile for people at a terminal.

use hallmark_core::profile::Profile;

use super::sheet::{self, Fact, Known};
use crate::cli::output::table;

pub(super) fn profile(profile: &Profile) -> String {
    let mut text = format!("{}: {}\n", profile.name, profile.system);
    text += &titled("what is sent", &facts(&sheet::sent(profile)));
    text += &titled("what is checked", &rules(&sheet::checked(profile)));
    text += &titled("token request", &facts(&sheet::form(profile)));
    text += &titled("registration", &sentences(&sheet::registration(profile)));
    text += &titled("JWKS", &(facts(&sheet::jwks(profile)) + &rules(&sheet::jwks_rules(profile))));
    text += &titled("when a key is compromised", &sentences(profile.on_revocation));
    text += &titled("not verified: ask the site", &sentences(profile.unverified));
    text += &titled("refusals", &refusals(profile));
    text
}

/// Nothing, where nothing is below the title.
fn titled(title: &str, body: &str) -> String {
    if body.is_empty() {
        return String::new();
    }
    let indented: String = body.lines().map(|line| format!("  {line}\n")).collect();
    format!("\n{title}\n{indented}")
}

fn facts(facts: &[Fact]) -> String {
    let rows: Vec<_> = facts.iter().map(|(name, what)| [(*name).to_owned(), what.clone()]).collect();
    table(&rows)
}

fn rules(rules: &[Known]) -> String {
    let row = |rule: &Known| {
        let how = format!("({}: {})", rule.evidence.as_str(), rule.source);
        [rule.name.to_owned(), rule.is.clone(), how]
    };
    table(&rules.iter().map(row).collect::<Vec<_>>())
}

fn sentences(sentences: &[impl AsRef<str>]) -> String {
    sentences.iter().map(|sentence| format!("- {}\n", sentence.as_ref())).collect()
}

fn refusals(profile: &Profile) -> String {
    let one = |refusal: &hallmark_core::profile::Refusal| {
        let says = if refusal.says.is_empty() { "(whatever it says)" } else { refusal.says };
        format!("{says}\n    {}\n    hint: {}\n", refusal.means, refusal.remedy)
    };
    profile.refusals.iter().map(one).collect()
}
