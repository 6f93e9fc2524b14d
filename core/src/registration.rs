//! What an authorization server is told to make a client known there: the profile's table, filled in with what is known of
//! the client.

use serde_json::{Map, Value, json};

use crate::{
    certificate::{Certificate, to_pem},
    profile::{HandoutBody, Handover, How, Profile},
};

mod fill;

/// What is known of a client.
#[derive(Clone, Debug)]
pub struct Facts {
    pub profile: &'static Profile,
    /// Hallmark's name of it.
    pub client: String,
    pub client_id: Option<String>,
    pub iss: Option<String>,
    pub token_endpoint: String,
    pub jwks_url: String,
    /// The JWK Set, once there is a key.
    pub jwks: Option<Value>,
    /// Of its keys, the preferred one.
    pub alg: Option<String>,
    /// Of the active key.
    pub kid: Option<String>,
    /// SubjectPublicKeyInfo of the active key.
    pub public_key_pem: Option<String>,
    pub certificate: Option<CertificateFacts>,
    pub wishes: Wishes,
}

/// The active key's certificate.
#[derive(Clone, Debug, Default)]
pub struct CertificateFacts {
    /// The chain, leaf first.
    pub pem: String,
    /// In hexadecimal, as portals show them.
    pub sha1: String,
    pub sha256: String,
    /// The leaf's `uniformResourceIdentifier` names.
    pub san_uris: Vec<String>,
}

/// What an operator wants to have written there.
#[derive(Clone, Debug, Default)]
pub struct Wishes {
    /// What people at the authorization server call it.
    pub name: Option<String>,
    /// Separated by spaces.
    pub scope: Option<String>,
    pub redirect_uris: Vec<String>,
    /// Mail addresses.
    pub contacts: Vec<String>,
}

/// What is to be handed over, and done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Application {
    pub form: Form,
    /// For people to copy; beside a document too, where the system wants more than that.
    pub fields: Vec<Filled>,
    pub handouts: Vec<(&'static str, Handed)>,
    pub steps: &'static [&'static str],
    /// What will be refused, or missed.
    pub remarks: Vec<String>,
}

/// What is sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Form {
    /// Nothing: people fill in the fields.
    ByHand,
    /// A JSON document (RFC 7591 §3.1).
    Document(Value),
    /// The metadata of a software statement (RFC 7591 §2.3). Whoever signs it adds `iss`, `sub`, `aud`, `iat`, `exp` and `jti`.
    SoftwareStatement {
        metadata: Value,
        /// `iss` and `sub`: a URI of the certificate.
        issuer: Result<String, String>,
    },
}

/// A handout, filled in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Handed {
    Text(String),
    Document(Value),
}

/// A field of a portal, and what goes into it; or what is to be done before there is anything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filled {
    pub label: String,
    pub value: Result<String, String>,
}

/// What registering this client takes.
pub fn application(facts: &Facts) -> Application {
    let registration = &facts.profile.registration;
    let form = match &registration.how {
        How::Portal(_) => Form::ByHand,
        how @ How::Document { .. } => Form::Document(document(how, facts)),
        How::SoftwareStatement => {
            Form::SoftwareStatement { metadata: Value::Object(metadata(facts)), issuer: statement_issuer(facts) }
        }
    };
    let handouts = facts.profile.handouts().iter().map(|handout| {
        let handed = match &handout.body {
            HandoutBody::Text(text) => Handed::Text(fill::text(text, facts)),
            HandoutBody::Registration(how) => Handed::Document(document(how, facts)),
        };
        (handout.title, handed)
    });
    Application {
        fields: fields(facts, &form),
        handouts: handouts.collect(),
        steps: registration.steps,
        remarks: fill::remarks(facts, &form),
        form,
    }
}

/// What is posted with a signed software statement (UDAP Dynamic Client Registration §5.1).
pub fn udap_request(software_statement: &str) -> Value {
    json!({ "software_statement": software_statement, "certifications": [], "udap": "1" })
}

