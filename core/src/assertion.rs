//! What is signed, and how it is made.
//!
//! [`prepare`] consumes a [`Grant`] and gives a [`SigningInput`]; the pool takes that by value. Times are set by
//! [`SigningInput::encode`], when the job leaves the queue, so that waiting does not age an assertion.

use std::time::Duration;

use aws_lc_rs::digest;
use base64::{
    Engine,
    engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD},
};
use jsonwebtoken::{Algorithm, Header};
use serde::ser::{SerializeMap, Serializer};

use crate::{
    audit::checkpoint,
    certificate::{self, request},
    client::Client,
    error::{Error, Reason},
    evidence,
    key::{Alg, Kid, Purpose},
    policy::{Claims, Grant},
    profile::{Iss, Makes},
    software_statement,
    time::Timestamp,
};

/// Everything that an HSM is ever asked to sign. Only this crate can make one, and no RPC signs bytes.
///
/// Most verifiers ignore `typ`, so any JWS under a client's key could pass for an assertion. What is signed with one is an
/// assertion; a software statement, whose audience is not one of assertions; DER or proof of possession, which are no JOSE
/// input. Evidence and probes are signed with custody keys, which are in no client's JWKS. The pool holds each input to its [`SigningInput::purpose`].
#[derive(Debug)]
pub enum SigningInput {
    /// A client assertion (RFC 7523 §2.2), under the client's key.
    Assertion(Draft),
    /// A software statement (RFC 7591 §2.3), under the client's key.
    SoftwareStatement(software_statement::Draft),
    /// A request for a certificate (RFC 2986), under the key that it is for.
    CertificateRequest(request::Request),
    /// A certificate that signs itself (RFC 5280), under the key that it is for.
    Certificate(request::SelfSigned),
    /// Proof that a key is at hand, under that key. No JOSE input.
    Possession(evidence::Possession),
    /// Evidence of a key's custody, under the custody key.
    Evidence(evidence::Draft),
    /// The head of an audit chain, under the custody key.
    Checkpoint(checkpoint::Draft),
    /// Proof that the HSM still signs, under the custody key.
    Probe(Probe),
}

/// An assertion without its times and `jti`.
#[derive(Debug)]
pub struct Draft {
    encoded_header: String,
    iss: String,
    client_id: String,
    audience: String,
    lifetime: Duration,
    makes: Makes,
    claims: Claims,
}

/// The key that an assertion will be signed with, as its header shows it.
#[derive(Clone, Copy, Debug)]
pub struct HeaderKey<'a> {
    pub alg: Alg,
    pub kid: &'a Kid,
    /// DER certificates, leaf first; empty where the client has none.
    pub certificates: &'a [Vec<u8>],
}

/// What a probe signs: no JOSE input, so that it can never be taken for one.
#[derive(Debug)]
pub struct Probe(());

/// The bytes to sign, and what they say.
#[derive(Debug)]
pub struct ToBeSigned {
    pub bytes: Vec<u8>,
    pub stamp: Stamp,
}

/// What was set when the job left the queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stamp {
    pub jti: String,
    pub issued_at: Timestamp,
    pub expires_at: Timestamp,
}

/// An assertion that was signed, and verified with the published key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedAssertion {
    /// The JWS compact serialisation (RFC 7515 §7.1).
    pub compact: String,
    pub kid: Kid,
    pub alg: Alg,
    pub stamp: Stamp,
}

/// The token request that the assertion is for (RFC 6749 §4.4, RFC 7523 §2.2), ready to send.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenRequest {
    pub method: &'static str,
    pub url: String,
    pub content_type: &'static str,
    /// In this order; a name may repeat.
    pub form: Vec<(String, String)>,
}

/// Turns a grant into what will be signed with `key`.
pub fn prepare(grant: Grant, client: &Client, key: HeaderKey<'_>) -> Result<SigningInput, Error> {
    let client_id = registered_id(client)?;
    if grant.request().client != client.name {
        return Err(Error::internal(format!("a grant for `{}` used for `{}`", grant.request().client, client.name)));
    }
    let request = grant.request();
    Ok(SigningInput::Assertion(Draft {
        encoded_header: URL_SAFE_NO_PAD.encode(serde_json::to_vec(&header(client, key)?).map_err(Error::internal)?),
        iss: iss(client, client_id)?.to_owned(),
        client_id: client_id.to_owned(),
        audience: audience(client, request.audience.as_deref()).to_owned(),
        lifetime: request.lifetime.unwrap_or(client.makes.lifetime),
        makes: client.makes,
        claims: merged(&client.claims, &request.claims),
    }))
}

