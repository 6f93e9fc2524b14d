//! Reads `[[trust]]`, `[[workload]]` and `[[operator]]`: who may call, and for what.

use std::{
    collections::{BTreeSet, HashMap},
    path::{Path, PathBuf},
};

use hallmark_core::{
    key::ClientName,
    policy::{
        Book, Guarded, Identity, Line, OperatorLines, OperatorRole, Rate, Roles, Scope, Voucher, Workload,
        WorkloadLines, is_reserved_claim,
    },
};

use super::{
    Approval, Grpc, Issuer, Trust,
    client::Clients,
    defaults, issuer,
    problem::{At, Place, Problems},
    section::Section,
    value::{Role, nearest},
};

/// Trusts, workloads and operators so far, of all files.
#[derive(Debug, Default)]
pub(super) struct Access {
    pub(super) trusts: Vec<Trust>,
    pub(super) issuers: Vec<Issuer>,
    pub(super) workloads: Vec<Workload>,
    pub(super) operators: Vec<(Identity, Vec<OperatorRole>)>,
    pub(super) book: Book,
    workload_places: HashMap<Identity, Place>,
    operator_places: HashMap<Identity, Place>,
    /// Checked when all files are read: a workload may name a client of a later one.
    references: Vec<At<ClientName>>,
}

impl Access {
    pub(super) fn read_trusts_and_operators(&mut self, root: &Section<'_>) {
        root.tables("trust", |s| {
            let Some(trust) = trust(s) else { return };
            let (scope, authority) = (trust.scope.clone(), trust.bundle.display().to_string());
            self.book.vouchers.push(Voucher {
                scope,
                roles: trust.roles,
                line: line(s.place(), "[[trust]]"),
                authority,
            });
            self.trusts.push(trust);
        });
        root.tables("issuer", |s| {
            let Some(issuer) = issuer::read(s) else { return };
            let (scope, authority) = (issuer.scope(), format!("{:?}", issuer.jwks));
            let line = line(s.place(), "[[issuer]]");
            self.book.vouchers.push(Voucher { scope, roles: issuer.roles, line, authority });
            self.issuers.push(issuer);
        });
        root.tables("operator", |s| {
            let id = s.required::<Identity>("id", ID_EXAMPLE);
            let roles = s.some_of::<OperatorRole>("roles", "[\"view\"]");
            let Some(id) = id else { return };
            note(s, "operators", &mut self.operator_places, &id);
            let section = line(s.place(), "[[operator]]");
            let roles_line = line(&s.place_of("roles"), "roles in [[operator]]");
            self.book.operators.insert(id.value.clone(), OperatorLines { section, roles: roles_line });
            self.operators.push((id.value, roles.map(|roles| roles.value).unwrap_or_default()));
        });
    }

    pub(super) fn read_workloads(&mut self, root: &Section<'_>) {
        root.tables("workload", |s| {
            let id = s.required::<Identity>("id", ID_EXAMPLE);
            let clients = s.some_of::<ClientName>("clients", "[\"epic-prod\"]");
            let audiences = s.get::<Vec<String>>("audiences").map(|list| list.value).unwrap_or_default();
            let claims = claims(s);
            let rate = s.get::<Rate>("rate").map(|rate| rate.value);
            let concurrency = s.get::<u32>("concurrency");
            if let Some(At { value: 0, place }) = &concurrency {
                s.error(
                    place,
                    "`concurrency` in [[workload]] lets nothing through: `0`",
                    "write 1 or more, or leave it out",
                );
            }
            let clients = clients.map_or_else(Vec::new, |At { value, place }| {
                let reference = |name: &ClientName| At { value: name.clone(), place: place.clone() };
                self.references.extend(value.iter().map(reference));
                value
            });
            let Some(id) = id else { return };
            note(s, "workloads", &mut self.workload_places, &id);
            self.book.workloads.insert(id.value.clone(), workload_lines(s));
            let concurrency = concurrency.map(|limit| limit.value);
            self.workloads.push(Workload { id: id.value, clients, audiences, claims, rate, concurrency });
        });
    }