/// RFC 7591 §2, with what the system leaves out or adds.
fn document(how: &How, facts: &Facts) -> Value {
    let How::Document { auth_method, signing_alg, redirect_uris, members } = *how else { return Value::Null };
    let mut document = Map::new();
    let mut put = |name: &str, value: Value| document.insert(name.to_owned(), value);
    put("client_name", json!(facts.client_name()));
    // A system that refuses the one method that this is about is not known to take the members around it.
    if let Some(method) = auth_method {
        put("token_endpoint_auth_method", json!(method));
        put("grant_types", json!(["client_credentials"]));
    }
    let Wishes { scope, redirect_uris: wished, contacts, .. } = &facts.wishes;
    match (redirect_uris, wished.is_empty(), auth_method) {
        (true, true, _) => drop(put("redirect_uris", json!([PLACEHOLDER]))),
        (_, false, _) => drop(put("redirect_uris", json!(wished))),
        // The default is `code`, which wants a redirect URI.
        (false, true, Some(_)) => drop(put("response_types", json!([]))),
        (false, true, None) => {}
    }
    if let Some(alg) = facts.alg.as_ref().filter(|_| signing_alg) {
        put("token_endpoint_auth_signing_alg", json!(alg));
    }
    if let Some(scope) = scope {
        put("scope", json!(scope));
    }
    if !contacts.is_empty() {
        put("contacts", json!(contacts));
    }
    if facts.profile.registration.hands_over == [Handover::InlineJwks] {
        put("jwks", facts.jwks.clone().unwrap_or_default());
    } else {
        put("jwks_uri", json!(facts.jwks_url));
    }
    for (name, value) in members {
        put(name, serde_json::from_str(value).unwrap_or_default());
    }
    Value::Object(document)
}

/// What a software statement says of the client (UDAP Security IG, registration).
fn metadata(facts: &Facts) -> Map<String, Value> {
    let Wishes { scope, redirect_uris, contacts, .. } = &facts.wishes;
    let mailto = |contact: &String| match contact.contains(':') {
        true => contact.clone(),
        false => format!("mailto:{contact}"),
    };
    let mut metadata = Map::new();
    metadata.insert("client_name".to_owned(), json!(facts.client_name()));
    metadata.insert("grant_types".to_owned(), json!(["client_credentials"]));
    metadata.insert("token_endpoint_auth_method".to_owned(), json!("private_key_jwt"));
    metadata.insert("contacts".to_owned(), contacts.iter().map(mailto).collect());
    if let Some(scope) = scope {
        metadata.insert("scope".to_owned(), json!(scope));
    }
    if !redirect_uris.is_empty() {
        metadata.insert("redirect_uris".to_owned(), json!(redirect_uris));
    }
    metadata
}

fn statement_issuer(facts: &Facts) -> Result<String, String> {
    let Some(certificate) = &facts.certificate else { return Err(fill::no_certificate(facts)) };
    certificate.san_uris.first().cloned().ok_or_else(|| {
        let text = "the certificate has no URI among its names, which is to be `iss`: `hallmark csr";
        format!("{text} {} --san-uri URI`", facts.client)
    })
}

/// The fields of the portal, then what else is handed over.
fn fields(facts: &Facts, form: &Form) -> Vec<Filled> {
    let registration = &facts.profile.registration;
    let named = match registration.how {
        How::Portal(fields) => fields,
        How::Document { .. } | How::SoftwareStatement => &[],
    };
    let mut filled: Vec<_> =
        named.iter().flat_map(|field| fill::field(Some(field.label), field.value, facts)).collect();
    let is_in_form = |value: Handover| match form {
        Form::Document(_) => matches!(value, Handover::JwksUrl | Handover::InlineJwks | Handover::Scopes),
        Form::ByHand | Form::SoftwareStatement { .. } => named.iter().any(|field| field.value == value),
    };
    let rest = registration.hands_over.iter().filter(|value| !is_in_form(**value));
    filled.extend(rest.flat_map(|value| fill::field(None, *value, facts)));
    filled
}

impl CertificateFacts {
    /// Of a chain of DER certificates, leaf first; `None` where there is none.
    pub fn of(chain: &[Vec<u8>]) -> Option<Self> {
        let leaf = Certificate::parse(chain.first()?).ok()?;
        let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02X}")).collect();
        let (sha1, sha256) = (hex(&leaf.thumbprints.sha1), hex(&leaf.thumbprints.sha256));
        Some(Self { pem: to_pem(chain), sha1, sha256, san_uris: leaf.san_uris })
    }
}

impl Facts {
    /// What people at the authorization server call it.
    pub fn client_name(&self) -> &str {
        self.wishes.name.as_deref().unwrap_or(&self.client)
    }
}

/// Where nobody is ever sent.
const PLACEHOLDER: &str = "https://localhost/never-used";

#[cfg(test)]
mod tests;
