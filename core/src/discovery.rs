//! What an authorization server says of itself, read as real ones write it.
//!
//! Real discovery documents have a text where a list belongs, an empty issuer, no grant types; a CapabilityStatement hides
//! the token endpoint in an extension. What can be read is read, what is odd is told, and no URL is ever normalised: the
//! token endpoint becomes `aud`, and verifiers compare bytes.

use std::fmt;

use crate::profile::Profile;

mod capability;
mod guess;
mod metadata;

pub use guess::Guess;

/// Which document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// `/.well-known/smart-configuration` (SMART App Launch 2, §Conformance).
    Smart,
    /// `/.well-known/openid-configuration` (OpenID Connect Discovery §4).
    OpenId,
    /// `/.well-known/oauth-authorization-server` (RFC 8414 §3).
    OAuth,
    /// `/.well-known/udap` (UDAP Server Metadata).
    Udap,
    /// `/metadata`: a FHIR CapabilityStatement, or the Conformance of DSTU2.
    Capability,
}

/// What one document says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Document {
    pub token_endpoint: Option<String>,
    pub issuer: Option<String>,
    pub registration_endpoint: Option<String>,
    /// `token_endpoint_auth_methods_supported`; empty where it says nothing.
    pub auth_methods: Vec<String>,
    /// `token_endpoint_auth_signing_alg_values_supported`; empty where it says nothing.
    pub signing_algs: Vec<String>,
    pub grant_types: Vec<String>,
    pub scopes: Vec<String>,
    pub capabilities: Vec<String>,
    /// The token endpoint of the Carequality framework, beside the ordinary one.
    pub carequality_token_endpoint: Option<String>,
    /// Name and version of the FHIR server's software.
    pub software: Option<String>,
    /// What is not as it should be, and was read all the same.
    pub oddities: Vec<String>,
}

/// What all documents of a server say together.
#[derive(Clone, Debug)]
pub struct Discovery {
    /// The URL that was asked.
    pub url: String,
    /// In the order in which they are believed.
    pub documents: Vec<(Kind, Document)>,
}

/// A document that can't be read at all.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unreadable(pub String);

impl Kind {
    /// All, in the order in which they are believed: what is made for backend services first.
    pub const ALL: [Self; 5] = [Self::Smart, Self::OpenId, Self::OAuth, Self::Udap, Self::Capability];

    /// In texts.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Smart => "smart-configuration",
            Self::OpenId => "openid-configuration",
            Self::OAuth => "oauth-authorization-server",
            Self::Udap => "udap",
            Self::Capability => "CapabilityStatement",
        }
    }

    /// Where it may be, for a server whose base URL is `base` (without a slash at the end). RFC 8414 §3.1 puts the well-known
    /// part before an issuer's path, and many servers put it after.
    pub fn urls(self, base: &str) -> Vec<String> {
        let after = |name: &str| format!("{base}/.well-known/{name}");
        match self {
            Self::Capability => vec![format!("{base}/metadata")],
            Self::OAuth => {
                let name = self.as_str();
                let origin = base.match_indices('/').nth(2).map_or(base.len(), |(end, _)| end);
                let (host, path) = base.split_at(origin);
                let mut urls = vec![format!("{host}/.well-known/{name}{path}"), after(name)];
                urls.dedup();
                urls
            }
            _ => vec![after(self.as_str())],
        }
    }

    /// Reads a document of this kind.
    pub fn read(self, body: &[u8]) -> Result<Document, Unreadable> {
        // Some servers begin with a byte order mark, which JSON does not know.
        let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
        let value = serde_json::from_slice(body).map_err(|error| Unreadable(format!("is no JSON: {error}")))?;
        match self {
            Self::Capability => capability::read(&value),
            Self::Smart | Self::OpenId | Self::OAuth | Self::Udap => metadata::read(&value),
        }
    }
}

impl Discovery {
    /// The token endpoint, byte for byte, and which document has it.
    pub fn token_endpoint(&self) -> Option<(Kind, &str)> {
        self.first(|document| document.token_endpoint.as_deref())
    }

    /// The issuer, byte for byte, and which document has it.
    pub fn issuer(&self) -> Option<(Kind, &str)> {
        self.first(|document| document.issuer.as_deref())
    }

    /// Where clients can be registered.
    pub fn registration_endpoint(&self) -> Option<(Kind, &str)> {
        self.first(|document| document.registration_endpoint.as_deref())
    }

    /// Documents that name another token endpoint than the one that is believed.
    pub fn other_token_endpoints(&self) -> impl Iterator<Item = (Kind, &str)> {
        let believed = self.token_endpoint().map(|(_, url)| url);
        let all =
            self.documents.iter().filter_map(|(kind, document)| Some((*kind, document.token_endpoint.as_deref()?)));
        all.filter(move |(_, url)| Some(*url) != believed)
    }

    /// The algorithms that the server lists for assertions; empty where no document says.
    pub fn signing_algs(&self) -> &[String] {
        let lists = self.documents.iter().map(|(_, document)| &document.signing_algs);
        lists.into_iter().find(|list| !list.is_empty()).map_or(&[], |list| list)
    }

    /// What kind of system it may be, likeliest first; never empty.
    pub fn guesses(&self) -> Vec<Guess> {
        guess::guesses(self)
    }

    /// Whether `profile` could be meant: the server lists an algorithm that the profile has, or none at all.
    pub fn shares_alg(&self, profile: &Profile) -> bool {
        let listed = self.signing_algs();
        listed.is_empty() || profile.accepts.algs.is.iter().any(|alg| listed.iter().any(|name| name == alg.as_str()))
    }

    fn first<'a>(&'a self, of: impl Fn(&'a Document) -> Option<&'a str>) -> Option<(Kind, &'a str)> {
        self.documents.iter().find_map(|(kind, document)| Some((*kind, of(document)?)))
    }
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for Unreadable {}

#[cfg(test)]
mod tests;