    /// Adds what stands elsewhere: clients, and the Unix socket, whose peers may be whatever is listed.
    pub(super) fn complete_book(&mut self, clients: &Clients, grpc: Option<&Grpc>, socket: Option<&Place>) {
        let client = |(name, place): (&ClientName, &Place)| (name.clone(), line(place, "[[client]]"));
        self.book.clients = clients.names.iter().map(client).collect();
        if let (Some(path), Some(place)) = (grpc.and_then(|grpc| grpc.unix.as_ref()), socket) {
            let roles = Roles { workload: true, operator: true };
            let (line, authority) = (line(place, "unix in [grpc]"), path.display().to_string());
            self.book.vouchers.push(Voucher { scope: Scope::Socket, roles, line, authority });
        }
    }

    /// Two must be there who may, or what waits could never be done.
    pub(super) fn check_approvers(&self, approval: &Approval, place: Option<&Place>, problems: &Problems) {
        let guarded = |what: Guarded| approval.require.contains(&what);
        let role = match () {
            () if guarded(Guarded::Destroy) || guarded(Guarded::Force) => OperatorRole::Destroy,
            () if guarded(Guarded::Revoke) => OperatorRole::Rotate,
            () => return,
        };
        let may = |(_, roles): &&(Identity, Vec<OperatorRole>)| roles.iter().any(|held| *held as u8 >= role as u8);
        let count = self.operators.iter().filter(may).count();
        if let (0..2, Some(place)) = (count, place) {
            let what =
                format!("[approval] wants two operators with the role `{}`, and there is {count}", role.as_str());
            problems.error(place, what, "add an [[operator]] section, or nothing of it could ever be done");
        }
    }

    /// Whoever is said to serve the key sets must be let in, or no new key would ever sign.
    pub(super) fn check_followers(&self, followers: &[At<Identity>], problems: &Problems) {
        for At { value: id, place } in followers {
            if !self.operator_places.contains_key(id) {
                let what = format!("`followers` in [jwks] names one that may not follow: `{id}`");
                let hint = format!("add an [[operator]] section with `id = \"{id}\"` and `roles = [\"follow\"]`");
                problems.error(place, what, hint);
            }
        }
    }

    /// What can be judged only when all sections of all files are known.
    pub(super) fn check(&self, clients: &Clients, main: &Path, problems: &Problems) {
        let known: Vec<_> = clients.names.keys().map(ClientName::as_str).collect();
        for At { value: name, place } in &self.references {
            let Some(client) = clients.names.get(name) else {
                let add = || "add a [[client]] section".to_owned();
                let hint = if known.is_empty() { add() } else { nearest(name.as_str(), &known) };
                problems.error(place, format!("unknown client: `{name}`"), hint);
                continue;
            };
            // Whoever may add clients can let others sign for those, and for no others.
            if *place.file != *main && *client.file == *main {
                let what = format!("a [[workload]] in `clients.d` names a client of the main file: `{name}`");
                problems.error(place, what, "move this section to the main file, or the client to `clients.d`");
            }
        }
        let named: BTreeSet<_> = self.references.iter().map(|reference| &reference.value).collect();
        for (name, place) in &clients.names {
            if !named.contains(name) {
                let what = format!("nobody may sign for client `{name}`");
                problems.warn(place, what, "name it in `clients` of a [[workload]]");
            }
        }
        let unreachable = |id: &Identity, role: fn(&Roles) -> bool| !role(&self.book.roles_of(id));
        let workloads = self.workload_places.iter().filter(|(id, _)| unreachable(id, |roles| roles.workload));
        let operators = self.operator_places.iter().filter(|(id, _)| unreachable(id, |roles| roles.operator));
        for (role, (id, place)) in workloads.map(|at| ("workload", at)).chain(operators.map(|at| ("operator", at))) {
            problems.warn(place, format!("nothing can vouch for {role} `{id}`"), vouch_hint(id, role));
        }
    }
}

fn vouch_hint(id: &Identity, role: &str) -> String {
    match id {
        Identity::Spiffe(_) => format!("add a [[trust]] with its `trust_domain` and `roles = [\"{role}\"]`"),
        Identity::Dns(_) => format!("add a [[trust]] with `dns_suffixes` for it and `roles = [\"{role}\"]`"),
        Identity::Uid(_) => "add `unix = \"/run/hallmark/hallmark.sock\"` to [grpc]".to_owned(),
        Identity::Jwt { .. } => format!("add an [[issuer]] with its `issuer` and `roles = [\"{role}\"]`"),
    }
}

