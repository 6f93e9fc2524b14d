//! Software statements (RFC 7591 §2.3) as UDAP registration wants them: a JWT about the client, for the registration
//! endpoint.
//!
//! One is signed with the client's key, and most verifiers look neither at `typ` nor for claims that they do not know. What
//! keeps it from passing for an assertion is its audience: never one that an assertion of this client could have.

use std::time::Duration;

use base64::{Engine, engine::general_purpose::STANDARD, engine::general_purpose::URL_SAFE_NO_PAD};
use jsonwebtoken::Header;
use serde::ser::{SerializeMap, Serializer};

use crate::{
    assertion::{HeaderKey, SigningInput, Stamp, ToBeSigned, jose_algorithm},
    certificate::{self, Certificate},
    client::Client,
    error::{Error, Reason},
    policy::{Claims, Policy, is_reserved_claim},
    profile::How,
    time::Timestamp,
};

/// What an operator wants said of a client.
#[derive(Clone, Debug)]
pub struct Statement {
    /// Where it will be sent, byte for byte: its `aud`.
    pub registration_endpoint: String,
    /// `iss` and `sub`; `None`: the first URI among the names of the key's certificate.
    pub issuer: Option<String>,
    /// Client metadata (RFC 7591 §2), such as `client_name`, `contacts` and `scope`.
    pub claims: Claims,
}

/// A statement without its times and `jti`.
#[derive(Debug)]
pub struct Draft {
    encoded_header: String,
    issuer: String,
    audience: String,
    claims: Claims,
}

/// UDAP Security §3.1: five minutes at most. Nobody needs longer to send it.
const LIFETIME: Duration = Duration::from_secs(300);

/// Makes of `statement` what will be signed with `key`, or says why it may not be. `policy` knows what else assertions of
/// the client may be for.
pub fn prepare(
    statement: Statement,
    client: &Client,
    policy: &Policy,
    key: HeaderKey<'_>,
) -> Result<SigningInput, Error> {
    let Statement { registration_endpoint: audience, issuer, claims } = statement;
    check_registration(client)?;
    check_audience(client, policy, &audience)?;
    check_claims(&claims)?;
    let leaf = key.certificates.first().map(|der| Certificate::parse(der)).transpose().map_err(Error::internal)?;
    let issuer = choose_issuer(client, issuer, leaf.as_ref())?;
    check_issuer(client, &issuer)?;
    let mut header = Header::new(jose_algorithm(key.alg));
    header.typ = client.makes.typ.value().map(str::to_owned);
    header.kid = client.makes.kid.then(|| key.kid.to_string());
    header.x5c = leaf.map(|_| key.certificates.iter().map(|der| STANDARD.encode(der)).collect());
    let encoded_header = URL_SAFE_NO_PAD.encode(serde_json::to_vec(&header).map_err(Error::internal)?);
    Ok(SigningInput::SoftwareStatement(Draft { encoded_header, issuer, audience, claims: with_defaults(claims) }))
}

impl Draft {
    pub(crate) fn encode(&self, now: Timestamp, jti: String) -> Result<ToBeSigned, Error> {
        let issued_at = Timestamp::from_secs(now.secs());
        let expires_at = issued_at.plus(LIFETIME);
        let claims = self.claims(&jti, issued_at, expires_at).map_err(Error::internal)?;
        let text = format!("{}.{}", self.encoded_header, URL_SAFE_NO_PAD.encode(claims));
        Ok(ToBeSigned { bytes: text.into_bytes(), stamp: Stamp { jti, issued_at, expires_at } })
    }

    fn claims(&self, jti: &str, issued_at: Timestamp, expires_at: Timestamp) -> serde_json::Result<Vec<u8>> {
        let mut json = Vec::with_capacity(512);
        let mut serializer = serde_json::Serializer::new(&mut json);
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("iss", &self.issuer)?;
        map.serialize_entry("sub", &self.issuer)?;
        map.serialize_entry("aud", &self.audience)?;
        map.serialize_entry("iat", &issued_at.secs())?;
        map.serialize_entry("exp", &expires_at.secs())?;
        map.serialize_entry("jti", jti)?;
        for (name, value) in &self.claims.0 {
            map.serialize_entry(name, value)?;
        }
        map.end()?;
        Ok(json)
    }
}

