//! A profile as the pages in `docs/profiles/` have it, and the tables of all profiles.

use hallmark_core::profile::{Profile, Refusal};

use super::sheet::{self, Fact, Known};

pub(super) fn profile(profile: &Profile) -> String {
    let mut text = format!("Profile `{}`: {}.\n", profile.name, profile.system);
    text += &titled("What is sent", &facts(&sheet::sent(profile)));
    text += &titled("What is checked, and how that is known", &rules(&sheet::checked(profile)));
    text += &titled("The token request", &facts(&sheet::form(profile)));
    text += &titled("Registration", &sentences(&sheet::registration(profile)));
    text += &titled("The JWKS", &(facts(&sheet::jwks(profile)) + "\n" + &rules(&sheet::jwks_rules(profile))));
    text += &titled("When a key is compromised", &sentences(profile.on_revocation));
    text += &titled("Not verified: ask the site", &sentences(profile.unverified));
    text += &titled("Refusals", &refusals(profile.refusals));
    text
}

/// All profiles; `folder` is where their pages are, as seen from the page that has the table.
#[cfg(test)]
pub(super) fn index(folder: &str) -> String {
    let mut text = "| profile | system | algorithms | what holds the key |\n|---|---|---|---|\n".to_owned();
    for profile in Profile::all() {
        let (name, system, held) = (profile.name, cell(profile.system), sheet::binding(profile.binding));
        text += &format!(
            "| [`{name}`]({folder}{name}.md) | {system} | {} | {held} |\n",
            sheet::algs(profile.accepts.algs.is)
        );
    }
    text
}

fn titled(title: &str, body: &str) -> String {
    if body.is_empty() { String::new() } else { format!("\n### {title}\n\n{body}") }
}

fn facts(facts: &[Fact]) -> String {
    let rows = facts.iter().map(|(name, what)| format!("| `{name}` | {} |\n", cell(what)));
    format!("| | |\n|---|---|\n{}", rows.collect::<String>())
}

fn rules(rules: &[Known]) -> String {
    let row = |rule: &Known| {
        format!("| {} | {} | {}: {} |\n", rule.name, cell(&rule.is), rule.evidence.as_str(), cell(rule.source))
    };
    format!("| | rule | known from |\n|---|---|---|\n{}", rules.iter().map(row).collect::<String>())
}

fn sentences(sentences: &[impl AsRef<str>]) -> String {
    sentences.iter().map(|sentence| format!("- {}\n", sentence.as_ref())).collect()
}

fn refusals(refusals: &[Refusal]) -> String {
    let row = |refusal: &Refusal| {
        let says = if refusal.says.is_empty() { "anything".to_owned() } else { code(refusal.says) };
        format!("| {says} | {} | {} |\n", cell(refusal.means), cell(refusal.remedy))
    };
    format!("| it says | it means | do |\n|---|---|---|\n{}", refusals.iter().map(row).collect::<String>())
}

/// What a table can hold.
fn cell(text: &str) -> String {
    text.replace('|', "\\|")
}

/// As code, also where it has back-ticks itself.
fn code(text: &str) -> String {
    if text.contains('`') { format!("`` {} ``", cell(text)) } else { format!("`{}`", cell(text)) }
}
