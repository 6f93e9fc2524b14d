//! Where the policy stands in the configuration, and who vouches for whom: what an explanation is made from.

use std::{collections::HashMap, fmt};

use super::{Identity, Roles};
use crate::key::ClientName;

/// Where something stands in the configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
pub struct Line {
    pub file: String,
    /// Counted from 1; `None` where the file as a whole is meant.
    pub line: Option<usize>,
    /// As messages show it: `[[workload]]`, or a key with it: `clients in [[workload]]`.
    pub section: String,
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            Some(line) => write!(f, "{}:{line}: {}", self.file, self.section),
            None => write!(f, "{}: {}", self.file, self.section),
        }
    }
}

/// The identities that an authority may vouch for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// SPIFFE IDs of this trust domain.
    TrustDomain(String),
    /// DNS names below one of these, and the one itself where it does not begin with a dot. In lower case; an ending
    /// counts only at the border of a label: `corp.example` covers `a.corp.example` and never `evilcorp.example`.
    DnsSuffixes(Vec<String>),
    /// Subjects of tokens of this issuer.
    Issuer(String),
    /// Whoever is at the other end of a Unix socket.
    Socket,
}

impl Scope {
    /// Whether `identity` lies within.
    pub fn covers(&self, identity: &Identity) -> bool {
        match (self, identity) {
            (Self::TrustDomain(domain), Identity::Spiffe(id)) => {
                let rest = id.strip_prefix("spiffe://").and_then(|rest| rest.strip_prefix(domain.as_str()));
                rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            }
            (Self::DnsSuffixes(suffixes), Identity::Dns(name)) => suffixes.iter().any(|suffix| is_within(name, suffix)),
            (Self::Issuer(issuer), Identity::Jwt { issuer: of, .. }) => issuer == of,
            (Self::Socket, Identity::Uid(_)) => true,
            _ => false,
        }
    }
}

/// `name` is in lower case.
fn is_within(name: &str, suffix: &str) -> bool {
    let suffix = suffix.to_ascii_lowercase();
    let (suffix, only_below) = match suffix.strip_prefix('.') {
        Some(rest) => (rest, true),
        None => (suffix.as_str(), false),
    };
    match name.strip_suffix(suffix) {
        Some("") => !only_below && !suffix.is_empty(),
        Some(rest) => rest.ends_with('.') && !suffix.is_empty(),
        None => false,
    }
}

/// A section that says whose word counts, for whom, and as what.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Voucher {
    pub scope: Scope,
    pub roles: Roles,
    pub line: Line,
    /// What tells its authority from others: the path of the bundle.
    pub authority: String,
}

/// Where a workload's section and its keys stand.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WorkloadLines {
    pub section: Line,
    pub clients: Line,
    /// The section's where there is no such key.
    pub audiences: Line,
}

/// Where an operator's section and its roles stand.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OperatorLines {
    pub section: Line,
    pub roles: Line,
}

/// The lines of a policy.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Book {
    pub workloads: HashMap<Identity, WorkloadLines>,
    pub operators: HashMap<Identity, OperatorLines>,
    pub clients: HashMap<ClientName, Line>,
    /// In the order of the file.
    pub vouchers: Vec<Voucher>,
}

impl Book {
    /// Those who may say that a caller is `identity`.
    pub fn vouchers_of(&self, identity: &Identity) -> impl Iterator<Item = &Voucher> {
        self.vouchers.iter().filter(|voucher| voucher.scope.covers(identity))
    }

    /// What `identity` may be, by all that vouch for it: a certificate of one authority has that one's roles only.
    pub fn roles_of(&self, identity: &Identity) -> Roles {
        self.vouchers_of(identity).fold(Roles::default(), |roles, voucher| Roles {
            workload: roles.workload || voucher.roles.workload,
            operator: roles.operator || voucher.roles.operator,
        })
    }
}