/// Only where somebody wants one: every other verifier would look at it as at any JWT under the client's key.
fn check_registration(client: &Client) -> Result<(), Error> {
    if client.profile.registration.how == How::SoftwareStatement {
        return Ok(());
    }
    let text = format!(
        "profile `{}` of client `{}` registers without a software statement: `hallmark register {1}` says how",
        client.profile.name, client.name
    );
    Err(invalid(&text))
}

/// Whoever registers again may have its certificate's URI as `client_id`: then nothing but the audience would keep the
/// statement apart from an assertion, and that is not enough.
fn check_issuer(client: &Client, issuer: &str) -> Result<(), Error> {
    let own = [client.client_id.as_deref(), client.iss.as_deref()];
    if own.into_iter().flatten().any(|own| own == issuer) {
        let text = format!(
            "`{issuer}` is who assertions of client `{}` are from: a statement could pass for one",
            client.name
        );
        return Err(invalid(&text));
    }
    Ok(())
}

/// What an authorization server could take for the audience of an assertion is compared as leniently as the most lenient
/// of them does.
fn check_audience(client: &Client, policy: &Policy, audience: &str) -> Result<(), Error> {
    let is_url = audience.starts_with("https://") || audience.starts_with("http://");
    if !is_url || audience.len() > LONGEST || !audience.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err(invalid("the registration endpoint must be a URL, as the server's discovery document has it"));
    }
    let own = [Some(client.audience()), Some(&client.token_endpoint), client.issuer.as_deref()].into_iter().flatten();
    let mut others = own.chain(policy.audiences_of(&client.name));
    if others.any(|other| bare(other) == bare(audience)) {
        let text = format!(
            "`{audience}` is an audience of assertions of client `{}`: a software statement for it could pass for one; name \
             the registration endpoint",
            client.name
        );
        return Err(invalid(&text));
    }
    Ok(())
}

/// Without scheme, query, slashes at the end, and case.
fn bare(url: &str) -> String {
    let rest = url.split_once("://").map_or(url, |(_, rest)| rest);
    let rest = rest.split(['?', '#']).next().unwrap_or_default();
    rest.split('/').filter(|part| !part.is_empty()).collect::<Vec<_>>().join("/").to_ascii_lowercase()
}

fn check_claims(claims: &Claims) -> Result<(), Error> {
    if let Some((name, _)) = claims.0.iter().find(|(name, _)| is_reserved_claim(name)) {
        let text = format!("`{name}` is Hallmark's to set in a software statement");
        return Err(Error::new(Reason::ReservedClaim, text));
    }
    if !claims.0.iter().any(|(name, _)| name == "client_name") {
        let text = "a software statement must have `client_name`: what the authorization server's people will see";
        return Err(Error::new(Reason::InvalidClaims, text));
    }
    Ok(())
}

/// UDAP has the issuer compared with the names in the certificate, as exact strings.
fn choose_issuer(client: &Client, asked: Option<String>, leaf: Option<&Certificate>) -> Result<String, Error> {
    let uris = leaf.map(|leaf| leaf.san_uris.as_slice()).unwrap_or_default();
    match (asked, leaf) {
        (Some(asked), Some(_)) if client.makes.x5c && !uris.contains(&asked) => {
            let text =
                format!("`{asked}` is none of the URIs in the key's certificate, which has: {}", uris.join(", "));
            Err(invalid(&text))
        }
        (_, None) if client.makes.wants_certificate() => Err(certificate::missing(client)),
        (Some(asked), _) if asked.is_empty() || asked.len() > LONGEST => {
            Err(invalid("the issuer must have 1 to 8192 bytes"))
        }
        (Some(asked), _) => Ok(asked),
        (None, _) => uris.first().cloned().ok_or_else(|| {
            invalid("say who issues the statement: the key's certificate names no URI (`hallmark csr --san-uri`)")
        }),
    }
}

/// What every client of Hallmark's is.
fn with_defaults(mut claims: Claims) -> Claims {
    let defaults =
        [("grant_types", r#"["client_credentials"]"#), ("token_endpoint_auth_method", r#""private_key_jwt""#)];
    for (name, value) in defaults {
        if !claims.0.iter().any(|(known, _)| known == name) {
            let value = serde_json::value::RawValue::from_string(value.to_owned());
            claims.0.extend(value.ok().map(|value| (name.to_owned(), value)));
        }
    }
    claims
}

fn invalid(text: &str) -> Error {
    Error::new(Reason::InvalidRequest, text)
}

const LONGEST: usize = 8 * 1024;

#[cfg(test)]
mod tests;
