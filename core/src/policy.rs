//! Who may sign for which client.
//!
//! [`Policy::authorise`] is the only maker of a [`Grant`], and a grant is the only way to [`crate::assertion::prepare`].

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use crate::{
    client::Client,
    error::{Error, Reason},
    key::ClientName,
    time::Timestamp,
};

mod acts;
mod book;
mod caller;
mod explain;
pub mod lint;
mod request;

pub use self::{
    acts::{Act, Guarded},
    book::{Book, Line, OperatorLines, Scope, Voucher, WorkloadLines},
    caller::{Caller, Credential, Identity, Roles},
    explain::{Explanation, Question},
    request::{AssertionRequest, Claims, is_reserved_claim},
};

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
