//! Reads what a client says of its assertions and token requests beside its profile.

use std::time::Duration;

use hallmark_core::{
    policy::{Claims, is_reserved_claim},
    profile::{Audience, Iss, Makes, Profile},
};
use serde_json::value::to_raw_value;

use super::{problem::At, section::Section, url::Url, value::Mismatch};

/// What goes into the [`hallmark_core::client::Client`].
#[derive(Debug)]
pub(super) struct Assertions {
    pub(super) makes: Makes,
    pub(super) lead: Duration,
    pub(super) issuer: Option<String>,
    pub(super) iss: Option<String>,
    pub(super) claims: Claims,
    pub(super) form: Vec<(String, String)>,
}

/// All keys are asked for, whether there is a profile or not.
pub(super) fn assertions(s: &Section<'_>, profile: Option<&'static Profile>) -> Option<Assertions> {
    let issuer = issuer(s);
    let iss = s.get::<String>("iss");
    let claims = claims(s);
    let form = form(s, profile);
    let overrides = s.table("override", Overrides::read);

    let profile = profile?;
    let mut makes = profile.makes;
    let mut lead = profile.jwks.lead;
    if iss.is_some() {
        makes.iss = Iss::Registered;
    }
    if let Some(overrides) = overrides {
        overrides.apply(&mut makes, &mut lead);
    }
    let place = s.place_of("override");
    for objection in profile.objections(&makes) {
        let what = format!("`{}` of profile `{}`: {objection}", objection.field, profile.name);
        s.warn(&place, what, "take the override away, unless the site says otherwise");
    }
    if makes.aud == Audience::Issuer && issuer.is_none() {
        let hint = "add `issuer = \"…\"`, byte for byte as in its discovery document";
        s.error(s.place(), "`issuer` in [[client]] is missing, and it is to be `aud`", hint);
    }
    if makes.iss == Iss::Registered && iss.is_none() {
        let hint = "add `iss = \"…\"`: what was registered at the authorization server beside the client_id";
        s.error(s.place(), format!("`iss` in [[client]] is missing, and profile `{}` needs it", profile.name), hint);
    }
    for claim in profile.accepts.claims.is {
        if !claims.0.iter().any(|(name, _)| name == claim) {
            let what = format!("profile `{}` needs claim `{claim}`, and `claims` does not have it", profile.name);
            s.warn(s.place(), what, "add it, or let each workload send it");
        }
    }
    Some(Assertions { makes, lead, issuer, iss: iss.map(|iss| iss.value), claims, form })
}

/// `override`: what this client's assertions have otherwise than its profile says.
struct Overrides {
    typ: Option<hallmark_core::profile::Typ>,
    kid: Option<bool>,
    jku: Option<bool>,
    x5c: Option<bool>,
    x5t: Option<bool>,
    x5t_s256: Option<bool>,
    audience: Option<Audience>,
    lifetime: Option<Duration>,
    backdate: Option<Duration>,
    iat: Option<bool>,
    nbf: Option<bool>,
    lead: Option<Duration>,
}

impl Overrides {
    fn read(s: &Section<'_>) -> Self {
        let flag = |key| s.get::<bool>(key).map(|flag| flag.value);
        let duration = |key, range| s.has(key).then(|| s.within(key, Duration::ZERO, &range));
        Self {
            typ: s.get("typ").map(|typ| typ.value),
            kid: flag("kid"),
            jku: flag("jku"),
            x5c: flag("x5c"),
            x5t: flag("x5t"),
            x5t_s256: flag("x5t_s256"),
            audience: s.get("audience").map(|audience| audience.value),
            lifetime: duration("lifetime", SHORTEST..=LONGEST),
            backdate: duration("backdate", Duration::ZERO..=Duration::from_mins(1)),
            iat: flag("iat"),
            nbf: flag("nbf"),
            lead: duration("lead", Duration::ZERO..=Duration::from_hours(30 * 24)),
        }
    }

    fn apply(self, makes: &mut Makes, lead: &mut Duration) {
        makes.typ = self.typ.unwrap_or(makes.typ);
        makes.kid = self.kid.unwrap_or(makes.kid);
        makes.jku = self.jku.unwrap_or(makes.jku);
        makes.x5c = self.x5c.unwrap_or(makes.x5c);
        makes.x5t = self.x5t.unwrap_or(makes.x5t);
        makes.x5t_s256 = self.x5t_s256.unwrap_or(makes.x5t_s256);
        makes.aud = self.audience.unwrap_or(makes.aud);
        makes.lifetime = self.lifetime.unwrap_or(makes.lifetime);
        makes.backdate = self.backdate.unwrap_or(makes.backdate);
        makes.iat = self.iat.unwrap_or(makes.iat);
        makes.nbf = self.nbf.unwrap_or(makes.nbf);
        *lead = self.lead.unwrap_or(*lead);
    }
}

/// Byte for byte as given: it may become `aud`.
fn issuer(s: &Section<'_>) -> Option<String> {
    let At { value: text, place } = s.get::<String>("issuer")?;
    if let Err(Mismatch { what, hint }) = Url::check(&text) {
        s.error(&place, format!("`issuer` in [[client]]: {what}"), hint);
    }
    Some(text)
}

fn claims(s: &Section<'_>) -> Claims {
    let Some(At { value: claims, place }) = s.json("claims") else { return Claims::default() };
    for name in claims.keys().filter(|name| is_reserved_claim(name)) {
        s.error(&place, format!("`claims` in [[client]] has one that Hallmark sets: `{name}`"), "leave it out");
    }
    // A value of JSON always makes a text of JSON.
    Claims(claims.into_iter().filter_map(|(name, value)| Some((name, to_raw_value(&value).ok()?))).collect())
}

/// Hallmark's own fields, and what would give the authorization server another way to know the client.
const OWN_FIELDS: [&str; 6] =
    ["grant_type", "scope", "client_id", "client_secret", "client_assertion", "client_assertion_type"];

fn form(s: &Section<'_>, profile: Option<&Profile>) -> Vec<(String, String)> {
    let Some(At { value: fields, place }) = s.texts("form") else { return Vec::new() };
    let fixed = profile.map_or(&[][..], |profile| profile.token_request.fixed);
    for name in fields.keys() {
        if OWN_FIELDS.contains(&name.as_str()) || fixed.iter().any(|(fixed, _)| fixed == name) {
            s.error(&place, format!("`form` in [[client]] has a field that Hallmark sets: `{name}`"), "leave it out");
        }
    }
    fields.into_iter().collect()
}

/// No assertion lives longer (`core::lifecycle::gates` counts on it), nor so short that it is over before it arrives.
const LONGEST: Duration = Duration::from_secs(300);
const SHORTEST: Duration = Duration::from_secs(10);
