//! Reads `[[issuer]]`: whose bearer tokens count, and for whom.

use std::{collections::BTreeMap, path::PathBuf};

use hallmark_core::{
    key::Alg,
    policy::{Roles, Scope},
};

use super::{
    defaults,
    problem::At,
    section::Section,
    url::Url,
    value::{IssuerKind, Mismatch, Role},
};

/// `[[issuer]]`: who vouches for callers with tokens (JWT), and for which.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issuer {
    /// `iss`; `None` only for SPIFFE.
    pub issuer: Option<String>,
    /// Of the SPIFFE IDs in `sub`; `None` where identities are `jwt:ISSUER#SUB`.
    pub trust_domain: Option<String>,
    pub audience: String,
    pub algorithms: Vec<Alg>,
    pub jwks: JwksSource,
    pub roles: Roles,
    /// Exact, or beginnings that end in `*`. Empty: all.
    pub subjects: Vec<String>,
    /// Claims by path, and their values.
    pub require: BTreeMap<String, String>,
}

/// Where an issuer's keys are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JwksSource {
    File(PathBuf),
    Url { url: String, ca: Option<PathBuf> },
}

impl Issuer {
    /// The identities that it may vouch for.
    pub fn scope(&self) -> Scope {
        match (&self.trust_domain, &self.issuer) {
            (Some(domain), _) => Scope::TrustDomain(domain.clone()),
            (None, issuer) => Scope::Issuer(issuer.clone().unwrap_or_default()),
        }
    }
}

pub(super) fn read(s: &Section<'_>) -> Option<Issuer> {
    let kind = s.get::<IssuerKind>("kind").map_or(IssuerKind::Generic, |kind| kind.value);
    let issuer = s.get::<String>("issuer");
    let trust_domain = s.get::<String>("trust_domain");
    match (kind, &issuer, &trust_domain) {
        (IssuerKind::Spiffe, _, None) => {
            s.error(s.place(), "`trust_domain` in [[issuer]] is missing", "add `trust_domain = \"prod.example\"`");
        }
        (IssuerKind::Generic | IssuerKind::Kubernetes, None, _) => {
            let hint = "add `issuer = \"https://kubernetes.default.svc.cluster.local\"`, as `iss` of the tokens has it";
            s.error(s.place(), "`issuer` in [[issuer]] is missing", hint);
        }
        (IssuerKind::Generic | IssuerKind::Kubernetes, _, Some(At { place, .. })) => {
            let what = "`trust_domain` in [[issuer]] has no meaning for this kind";
            s.error(place, what, "take it out, or write `kind = \"spiffe\"`");
        }
        _ => {}
    }
    let audience = s.required::<String>("audience", "\"hallmark\"");
    let algorithms = algorithms(s);
    let subjects = s.get::<Vec<String>>("subjects").map(|list| list.value).unwrap_or_default();
    let require = s.texts("require").map(|texts| texts.value).unwrap_or_default();
    let (jwks, roles) = (jwks(s), roles(s));
    Some(Issuer {
        issuer: issuer.map(|issuer| issuer.value),
        trust_domain: trust_domain.map(|domain| domain.value).filter(|_| kind == IssuerKind::Spiffe),
        audience: audience?.value,
        algorithms,
        jwks: jwks?,
        roles,
        subjects,
        require,
    })
}

fn algorithms(s: &Section<'_>) -> Vec<Alg> {
    const NAME: &str = "algorithms";
    let list = if s.has(NAME) { s.some_of::<Alg>(NAME, "[\"RS256\"]") } else { s.get::<Vec<Alg>>(NAME) };
    list.map_or_else(defaults::algorithms, |list| list.value)
}

fn roles(s: &Section<'_>) -> Roles {
    let Some(At { value: list, .. }) = s.get::<Vec<Role>>("roles") else { return defaults::trust_roles() };
    Roles { workload: list.contains(&Role::Workload), operator: list.contains(&Role::Operator) }
}

fn jwks(s: &Section<'_>) -> Option<JwksSource> {
    let (file, url, ca) = (s.get::<PathBuf>("jwks_file"), s.get::<String>("jwks_url"), s.get::<PathBuf>("ca"));
    match (file, url) {
        (Some(file), None) => Some(JwksSource::File(file.value)),
        (None, Some(At { value: url, place })) => {
            match Url::check(&url) {
                Ok(checked) if checked.is_exposed() => {
                    let what = format!("`jwks_url` in [[issuer]] is plain http: `{url}`");
                    s.error(&place, what, "use https: who can change the keys on their way can be any workload");
                }
                Ok(_) => {}
                Err(Mismatch { what, hint }) => s.error(&place, format!("`jwks_url` in [[issuer]]: {what}"), hint),
            }
            Some(JwksSource::Url { url, ca: ca.map(|ca| ca.value) })
        }
        _ => {
            if s.has("jwks_file") == s.has("jwks_url") {
                let what = "[[issuer]] must have one of `jwks_file` and `jwks_url`";
                s.error(s.place(), what, "a file is read again when it changes, a URL every five minutes");
            }
            None
        }
    }
}