fn workload_lines(s: &Section<'_>) -> WorkloadLines {
    let at = |key: &str| line(&s.place_of(key), &format!("{key} in [[workload]]"));
    let section = line(s.place(), "[[workload]]");
    let audiences = if s.has("audiences") { at("audiences") } else { section.clone() };
    WorkloadLines { clients: at("clients"), audiences, section }
}

fn line(place: &Place, section: &str) -> Line {
    Line { file: place.file.display().to_string(), line: place.line, section: section.to_owned() }
}

/// One section for each identity: two would leave open which one holds.
fn note(s: &Section<'_>, what: &str, places: &mut HashMap<Identity, Place>, id: &At<Identity>) {
    if let Some(other) = places.insert(id.value.clone(), id.place.clone()) {
        let hint = format!("put both into the section at {other}");
        s.error(&id.place, format!("two {what} of one id: `{}`", id.value), hint);
    }
}

fn trust(s: &Section<'_>) -> Option<Trust> {
    let bundle = s.required::<PathBuf>("bundle", "\"ca.pem\"");
    let roles = roles(s);
    let domain = s.get::<String>("trust_domain");
    let suffixes = s.get::<Vec<String>>("dns_suffixes");
    let scope = match (domain, suffixes) {
        (Some(domain), None) => trust_domain(s, domain),
        (None, Some(suffixes)) => dns_suffixes(s, suffixes),
        (Some(_), Some(At { place, .. })) => {
            let hint = "make two [[trust]] sections of it, each with its own bundle";
            s.error(&place, "[[trust]] has both `trust_domain` and `dns_suffixes`", hint);
            return None;
        }
        (None, None) => {
            if !s.has("trust_domain") && !s.has("dns_suffixes") {
                let hint = "add `trust_domain = \"prod.example\"`, or `dns_suffixes = [\".svc.example.com\"]`";
                s.error(s.place(), "[[trust]] has neither `trust_domain` nor `dns_suffixes`", hint);
            }
            return None;
        }
    };
    Some(Trust { bundle: bundle?.value, scope, roles })
}

fn roles(s: &Section<'_>) -> Roles {
    let Some(At { value: list, place }) = s.get::<Vec<Role>>("roles") else { return defaults::trust_roles() };
    if list.is_empty() {
        s.error(&place, "`roles` in [[trust]] is empty", "write `roles = [\"workload\"]`");
    }
    Roles { workload: list.contains(&Role::Workload), operator: list.contains(&Role::Operator) }
}

/// SPIFFE ID §2.1: lower-case letters, digits, dots, dashes and underscores.
fn trust_domain(s: &Section<'_>, At { value: domain, place }: At<String>) -> Scope {
    let valid = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'-' | b'_');
    if domain.is_empty() || domain.len() > 255 || !domain.bytes().all(valid) {
        let hint = "write the part between `spiffe://` and the next slash, in lower case: `prod.example`";
        s.error(&place, format!("not a trust domain: `{domain}`"), hint);
    }
    Scope::TrustDomain(domain)
}

fn dns_suffixes(s: &Section<'_>, At { value: list, place }: At<Vec<String>>) -> Scope {
    let label = |label: &str| {
        let valid = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        (1..=63).contains(&label.len()) && label.bytes().all(valid)
    };
    if list.is_empty() {
        s.error(&place, "`dns_suffixes` in [[trust]] is empty", "write `dns_suffixes = [\".svc.example.com\"]`");
    }
    for suffix in &list {
        if !suffix.strip_prefix('.').unwrap_or(suffix).split('.').all(label) {
            let hint = "write the end of a DNS name, without a wildcard: `.svc.example.com`";
            s.error(&place, format!("not a DNS suffix: `{suffix}`"), hint);
        }
    }
    Scope::DnsSuffixes(list.iter().map(|suffix| suffix.to_ascii_lowercase()).collect())
}

fn claims(s: &Section<'_>) -> Vec<String> {
    let Some(At { value: claims, place }) = s.get::<Vec<String>>("claims") else { return Vec::new() };
    for claim in claims.iter().filter(|claim| is_reserved_claim(claim)) {
        let what = format!("`claims` in [[workload]] has one that Hallmark sets itself: `{claim}`");
        s.error(&place, what, "leave it out; no caller can set it");
    }
    claims
}

const ID_EXAMPLE: &str = "\"spiffe://prod.example/billing\"";
