//! A profile in words: the one place that text, Markdown and JSON are made from.

use std::time::Duration;

use hallmark_core::{
    key::Alg,
    profile::{Audience, Binding, Certificate, Evidence, Handover, How, Iss, Jti, Need, Profile, Rule, Typ},
};

/// A name and what stands for it.
pub(super) type Fact = (&'static str, String);

/// A rule in words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Known {
    /// What it is about; the JSON key too.
    pub(super) name: &'static str,
    pub(super) is: String,
    pub(super) evidence: Evidence,
    pub(super) source: &'static str,
}

/// The assertion as Hallmark makes it.
pub(super) fn sent(profile: &Profile) -> Vec<Fact> {
    let makes = &profile.makes;
    let mut facts = vec![("alg", format!("{}, unless `keys` names another", profile.default_alg()))];
    let mut member = |sent: bool, name, what: &str| facts.extend(sent.then(|| (name, what.to_owned())));
    member(makes.typ != Typ::Absent, "typ", &typ(makes.typ));
    member(makes.kid, "kid", "that of the key");
    member(makes.jku, "jku", "the JWKS URL");
    member(makes.x5c, "x5c", "the certificate chain, leaf first");
    member(makes.x5t, "x5t", "the certificate's SHA-1 thumbprint");
    member(makes.x5t_s256, "x5t#S256", "the certificate's SHA-256 thumbprint");
    member(true, "iss", iss(makes.iss));
    member(true, "sub", "the client_id");
    member(true, "aud", audience(makes.aud));
    member(true, "jti", "a new UUID for each assertion");
    member(makes.iat, "iat", &format!("{} ago", seconds(makes.backdate)));
    member(makes.nbf, "nbf", "as `iat`");
    member(true, "exp", &format!("`iat` and {}", seconds(makes.lifetime)));
    for claim in profile.accepts.claims.is {
        member(true, claim, "from `claims` of the [[client]], or from the workload");
    }
    facts
}

/// What the system checks of an assertion.
pub(super) fn checked(profile: &Profile) -> Vec<Known> {
    let a = &profile.accepts;
    vec![
        known("alg", &a.algs, algs),
        known("typ", &a.typ, |is| list(is.iter().map(|is| typ(*is)))),
        known("kid", &a.kid, |is| need(is).to_owned()),
        known("jku", &a.jku, |is| need(is).to_owned()),
        known("certificate", &a.certificate, |is| certificate(is).to_owned()),
        known("iss", &a.iss, |is| iss(is).to_owned()),
        known("aud", &a.aud, |is| list(is.iter().map(|is| audience(*is).to_owned()))),
        known("aud as an array", &a.aud_array, |is| if is { "taken" } else { "refused" }.to_owned()),
        known("lifetime", &a.lifetime, limit),
        known("iat", &a.iat, |is| need(is).to_owned()),
        known("age of iat", &a.iat_age, limit),
        known("nbf", &a.nbf, |is| need(is).to_owned()),
        known("clock skew", &a.skew, |is| skew(is, a.skew.evidence)),
        known("jti", &a.jti, jti),
        known("claims", &a.claims, |is| if is.is_empty() { "no others".to_owned() } else { is.join(", ") }),
    ]
}

/// The form of the token request.
pub(super) fn form(profile: &Profile) -> Vec<Fact> {
    let rules = &profile.token_request;
    let mut facts: Vec<Fact> =
        vec![("grant_type", "client_credentials".to_owned()), ("scope", "what the caller asks for".to_owned())];
    facts.extend(rules.client_id.then(|| ("client_id", "as the assertion has it".to_owned())));
    facts.push(("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer".to_owned()));
    facts.push(("client_assertion", "the assertion".to_owned()));
    facts.extend(rules.fixed.iter().map(|(name, value)| (*name, (*value).to_owned())));
    facts.extend(
        rules.optional.iter().map(|(name, when)| (*name, format!("only with `form` of the [[client]]: {when}"))),
    );
    facts
}

/// How the client is made known, a sentence each.
pub(super) fn registration(profile: &Profile) -> Vec<String> {
    let registration = &profile.registration;
    let mut lines = vec![how(&registration.how)];
    if let How::Portal(fields) = registration.how {
        lines.extend(fields.iter().map(|field| format!("field `{}`: {}", field.label, handover(field.value))));
    }
    if !registration.hands_over.is_empty() {
        let things = registration.hands_over.iter().map(|thing| handover(*thing).to_owned());
        lines.push(format!("it is given: {}", list(things)));
    }
    lines.extend(registration.steps.iter().map(|step| (*step).to_owned()));
    lines.extend(registration.uploaded_algs.map(|rule| {
        let (evidence, source) = (rule.evidence.as_str(), rule.source);
        format!("keys that are uploaded themselves: {} ({evidence}: {source})", algs(rule.is))
    }));
    lines
}