/// The `aud` of an assertion for `client`: its token endpoint or its server's issuer, byte for byte, unless the caller may
/// name another.
pub fn audience<'a>(client: &'a Client, requested: Option<&'a str>) -> &'a str {
    requested.unwrap_or_else(|| client.audience())
}

/// Asks for a signature that shows that the HSM still signs.
pub fn probe() -> SigningInput {
    SigningInput::Probe(Probe(()))
}

/// The token request for an assertion of `client`.
pub fn token_request(client: &Client, scope: Option<&str>, assertion: &str) -> TokenRequest {
    let rules = &client.profile.token_request;
    let mut form = vec![("grant_type", "client_credentials")];
    form.extend(scope.map(|scope| ("scope", scope)));
    form.extend(client.client_id.as_deref().filter(|_| rules.client_id).map(|id| ("client_id", id)));
    form.push(("client_assertion_type", "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"));
    form.push(("client_assertion", assertion));
    form.extend(rules.fixed);
    form.extend(client.form.iter().map(|(name, value)| (name.as_str(), value.as_str())));
    TokenRequest {
        method: "POST",
        url: client.token_endpoint.clone(),
        content_type: "application/x-www-form-urlencoded",
        form: form.into_iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
    }
}

/// The names, and which input has which, from one table: the compiler refuses one that lacks a kind.
macro_rules! kinds {
    ($($kind:ident => $name:literal,)+) => {
        /// What [`Self::kind`] can be, each once.
        pub const KINDS: &[&str] = &[$($name),+];

        /// What the audit log calls it.
        pub fn kind(&self) -> &'static str {
            match self {
                $(Self::$kind(_) => $name,)+
            }
        }
    };
}

impl SigningInput {
    kinds! {
        Assertion => "assertion",
        SoftwareStatement => "software-statement",
        CertificateRequest => "certificate-request",
        Certificate => "certificate",
        Possession => "possession",
        Evidence => "evidence",
        Checkpoint => "checkpoint",
        Probe => "probe",
    }

    /// The only kind of key that it may be signed with.
    pub fn purpose(&self) -> Purpose {
        match self {
            Self::Assertion(_) | Self::SoftwareStatement(_) | Self::CertificateRequest(_) | Self::Certificate(_) => {
                Purpose::Assertion
            }
            Self::Possession(possession) => possession.purpose(),
            Self::Evidence(_) | Self::Checkpoint(_) | Self::Probe(_) => Purpose::Custody,
        }
    }

    /// Sets the times and the `jti` (from `random`, as a UUIDv4) and gives the bytes to sign.
    pub fn encode(&self, now: Timestamp, random: [u8; 16]) -> Result<ToBeSigned, Error> {
        let jti = uuid::Builder::from_random_bytes(random).into_uuid().to_string();
        let bytes = match self {
            Self::Assertion(draft) => return draft.encode(now, jti),
            Self::SoftwareStatement(draft) => return draft.encode(now, jti),
            Self::CertificateRequest(request) => request.content().to_vec(),
            Self::Certificate(certificate) => certificate.encode(now, random)?,
            Self::Possession(possession) => possession.message().to_vec(),
            Self::Evidence(draft) => return draft.encode(now, jti),
            Self::Checkpoint(draft) => draft.encode(now)?,
            Self::Probe(_) => format!("hallmark-probe-v1\0{jti}").into_bytes(),
        };
        Ok(ToBeSigned { bytes, stamp: Stamp { jti, issued_at: now, expires_at: now } })
    }
}

impl Draft {
    fn encode(&self, now: Timestamp, jti: String) -> Result<ToBeSigned, Error> {
        // Whole seconds, so that `exp` − `iat` is the lifetime exactly and never a second more.
        let issued_at = Timestamp::from_secs(now.minus(self.makes.backdate).secs());
        let expires_at = issued_at.plus(Duration::from_secs(self.lifetime.as_secs()));
        let claims = self.claims(&jti, issued_at, expires_at).map_err(Error::internal)?;
        let mut text = String::with_capacity(self.encoded_header.len() + 1 + claims.len() * 4 / 3 + 4);
        text.push_str(&self.encoded_header);
        text.push('.');
        URL_SAFE_NO_PAD.encode_string(claims, &mut text);
        Ok(ToBeSigned { bytes: text.into_bytes(), stamp: Stamp { jti, issued_at, expires_at } })
    }

