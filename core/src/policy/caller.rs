//! Who is calling: an identity, how it was shown, and what it may be.

use std::{fmt, str::FromStr};

use crate::{key::InvalidName, time::Timestamp};

/// Who is calling, as the transport established it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    pub identity: Identity,
    pub roles: Roles,
    /// When the credential expires; every message is checked against it.
    pub not_after: Option<Timestamp>,
    pub credential: Credential,
}

/// What the trust that vouched for a caller lets it be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Roles {
    pub workload: bool,
    pub operator: bool,
}

/// How a caller has shown who it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credential {
    /// A certificate; told from others by its public key, SHA-256 in hexadecimal.
    Certificate { key: String },
    /// The peer of a Unix socket.
    Socket,
    /// A bearer token.
    Token,
}

/// An identity, typed by how it was established.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Identity {
    /// The URI SAN of a certificate that is a SPIFFE ID.
    Spiffe(String),
    /// The DNS SAN of a certificate.
    Dns(String),
    /// The peer's uid on a Unix socket.
    Uid(u32),
    /// `iss` and `sub` of a bearer JWT.
    Jwt { issuer: String, subject: String },
}

impl Credential {
    /// What tells it from another's; empty where the identity alone does.
    pub fn mark(&self) -> &str {
        match self {
            Self::Certificate { key } => key,
            Self::Socket | Self::Token => "",
        }
    }
}

impl Identity {
    /// The SPIFFE ID of a workload (SPIFFE-ID §2): lower-case trust domain, path of non-empty segments, nothing else; at
    /// most 2048 bytes. A workload's path is never empty (X.509-SVID §4.1).
    pub fn spiffe(uri: &str) -> Option<Self> {
        let (domain, path) = uri.strip_prefix("spiffe://")?.split_once('/')?;
        let domain_ok = (1..=255).contains(&domain.len())
            && domain.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'-' | b'_'));
        let segment_ok = |segment: &str| {
            let allowed = |b| matches!(b, b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'.' | b'-' | b'_');
            !matches!(segment, "" | "." | "..") && segment.bytes().all(allowed)
        };
        (uri.len() <= 2048 && domain_ok && path.split('/').all(segment_ok)).then(|| Self::Spiffe(uri.to_owned()))
    }

    /// A DNS name, without wildcards; kept in lower case.
    pub fn dns(name: &str) -> Option<Self> {
        let label_ok = |label: &str| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
                && !label.starts_with('-')
                && !label.ends_with('-')
        };
        (name.len() <= 253 && name.split('.').all(label_ok)).then(|| Self::Dns(name.to_ascii_lowercase()))
    }
}

impl FromStr for Identity {
    type Err = InvalidName;

    fn from_str(text: &str) -> Result<Self, InvalidName> {
        let rule = "spiffe://DOMAIN/PATH, dns:NAME, uid:NUMBER or jwt:ISSUER#SUBJECT";
        let invalid = || InvalidName::new("identity", text, rule);
        match text.split_once(':') {
            Some(("spiffe", _)) => Self::spiffe(text).ok_or_else(invalid),
            Some(("dns", name)) => Self::dns(name).ok_or_else(invalid),
            Some(("uid", uid)) => uid.parse().map(Self::Uid).map_err(|_| invalid()),
            Some(("jwt", rest)) => match rest.rsplit_once('#') {
                Some((issuer, subject)) if !issuer.is_empty() && !subject.is_empty() => {
                    Ok(Self::Jwt { issuer: issuer.to_owned(), subject: subject.to_owned() })
                }
                _ => Err(invalid()),
            },
            _ => Err(invalid()),
        }
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Spiffe(id) => f.write_str(id),
            Self::Dns(name) => write!(f, "dns:{name}"),
            Self::Uid(uid) => write!(f, "uid:{uid}"),
            Self::Jwt { issuer, subject } => write!(f, "jwt:{issuer}#{subject}"),
        }
    }
}
