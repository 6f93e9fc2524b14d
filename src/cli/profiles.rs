//! `hallmark profiles`: what is known of each kind of authorization server. Needs no server of ours.

use hallmark_core::profile::Profile;
use serde_json::{Value, json};

use super::{
    Failure, USAGE,
    args::{ProfilesCommand, ShowProfileArgs},
    output::{Output, table},
};

mod as_json;
mod as_markdown;
mod as_text;
mod sheet;

pub(super) fn run(command: ProfilesCommand, json: bool) -> Result<u8, Failure> {
    match command {
        ProfilesCommand::List if json => Output::json(&list_json()),
        ProfilesCommand::List => Output { stdout: list_text(), stderr: String::new() },
        ProfilesCommand::Show(args) => show(&args, json)?,
    }
    .print()
}

fn show(args: &ShowProfileArgs, json: bool) -> Result<Output, Failure> {
    let profile = Profile::find(&args.name).ok_or_else(|| unknown(&args.name))?;
    let print = match (json, args.markdown) {
        (true, _) => return Ok(Output::json(&as_json::profile(profile))),
        (false, true) => as_markdown::profile,
        (false, false) => as_text::profile,
    };
    Ok(Output { stdout: print(profile), stderr: String::new() })
}

fn unknown(name: &str) -> Failure {
    let near = |candidate: &str| strsim::jaro_winkler(name, candidate);
    let best = Profile::names().max_by(|a, b| near(a).total_cmp(&near(b)));
    let hint = match best.filter(|best| near(best) > 0.8) {
        Some(best) => format!("did you mean `{best}`? all of them: hallmark profiles list"),
        None => "see which there are: hallmark profiles list".to_owned(),
    };
    Failure::new(format!("unknown profile: `{name}`")).hint(hint).with_exit_code(USAGE)
}

fn list_text() -> String {
    let head = ["NAME", "KEY HELD AS", "ALGORITHMS", "SYSTEM"].map(str::to_owned);
    let row = |profile: &Profile| {
        let algs = sheet::algs(profile.accepts.algs.is);
        [profile.name.to_owned(), profile.binding.as_str().to_owned(), algs, profile.system.to_owned()]
    };
    let rows: Vec<_> = std::iter::once(head).chain(Profile::all().map(row)).collect();
    table(&rows)
}

fn list_json() -> Value {
    let one = |profile: &Profile| {
        let algs: Vec<_> = profile.accepts.algs.is.iter().map(|alg| alg.as_str()).collect();
        json!({
            "name": profile.name,
            "system": profile.system,
            "binding": profile.binding.as_str(),
            "algs": algs,
            "default": profile.name == Profile::DEFAULT,
        })
    };
    json!({ "profiles": Profile::all().map(one).collect::<Vec<_>>() })
}

#[cfg(test)]
mod tests;