    /// The claims as JSON. Dates are integers; `aud` is a string, never an array.
    fn claims(&self, jti: &str, issued_at: Timestamp, expires_at: Timestamp) -> serde_json::Result<Vec<u8>> {
        let mut json = Vec::with_capacity(256 + self.client_id.len() * 2 + self.audience.len());
        let mut serializer = serde_json::Serializer::new(&mut json);
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("iss", &self.iss)?;
        map.serialize_entry("sub", &self.client_id)?;
        map.serialize_entry("aud", &self.audience)?;
        map.serialize_entry("jti", jti)?;
        if self.makes.iat {
            map.serialize_entry("iat", &issued_at.secs())?;
        }
        if self.makes.nbf {
            map.serialize_entry("nbf", &issued_at.secs())?;
        }
        map.serialize_entry("exp", &expires_at.secs())?;
        for (name, value) in &self.claims.0 {
            map.serialize_entry(name, value)?;
        }
        map.end()?;
        Ok(json)
    }
}

impl ToBeSigned {
    /// Joins the signature to what was signed (RFC 7515 §3.1).
    pub fn into_signed(self, signature: &[u8], kid: Kid, alg: Alg) -> Result<SignedAssertion, Error> {
        let (compact, stamp) = self.into_compact(signature)?;
        Ok(SignedAssertion { compact, kid, alg, stamp })
    }

    /// As [`Self::into_signed`], for what is no assertion.
    pub fn into_compact(self, signature: &[u8]) -> Result<(String, Stamp), Error> {
        let mut compact = String::from_utf8(self.bytes).map_err(Error::internal)?;
        compact.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut compact);
        Ok((compact, self.stamp))
    }
}

fn registered_id(client: &Client) -> Result<&str, Error> {
    client.client_id.as_deref().ok_or_else(|| {
        let text = format!(
            "client `{0}` has no client_id yet; `hallmark register {0}` says what its authorization server wants to know",
            client.name
        );
        Error::new(Reason::NotRegistered, text)
    })
}

/// What was registered beside the `client_id`, where the system wants that.
fn iss<'a>(client: &'a Client, client_id: &'a str) -> Result<&'a str, Error> {
    match client.makes.iss {
        Iss::ClientId => Ok(client_id),
        Iss::Registered => client.iss.as_deref().ok_or_else(|| {
            let text = format!("client `{}` has no `iss`; set what was registered beside its client_id", client.name);
            Error::new(Reason::NotRegistered, text)
        }),
    }
}

fn header(client: &Client, key: HeaderKey<'_>) -> Result<Header, Error> {
    let makes = &client.makes;
    let mut header = Header::new(jose_algorithm(key.alg));
    header.typ = makes.typ.value().map(str::to_owned);
    header.kid = makes.kid.then(|| key.kid.to_string());
    header.jku = client.jwks_url.clone().filter(|_| makes.jku);
    if makes.wants_certificate() {
        let leaf = key.certificates.first().ok_or_else(|| certificate::missing(client))?;
        let thumbprint = |hash| URL_SAFE_NO_PAD.encode(digest::digest(hash, leaf));
        header.x5c = makes.x5c.then(|| key.certificates.iter().map(|der| STANDARD.encode(der)).collect());
        header.x5t = makes.x5t.then(|| thumbprint(&digest::SHA1_FOR_LEGACY_USE_ONLY));
        header.x5t_s256 = makes.x5t_s256.then(|| thumbprint(&digest::SHA256));
    }
    Ok(header)
}

/// The client's own claims, and the caller's over them.
fn merged(own: &Claims, requested: &Claims) -> Claims {
    let overridden = |name: &String| requested.0.iter().any(|(other, _)| other == name);
    let own = own.0.iter().filter(|(name, _)| !overridden(name));
    Claims(own.chain(&requested.0).cloned().collect())
}

pub(crate) fn jose_algorithm(alg: Alg) -> Algorithm {
    match alg {
        Alg::RS256 => Algorithm::RS256,
        Alg::RS384 => Algorithm::RS384,
        Alg::RS512 => Algorithm::RS512,
        Alg::PS256 => Algorithm::PS256,
        Alg::PS384 => Algorithm::PS384,
        Alg::PS512 => Algorithm::PS512,
        Alg::ES256 => Algorithm::ES256,
        Alg::ES384 => Algorithm::ES384,
        Alg::EdDSA => Algorithm::EdDSA,
    }
}

#[cfg(test)]
mod tests;
