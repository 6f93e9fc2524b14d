//! The `[[client]]` section, ready to paste.

use hallmark_core::{
    discovery::{Discovery, Guess},
    key::{Alg, ClientName},
    profile::{Audience, Iss, Profile},
};
use toml::Value;

use super::printable;

/// One for the guessed profile, and one for Carequality's endpoint where the server has that too. What can't be pasted is
/// left out, and `remarks` say so.
pub(super) fn sections(
    discovery: &Discovery,
    guess: Option<&Guess>,
    name: Option<&ClientName>,
    remarks: &mut Vec<String>,
) -> String {
    let (Some((kind, endpoint)), Some(guess)) = (discovery.token_endpoint(), guess) else { return String::new() };
    let issuer = discovery.issuer().filter(|_| guess.profile.makes.aud == Audience::Issuer);
    let pasted = [("token endpoint", Some(endpoint)), ("issuer", issuer.map(|(_, issuer)| issuer))];
    let refused: Vec<_> = pasted.into_iter().filter_map(|(what, url)| refusal(what, url?)).collect();
    if !refused.is_empty() {
        remarks.extend(refused);
        return String::new();
    }
    let name = name.map_or_else(|| name_of(endpoint), ClientName::to_string);
    let why = format!("{}: {}", guess.profile.system, printable(&guess.why));
    let from = format!("from {}, byte for byte: it becomes `aud`", kind.as_str());
    let mut text = section(discovery, guess.profile, &name, &why, (&from, endpoint));
    let carequality =
        discovery.documents.iter().find_map(|(_, document)| document.carequality_token_endpoint.as_deref());
    if let (Some(endpoint), Some(profile)) = (carequality, Profile::find("cerner-carequality-2019"))
        && profile != guess.profile
    {
        if let Some(remark) = refusal("token endpoint of Carequality", endpoint) {
            remarks.push(remark);
            return text;
        }
        // A client name has no characters of several bytes.
        let name = format!("{}-cq", &name[..name.len().min(60)]);
        let from = "from `carequality-token`, byte for byte: it becomes `aud`";
        text += "\n";
        text += &section(discovery, profile, &name, profile.system, (from, endpoint));
    }
    text
}

/// Why a URL is not to be pasted. An editor or a terminal could show another text than the one that becomes `aud`.
fn refusal(what: &str, url: &str) -> Option<String> {
    let is_plain = url.bytes().all(|byte| byte.is_ascii_graphic());
    let text = || format!("no section: the {what} `{}` has characters that no URL has", printable(url));
    (!is_plain).then(text)
}

fn section(discovery: &Discovery, profile: &Profile, name: &str, why: &str, (from, endpoint): (&str, &str)) -> String {
    let mut lines = vec![
        format!("# {why}"),
        "[[client]]".to_owned(),
        format!("name = {}", quoted(name)),
        "# client_id = what the authorization server calls it, once it is registered".to_owned(),
        format!("profile = {}", quoted(profile.name)),
        format!("# {from}"),
        format!("token_endpoint = {}", quoted(endpoint)),
    ];
    match discovery.issuer() {
        Some((_, issuer)) if profile.makes.aud == Audience::Issuer => {
            lines.push(format!("issuer = {}", quoted(issuer)));
        }
        None if profile.makes.aud == Audience::Issuer => {
            lines.push("issuer = \"\" # ask the site: it is to be `aud`, and no document has it".to_owned());
        }
        _ => {}
    }
    if profile.makes.iss == Iss::Registered {
        lines.push("iss = \"\" # what is registered beside the client_id".to_owned());
    }
    for claim in profile.accepts.claims.is {
        lines.push(format!("# claims = {{ {claim} = … }}: see `hallmark profiles show {}`", profile.name));
    }
    lines.push("hsm = [\"main\"]".to_owned());
    lines.push(format!("keys = [{{ alg = {} }}]", quoted(alg(discovery, profile).as_str())));
    lines.join("\n") + "\n"
}

/// The first of the profile's algorithms that the server lists; the profile's default where it lists none of them.
fn alg(discovery: &Discovery, profile: &Profile) -> Alg {
    let listed = discovery.signing_algs();
    let shared = profile.accepts.algs.is.iter().find(|alg| listed.iter().any(|name| name == alg.as_str()));
    shared.copied().unwrap_or_else(|| profile.default_alg())
}

/// Of the host: `fhir-ehr-example-com`.
fn name_of(endpoint: &str) -> String {
    let rest = endpoint.split_once("://").map_or(endpoint, |(_, rest)| rest);
    let host = rest.split(['/', '?', '#', ':']).next().unwrap_or(rest).to_ascii_lowercase();
    let plain = |char: char| if char.is_ascii_alphanumeric() { char } else { '-' };
    let name: String = host.chars().map(plain).take(60).collect();
    let name = name.trim_matches('-').to_owned();
    if name.is_empty() { "client".to_owned() } else { name }
}

/// As TOML writes it, control characters escaped.
fn quoted(text: &str) -> String {
    Value::String(text.to_owned()).to_string()
}
