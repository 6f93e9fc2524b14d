//! From the names of things to the things.

use super::{Facts, Filled, Form};
use crate::profile::{Handover, How};

/// What goes into a field. Thumbprints are two.
pub(super) fn field(label: Option<&str>, value: Handover, facts: &Facts) -> Vec<Filled> {
    let filled =
        |usual: &str, value: Result<String, String>| vec![Filled { label: label.unwrap_or(usual).to_owned(), value }];
    let known = |text: &str| Ok(text.to_owned());
    match value {
        Handover::JwksUrl => filled("JWKS URL", known(&facts.jwks_url)),
        Handover::InlineJwks => {
            filled("JWKS", facts.jwks.as_ref().map(|jwks| format!("{jwks:#}")).ok_or_else(|| no_key(facts)))
        }
        Handover::PublicKeyPem => filled("Public key", facts.public_key_pem.clone().ok_or_else(|| no_key(facts))),
        Handover::CertificatePem => filled("Certificate", certificate(facts).map(|shown| shown.pem.clone())),
        Handover::Thumbprints => {
            let of = |name: &str, value| {
                let label = label.map(|label| format!("{label}, {name}"));
                Filled { label: label.unwrap_or_else(|| format!("Certificate, {name}")), value }
            };
            let shown = certificate(facts);
            vec![
                of("SHA-1", shown.clone().map(|shown| shown.sha1.clone())),
                of("SHA-256", shown.map(|shown| shown.sha256.clone())),
            ]
        }
        Handover::ClientId => filled("Client ID", facts.client_id.clone().ok_or_else(|| no_client_id(facts))),
        Handover::Iss => {
            let missing = || format!("nothing yet: set `iss` in the [[client]] `{}`, a URL of yours", facts.client);
            filled("Issuer", facts.iss.clone().ok_or_else(missing))
        }
        Handover::TokenEndpoint => filled("Token endpoint", known(&facts.token_endpoint)),
        Handover::Scopes => filled("Scopes", facts.wishes.scope.clone().ok_or_else(|| NO_SCOPE.to_owned())),
        Handover::Text(text) => filled("", known(text)),
    }
}

/// With `{…}` replaced by what is known; what is not is a pair of parentheses to fill in.
pub(super) fn text(template: &str, facts: &Facts) -> String {
    let or = |value: Option<&str>, what: &str| value.map_or_else(|| format!("({what})"), str::to_owned);
    let contacts = facts.wishes.contacts.join(", ");
    let values = [
        ("{client_name}", facts.client_name().to_owned()),
        ("{client_id}", or(facts.client_id.as_deref(), "not known yet")),
        ("{jwks_url}", facts.jwks_url.clone()),
        ("{token_endpoint}", facts.token_endpoint.clone()),
        ("{alg}", or(facts.alg.as_deref(), "no key line")),
        ("{kid}", or(facts.kid.as_deref(), "no key yet")),
        ("{scope}", or(facts.wishes.scope.as_deref(), "the scopes")),
        ("{contacts}", or(Some(contacts.as_str()).filter(|text| !text.is_empty()), "name and mail address")),
    ];
    // From left to right, so that no value is taken for a placeholder.
    let mut filled = String::with_capacity(template.len() * 2);
    let mut rest = template;
    while let Some(at) = rest.find('{') {
        filled += &rest[..at];
        rest = &rest[at..];
        let (taken, value) = match values.iter().find(|(name, _)| rest.starts_with(name)) {
            Some((name, value)) => (name.len(), value.as_str()),
            None => (1, "{"),
        };
        filled += value;
        rest = &rest[taken..];
    }
    filled + rest
}

/// What will be refused, or missed.
pub(super) fn remarks(facts: &Facts, form: &Form) -> Vec<String> {
    let registration = &facts.profile.registration;
    let mut remarks = Vec::new();
    if let Some(id) = &facts.client_id {
        remarks.push(format!("`{}` has a client_id already: `{id}`", facts.client));
    }
    let hands_url = registration.hands_over.contains(&Handover::JwksUrl);
    if hands_url && !facts.jwks_url.starts_with("https://") {
        remarks
            .push("the JWKS URL is not https: most authorization servers refuse it, see `public_url` in [jwks]".into());
    }
    if let (Form::Document(_), None) = (form, &facts.wishes.scope) {
        remarks.push(NO_SCOPE.to_owned());
    }
    if let How::Document { redirect_uris: true, .. } = registration.how
        && facts.wishes.redirect_uris.is_empty()
    {
        remarks
            .push("`redirect_uris` must be there, and nobody is ever sent to it; --redirect-uri names another".into());
    }
    if let (Form::SoftwareStatement { .. }, true) = (form, facts.wishes.contacts.is_empty()) {
        remarks.push("UDAP wants a contact: --contact ops@example.com".to_owned());
    }
    let hands_key =
        registration.hands_over.iter().any(|value| matches!(value, Handover::PublicKeyPem | Handover::InlineJwks));
    if let (true, Some(rule), Some(alg)) = (hands_key, &registration.uploaded_algs, &facts.alg)
        && rule.is.iter().all(|taken| taken.as_str() != alg)
    {
        let taken: Vec<_> = rule.is.iter().map(|alg| alg.as_str()).collect();
        let (taken, evidence) = (taken.join(", "), rule.evidence.as_str());
        remarks.push(format!(
            "a key of {alg} that is handed over itself is not taken, only of {taken} ({evidence}: {})",
            rule.source
        ));
    }
    remarks
}

pub(super) fn no_certificate(facts: &Facts) -> String {
    format!("no certificate yet: `hallmark csr {0}`, then `hallmark cert install {0} FILE --reason TEXT`", facts.client)
}

fn certificate(facts: &Facts) -> Result<&super::CertificateFacts, String> {
    facts.certificate.as_ref().ok_or_else(|| no_certificate(facts))
}

fn no_key(facts: &Facts) -> String {
    format!("no key yet: `hallmark keys create {} --reason TEXT`", facts.client)
}

fn no_client_id(facts: &Facts) -> String {
    format!("none yet; once you chose or were given one: `hallmark register {} --client-id ID`", facts.client)
}

const NO_SCOPE: &str = "no scope is asked for: --scope 'system/Patient.rs system/Observation.rs'";
