//! Who may sign for which client.
//!
//! [`Policy::authorise`] is the only maker of a [`Grant`], and a grant is the only way to [`crate::assertion::prepare`].

use std::{
    collections::{HashMap, HashSet},
    fmt,
    str::FromStr,
    time::Duration,
};

use crate::{
    client::Client,
    error::{Error, Reason},
    key::{Alg, ClientName, InvalidName},
    time::Timestamp,
};

mod acts;
mod book;
mod explain;
pub mod lint;

pub use self::{
    acts::{Act, Guarded},
    book::{Book, Line, OperatorLines, Scope, Voucher, WorkloadLines},
    explain::{Explanation, Question},
};

/// Who is calling, as the transport established it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    pub identity: Identity,
    pub roles: Roles,
    /// When the credential expires; every message is checked against it.
    pub not_after: Option<Timestamp>,
    pub credential: Credential,
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

impl Credential {
    /// What tells it from another's; empty where the identity alone does.
    pub fn mark(&self) -> &str {
        match self {
            Self::Certificate { key } => key,
            Self::Socket | Self::Token => "",
        }
    }
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

/// What the trust that vouched for a caller lets it be.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Roles {
    pub workload: bool,
    pub operator: bool,
}

/// What one workload may do.
#[derive(Clone, Debug)]
pub struct Workload {
    pub id: Identity,
    pub clients: Vec<ClientName>,
    /// Audiences that it may name beside the client's own.
    pub audiences: Vec<String>,
    /// Claims that it may add.
    pub claims: Vec<String>,
    pub rate: Option<Rate>,
    /// How many requests it may have under way.
    pub concurrency: Option<u32>,
}

/// At most `count` in each `per`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    pub count: u32,
    pub per: Duration,
}

/// The whole policy: what workloads may sign, and who may manage keys.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    workloads: HashMap<Identity, Known>,
    operators: HashMap<Identity, Vec<OperatorRole>>,
}

/// A workload with its clients as they are asked for: for each signature, and there may be ten thousand. A search in
/// their order would wait for the memory of a dozen of them.
#[derive(Clone, Debug)]
struct Known {
    workload: Workload,
    clients: HashSet<ClientName>,
}

/// What an operator may do; each role contains those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum OperatorRole {
    /// May follow what is published, as those do who serve key sets elsewhere.
    Follow,
    /// May also list and read keys.
    View,
    /// May also create keys and move them through their states.
    Rotate,
    /// May also destroy keys and force gates.
    Destroy,
}

impl OperatorRole {
    /// The name in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Follow => "follow",
            Self::View => "view",
            Self::Rotate => "rotate",
            Self::Destroy => "destroy",
        }
    }
}

/// What a workload asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AssertionRequest {
    pub client: ClientName,
    pub alg: Option<Alg>,
    pub audience: Option<String>,
    pub lifetime: Option<Duration>,
    pub scope: Option<String>,
    pub claims: Claims,
}

/// Extra claims, each value kept byte for byte: a round trip through a float would change integers.
#[derive(Clone, Debug, Default)]
pub struct Claims(pub Vec<(String, Box<serde_json::value::RawValue>)>);

impl PartialEq for Claims {
    fn eq(&self, other: &Self) -> bool {
        let pair = |(name, value): &(String, Box<serde_json::value::RawValue>)| (name.clone(), value.get().to_owned());
        self.0.iter().map(pair).eq(other.0.iter().map(pair))
    }
}

impl Eq for Claims {}

/// Proof that a caller may sign what the request says. Not `Clone`: two signatures need two grants.
#[derive(Debug)]
pub struct Grant {
    identity: Identity,
    request: AssertionRequest,
}

impl Grant {
    /// Who may sign.
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// What was asked for, and found permitted.
    pub fn request(&self) -> &AssertionRequest {
        &self.request
    }
}

/// What of the policy decides about a signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Rule {
    /// Whether the caller is a workload at all.
    Workload,
    /// Its `clients`.
    Clients,
    /// The client's own audience.
    OwnAudience,
    /// Its `audiences`.
    Audiences,
    /// Its `claims`.
    Claims,
    /// What the client's profile allows.
    Lifetime,
}

/// Claims that Hallmark sets itself, or that would change what verifiers check (RFC 7519 §4.1, RFC 7800).
const RESERVED: [&str; 8] = ["iss", "sub", "aud", "exp", "nbf", "iat", "jti", "cnf"];

/// Whether no workload may add this claim, whatever the configuration says.
///
/// Some verifiers look names up whatever their case, and fold what is not ASCII: `Sub` and `iſs` would be `sub` and `iss`.
pub fn is_reserved_claim(name: &str) -> bool {
    !name.is_ascii() || RESERVED.iter().any(|reserved| reserved.eq_ignore_ascii_case(name))
}

impl Policy {
    /// Identities must be unique; of two alike the later one counts.
    pub fn new(
        workloads: impl IntoIterator<Item = Workload>,
        operators: impl IntoIterator<Item = (Identity, Vec<OperatorRole>)>,
    ) -> Self {
        let known = |workload: Workload| {
            let clients = workload.clients.iter().cloned().collect();
            (workload.id.clone(), Known { workload, clients })
        };
        Self { workloads: workloads.into_iter().map(known).collect(), operators: operators.into_iter().collect() }
    }

    /// The workload that `caller` is.
    fn workload(&self, caller: &Caller, now: Timestamp) -> Result<&Known, Error> {
        check_not_after(caller, now)?;
        let known = self.workloads.get(&caller.identity).filter(|_| caller.roles.workload);
        known.ok_or_else(|| {
            let text =
                format!("`{}` is no workload here; an operator can add a [[workload]] with this id", caller.identity);
            Error::new(Reason::WorkloadUnknown, text)
        })
    }

