//! An OAuth client as the configuration describes it.

use std::time::Duration;

use crate::{
    key::{Alg, ClientName, HsmName, KeyLine, KeySpec},
    policy::Claims,
    profile::{Audience, Makes, Profile},
};

/// An OAuth client as registered at one authorization server.
#[derive(Clone, Debug)]
pub struct Client {
    pub name: ClientName,
    /// What the authorization server calls it; `None` until it is registered there. Up to [`MAX_CLIENT_ID`] bytes.
    pub client_id: Option<String>,
    pub profile: &'static Profile,
    /// What its assertions are like: the profile's, with the client's own overrides.
    pub makes: Makes,
    /// For how long its authorization server may keep a key set against what the headers say: the profile's, or its own.
    pub lead: Duration,
    /// The token endpoint, byte for byte as the authorization server's discovery document has it: it becomes `aud`.
    pub token_endpoint: String,
    /// The authorization server's issuer identifier (RFC 8414 §2), byte for byte, where it is to be `aud`.
    pub issuer: Option<String>,
    /// What `iss` is, where that was registered beside the `client_id`.
    pub iss: Option<String>,
    /// Claims of each of its assertions.
    pub claims: Claims,
    /// Form fields of each of its token requests.
    pub form: Vec<(String, String)>,
    pub hsms: Vec<HsmName>,
    /// What keys it has, in the order of preference.
    pub keys: Vec<KeySpec>,
    pub custody: Custody,
    pub provision: Provision,
    pub keep_for: Duration,
    pub edge_ttl: Duration,
    /// Where its JWKS is served instead of `/clients/{name}/jwks.json`.
    pub jwks_path: Option<String>,
    /// Where its JWKS is for the world: the server's public URL and [`Client::jwks_path`].
    pub jwks_url: Option<String>,
    pub jwks_host: JwksHost,
}

/// One real server hands out a JWT as `client_id`.
pub const MAX_CLIENT_ID: usize = 8 * 1024;

/// Whether a `client_id` can be that.
pub fn is_client_id(text: &str) -> bool {
    (1..=MAX_CLIENT_ID).contains(&text.len()) && !text.contains(char::is_control)
}

impl Client {
    /// A client of `profile` with nothing of its own: not registered, without keys.
    pub fn new(name: ClientName, profile: &'static Profile, token_endpoint: impl Into<String>) -> Self {
        Self {
            name,
            client_id: None,
            profile,
            makes: profile.makes,
            lead: profile.jwks.lead,
            token_endpoint: token_endpoint.into(),
            issuer: None,
            iss: None,
            claims: Claims::default(),
            form: Vec::new(),
            hsms: Vec::new(),
            keys: Vec::new(),
            custody: Custody::Local,
            provision: Provision::Manual,
            keep_for: Duration::ZERO,
            edge_ttl: Duration::ZERO,
            jwks_path: None,
            jwks_host: JwksHost::default(),
            jwks_url: None,
        }
    }

    /// The key lines, RSA first as in the JWKS.
    pub fn key_lines(&self) -> Vec<(KeyLine, KeySpec)> {
        let mut specs = self.keys.clone();
        specs.sort_by_key(|spec| spec.alg);
        let line = |spec: KeySpec, hsm: &HsmName| {
            (KeyLine { client: self.name.clone(), alg: spec.alg, hsm: hsm.clone() }, spec)
        };
        specs.iter().flat_map(|spec| self.hsms.iter().map(|hsm| line(*spec, hsm))).collect()
    }

    /// The algorithm of a request that names none.
    pub fn default_alg(&self) -> Option<Alg> {
        self.keys.first().map(|spec| spec.alg)
    }

    /// The `aud` of a request that names none.
    pub fn audience(&self) -> &str {
        match (self.makes.aud, &self.issuer) {
            (Audience::Issuer, Some(issuer)) => issuer,
            // Configuration demands `issuer` where it is to be the audience.
            (Audience::Issuer, None) | (Audience::TokenEndpoint, _) => &self.token_endpoint,
        }
    }

    /// The path of its JWKS, with a slash at the beginning.
    pub fn jwks_path(&self) -> String {
        self.jwks_path.clone().unwrap_or_else(|| default_jwks_path(&self.name))
    }
}

/// Where a client's key set is that says nothing else.
pub fn default_jwks_path(client: &ClientName) -> String {
    format!("/clients/{client}/jwks.json")
}

/// Where the active key's PEM is, beside a client's key set: `…/public_key.pem` where the set's name is `jwks.json`, else
/// below the set's own name, so that sets in one folder have each their own.
pub fn pem_path(jwks_path: &str) -> String {
    let folder = match jwks_path.strip_suffix("/jwks.json") {
        Some(folder) => folder,
        None => jwks_path.strip_suffix(".json").unwrap_or(jwks_path),
    };
    format!("{folder}/public_key.pem")
}

/// What a key must be able to show of its birth, strongest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Custody {
    /// The HSM's maker attests it.
    Attested,
    /// The HSM says that it was generated there and never left (`LOCAL`, `ALWAYS_SENSITIVE`, `NEVER_EXTRACTABLE`).
    Local,
    /// It is on the HSM now, and can't be read.
    Imported,
}

impl Custody {
    /// As in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Attested => "attested",
            Self::Local => "local",
            Self::Imported => "imported",
        }
    }
}

/// Who answers at a client's JWKS URL.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum JwksHost {
    /// This server, or those who follow it.
    #[default]
    Hallmark,
    /// A web server with files that were exported: what it serves is known only once it was seen.
    Static,
}

impl JwksHost {
    /// As in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Hallmark => "hallmark",
            Self::Static => "static",
        }
    }
}

/// Who makes a client's first key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Provision {
    /// An operator, with `keys create`.
    Manual,
    /// The server, when it starts.
    Auto,
}