/// What becomes of the JWKS.
pub(super) fn jwks(profile: &Profile) -> Vec<Fact> {
    let rules = &profile.jwks;
    let mut facts: Vec<Fact> = vec![("key held as", binding(profile.binding).to_owned())];
    let first = "it takes the first RSA key, whatever the kid: one HSM, one server, no cache and no follower";
    facts.extend(rules.first_rsa_key.then(|| ("order", first.to_owned())));
    facts.extend(rules.pem.then(|| ("PEM", "the active key is also published as `public_key.pem`".to_owned())));
    let waits = if rules.lead.is_zero() { "as the headers say".to_owned() } else { span(rules.lead) };
    if profile.binding == Binding::Jwks {
        facts.push(("a new key waits", waits));
    } else {
        facts.push(("a new key waits", "until somebody confirms that the system has it".to_owned()));
    }
    facts
}

/// How the JWKS is kept, and what it must be like.
pub(super) fn jwks_rules(profile: &Profile) -> Vec<Known> {
    let mut rules = vec![known("caching", &profile.jwks.caching, str::to_owned)];
    rules.extend(profile.jwks.demands.iter().map(|rule| known("demand", rule, str::to_owned)));
    rules
}

/// Algorithms, the default first.
pub(super) fn algs(algs: &[Alg]) -> String {
    list(algs.iter().map(|alg| alg.as_str().to_owned()))
}

pub(super) fn binding(binding: Binding) -> &'static str {
    match binding {
        Binding::Jwks => "JWKS URL",
        Binding::RegisteredCert => "registered key or certificate",
        Binding::CertChain => "certificate of a trusted chain",
    }
}

fn known<T: Copy>(name: &'static str, rule: &Rule<T>, words: impl FnOnce(T) -> String) -> Known {
    Known { name, is: words(rule.is), evidence: rule.evidence, source: rule.source }
}

fn list(items: impl Iterator<Item = String>) -> String {
    items.collect::<Vec<_>>().join(", ")
}

fn typ(typ: Typ) -> String {
    typ.value().unwrap_or("none").to_owned()
}

fn iss(iss: Iss) -> &'static str {
    match iss {
        Iss::ClientId => "the client_id",
        Iss::Registered => "what was registered beside the client_id: `iss` of the [[client]]",
    }
}

fn audience(audience: Audience) -> &'static str {
    match audience {
        Audience::TokenEndpoint => "the token endpoint",
        Audience::Issuer => "the issuer: `issuer` of the [[client]]",
    }
}

fn need(need: Need) -> &'static str {
    match need {
        Need::Required => "required",
        Need::Optional => "optional",
        Need::Ignored => "not looked at",
        Need::Unwanted => "not wanted",
    }
}

fn certificate(certificate: Certificate) -> &'static str {
    match certificate {
        Certificate::None => "none",
        Certificate::X5c => "x5c",
        Certificate::X5t => "x5t, or x5c",
        Certificate::X5tS256 => "x5t#S256",
    }
}

fn jti(jti: Jti) -> String {
    let longest = jti.longest.map(|longest| format!(", at most {longest} characters")).unwrap_or_default();
    let once = if jti.once { ", once" } else { ", not remembered" };
    format!("{}{longest}{once}", need(jti.need))
}

fn skew(skew: Duration, evidence: Evidence) -> String {
    match (skew.is_zero(), evidence) {
        (true, Evidence::Unverified) => "not known; none is counted on".to_owned(),
        (true, _) => "none".to_owned(),
        (false, _) => seconds(skew),
    }
}

fn limit(limit: Option<Duration>) -> String {
    limit.map_or("no limit was found".to_owned(), |limit| format!("at most {}", span(limit)))
}

fn seconds(duration: Duration) -> String {
    format!("{} s", duration.as_secs())
}

/// Hours where it is hours, else seconds.
fn span(duration: Duration) -> String {
    match duration.as_secs() {
        secs if secs >= 3600 && secs.is_multiple_of(3600) => format!("{} h", secs / 3600),
        secs => format!("{secs} s"),
    }
}

fn how(how: &How) -> String {
    match how {
        How::Portal([]) => "by hand".to_owned(),
        How::Portal(_) => "by hand, in the system's own forms".to_owned(),
        How::SoftwareStatement => "a software statement that the client's key signs (UDAP)".to_owned(),
        How::Document { auth_method, signing_alg, redirect_uris, members } => {
            let mut parts = vec![match auth_method {
                Some(method) => format!("`token_endpoint_auth_method` {method}"),
                None => "no `token_endpoint_auth_method`".to_owned(),
            }];
            parts.extend(signing_alg.then(|| "`token_endpoint_auth_signing_alg`".to_owned()));
            parts.extend(redirect_uris.then(|| "`redirect_uris`, though nobody is redirected".to_owned()));
            parts.extend(members.iter().map(|(name, value)| format!("`{name}` {value}")));
            format!("a JSON document (RFC 7591) with {}", list(parts.into_iter()))
        }
    }
}

fn handover(thing: Handover) -> &'static str {
    match thing {
        Handover::JwksUrl => "the JWKS URL",
        Handover::InlineJwks => "the JWKS itself",
        Handover::PublicKeyPem => "the public key as PEM",
        Handover::CertificatePem => "the certificate as PEM",
        Handover::Thumbprints => "the certificate's thumbprints",
        Handover::ClientId => "the client_id",
        Handover::Iss => "the issuer URL: `iss` of the [[client]]",
        Handover::TokenEndpoint => "the token endpoint",
        Handover::Scopes => "the scopes",
        Handover::Text(text) => text,
    }
}