    /// Whether `caller` may sign what `request` says for `client`, which is `None` where no such client exists.
    pub fn authorise(
        &self,
        caller: &Caller,
        request: AssertionRequest,
        client: Option<&Client>,
        now: Timestamp,
    ) -> Result<Grant, Error> {
        self.decide(caller, &request, client, now).map_err(|(_, error)| error)?;
        Ok(Grant { identity: caller.identity.clone(), request })
    }

    /// Says yes or no, and what of the policy decides.
    fn decide(
        &self,
        caller: &Caller,
        request: &AssertionRequest,
        client: Option<&Client>,
        now: Timestamp,
    ) -> Result<Rule, (Rule, Error)> {
        let Known { workload, clients } = self.workload(caller, now).map_err(|error| (Rule::Workload, error))?;
        let client = client.filter(|client| client.name == request.client && clients.contains(&client.name));
        let client = client.ok_or_else(|| (Rule::Clients, not_permitted(&request.client)))?;
        let rule = check_audience(workload, client, request.audience.as_deref());
        let rule = rule.map_err(|error| (Rule::Audiences, error))?;
        check_claims(workload, &request.claims).map_err(|error| (Rule::Claims, error))?;
        check_lifetime(client, request.lifetime).map_err(|error| (Rule::Lifetime, error))?;
        Ok(rule)
    }

    /// Whether `caller` may see `client`'s JWKS and the like: one of its workloads, or an operator.
    pub fn may_view(&self, caller: &Caller, client: &ClientName, now: Timestamp) -> Result<(), Error> {
        if self.operator(caller, OperatorRole::View, now).is_ok() {
            return Ok(());
        }
        if self.workload(caller, now)?.clients.contains(client) { Ok(()) } else { Err(not_permitted(client)) }
    }

    /// Whether `caller` is an operator with `role`, or with one that contains it.
    pub fn operator(&self, caller: &Caller, role: OperatorRole, now: Timestamp) -> Result<(), Error> {
        check_not_after(caller, now)?;
        let roles = self.operators.get(&caller.identity).filter(|_| caller.roles.operator);
        let contains = |held: &OperatorRole| *held as u8 >= role as u8;
        if roles.is_some_and(|roles| roles.iter().any(contains)) {
            return Ok(());
        }
        let text =
            format!("`{}` is no operator with role \"{}\" here; see [[operator]]", caller.identity, role.as_str());
        Err(Error::new(Reason::NotAnOperator, text))
    }

    /// What workloads may name as audience of this client's assertions, beside the client's own.
    pub fn audiences_of<'a>(&'a self, client: &'a ClientName) -> impl Iterator<Item = &'a str> {
        let known = self.workloads.values().filter(|known| known.clients.contains(client));
        known.flat_map(|known| known.workload.audiences.iter().map(String::as_str))
    }
}

fn check_not_after(caller: &Caller, now: Timestamp) -> Result<(), Error> {
    match caller.not_after {
        Some(end) if now > end && caller.credential == Credential::Token => {
            let text = format!("the token of `{}` has expired; call again with a new one", caller.identity);
            Err(Error::new(Reason::TokenExpired, text))
        }
        Some(end) if now > end => {
            let text = format!("the certificate of `{}` has expired; connect again with a new one", caller.identity);
            Err(Error::new(Reason::CertificateExpired, text))
        }
        _ => Ok(()),
    }
}

fn not_permitted(client: &ClientName) -> Error {
    // The same words for a client that does not exist: a caller must not learn the names of others' clients.
    let text = format!("no client `{client}` for this workload; see `clients` of its [[workload]]");
    Error::new(Reason::ClientNotPermitted, text)
}

/// Gives the rule that lets it through.
fn check_audience(workload: &Workload, client: &Client, audience: Option<&str>) -> Result<Rule, Error> {
    match audience {
        None => Ok(Rule::Clients),
        Some(audience) if audience == client.token_endpoint || audience == client.audience() => Ok(Rule::OwnAudience),
        Some(audience) if workload.audiences.iter().any(|listed| listed == audience) => Ok(Rule::Audiences),
        Some(_) => {
            let text = "the audience is neither the client's token endpoint nor in `audiences` of the workload; \
                        they are compared byte for byte";
            Err(Error::new(Reason::AudienceNotPermitted, text))
        }
    }
}

fn check_claims(workload: &Workload, claims: &Claims) -> Result<(), Error> {
    for (name, _) in &claims.0 {
        if is_reserved_claim(name) {
            let text = format!("claim `{name}` is set by Hallmark; leave it out");
            return Err(Error::new(Reason::ReservedClaim, text));
        }
        if !workload.claims.contains(name) {
            let shown: String = name.chars().take(80).collect();
            let text = format!("claim `{shown}` is not in `claims` of the workload");
            return Err(Error::new(Reason::ClaimNotPermitted, text));
        }
    }
    Ok(())
}

fn check_lifetime(client: &Client, lifetime: Option<Duration>) -> Result<(), Error> {
    let max = client.makes.lifetime;
    match lifetime {
        Some(lifetime) if lifetime > max => {
            let text = format!("a lifetime of {} s is over this client's {} s", lifetime.as_secs(), max.as_secs());
            Err(Error::new(Reason::LifetimeTooLong, text))
        }
        Some(lifetime) if lifetime <= client.makes.backdate => {
            let text = format!("a lifetime must be longer than {} s", client.makes.backdate.as_secs());
            Err(Error::new(Reason::InvalidRequest, text))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;
