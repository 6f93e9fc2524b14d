//! What a system is known to refuse of what a client would send.

use std::fmt;

use super::{Certificate, Evidence, Iss, Makes, Need, Profile, Rule};

/// Something that the system does not take, and how that is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Objection {
    /// The field of [`Makes`], as configuration names it.
    pub field: &'static str,
    pub what: String,
    pub evidence: Evidence,
    pub source: &'static str,
}

impl Profile {
    /// What the system is known to refuse of assertions that are made like `makes`.
    pub fn objections(&self, makes: &Makes) -> Vec<Objection> {
        let accepts = &self.accepts;
        let mut found = Vec::new();
        let mut object = |field, objects: bool, what: String, (evidence, source): (Evidence, &'static str)| {
            if objects {
                found.push(Objection { field, what, evidence, source });
            }
        };
        let typ = makes.typ.value().map_or("no `typ`".to_owned(), |typ| format!("`typ` {typ}"));
        object("typ", !accepts.typ.is.contains(&makes.typ), format!("{typ} is refused"), known(&accepts.typ));
        for (field, sent, need) in [
            ("kid", makes.kid, &accepts.kid),
            ("jku", makes.jku, &accepts.jku),
            ("iat", makes.iat, &accepts.iat),
            ("nbf", makes.nbf, &accepts.nbf),
        ] {
            object(field, need.is == Need::Required && !sent, format!("`{field}` is required"), known(need));
            object(field, need.is == Need::Unwanted && sent, format!("`{field}` is not wanted"), known(need));
        }
        let (field, shown) = shows_certificate(accepts.certificate.is, makes);
        object(field, !shown, format!("`{field}` is required"), known(&accepts.certificate));
        object("iss", makes.iss != accepts.iss.is, iss_is(accepts.iss.is).to_owned(), known(&accepts.iss));
        object(
            "audience",
            !accepts.aud.is.contains(&makes.aud),
            "this `aud` is refused".to_owned(),
            known(&accepts.aud),
        );
        if let Some(longest) = accepts.lifetime.is {
            let what = format!("lives longer than the {} s that are taken", longest.as_secs());
            object("lifetime", makes.lifetime > longest, what, known(&accepts.lifetime));
        }
        found
    }
}

impl fmt::Display for Objection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}: {})", self.what, self.evidence.as_str(), self.source)
    }
}

fn known<T>(rule: &Rule<T>) -> (Evidence, &'static str) {
    (rule.evidence, rule.source)
}

/// Whether the header shows the certificate as the system wants it, and the member that does.
fn shows_certificate(wanted: Certificate, makes: &Makes) -> (&'static str, bool) {
    match wanted {
        Certificate::None => ("x5c", true),
        Certificate::X5c => ("x5c", makes.x5c),
        Certificate::X5t => ("x5t", makes.x5t || makes.x5c),
        Certificate::X5tS256 => ("x5t_s256", makes.x5t_s256),
    }
}

fn iss_is(iss: Iss) -> &'static str {
    match iss {
        Iss::ClientId => "`iss` must be the client_id",
        Iss::Registered => "`iss` must be what was registered beside the client_id",
    }
}
