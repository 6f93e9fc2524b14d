//! What is allowed in a policy and hardly meant: who can't be reached, who may more than anybody needs.

use std::collections::{BTreeSet, HashMap};

use super::{Book, Identity, Line, OperatorRole, Scope, Workload};
use crate::{client::Client, key::ClientName};

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// Worth knowing.
    Info,
    /// Probably not meant.
    Warning,
    /// It can't do what it says.
    Error,
}

impl Severity {
    /// The name in the API.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

/// One thing that was found.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Finding {
    pub severity: Severity,
    /// Stable, for programs.
    pub code: &'static str,
    pub what: String,
    pub hint: String,
    pub line: Line,
}

/// A policy, as it is configured.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    pub clients: &'a [Client],
    pub workloads: &'a [Workload],
    pub operators: &'a [(Identity, Vec<OperatorRole>)],
    pub book: &'a Book,
}

/// Everything that is found, in the order of files and lines.
pub fn lint(facts: Facts<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    reachability(facts, &mut findings);
    for workload in facts.workloads {
        breadth(facts, workload, &mut findings);
    }
    clients(facts, &mut findings);
    operators(facts, &mut findings);
    vouchers(facts.book, &mut findings);
    findings.sort_by(|a, b| (&a.line, a.code, &a.what).cmp(&(&b.line, b.code, &b.what)));
    findings
}

fn found(severity: Severity, code: &'static str, line: &Line, what: String, hint: impl Into<String>) -> Finding {
    Finding { severity, code, what, hint: hint.into(), line: line.clone() }
}

/// Who has a section, and nobody vouches for.
fn reachability(facts: Facts<'_>, findings: &mut Vec<Finding>) {
    let workloads = facts.workloads.iter().map(|workload| ("workload", &workload.id));
    let operators = facts.operators.iter().map(|(id, _)| ("operator", id));
    for (role, id) in workloads.chain(operators) {
        let roles = facts.book.roles_of(id);
        if if role == "workload" { roles.workload } else { roles.operator } {
            continue;
        }
        let what = format!("nothing can vouch for {role} `{id}`: nobody can ever connect as it");
        let hint = match facts.book.vouchers_of(id).next() {
            Some(voucher) => format!("add \"{role}\" to `roles` at {}, or take the section out", voucher.line),
            None => "add a section that can vouch for it, or take this one out".to_owned(),
        };
        findings.push(found(Severity::Error, "unvouched", section_of(facts.book, id, role), what, hint));
    }
    for (role, id) in facts.operators.iter().map(|(id, _)| ("operator", id)) {
        if facts.workloads.iter().any(|workload| workload.id == *id) {
            let what = format!("`{id}` is an {role} and a workload: who takes over the service manages its keys");
            let hint = "give the people, or the pipeline, an identity of their own";
            findings.push(found(Severity::Warning, "both-roles", section_of(facts.book, id, role), what, hint));
        }
    }
}

fn section_of<'a>(book: &'a Book, id: &Identity, role: &str) -> &'a Line {
    let workload = || book.workloads.get(id).map(|lines| &lines.section);
    let operator = || book.operators.get(id).map(|lines| &lines.section);
    if role == "workload" { workload() } else { operator() }.unwrap_or(NOWHERE)
}

const NOWHERE: &Line = &Line { file: String::new(), line: None, section: String::new() };

/// What one workload may that hardly any needs.
fn breadth(facts: Facts<'_>, workload: &Workload, findings: &mut Vec<Finding>) {
    let Some(lines) = facts.book.workloads.get(&workload.id) else { return };
    let id = &workload.id;
    let mut seen = BTreeSet::new();
    for name in workload.clients.iter().filter(|name| !seen.insert(*name)) {
        let what = format!("`{id}` names client `{name}` twice; the second one changes nothing");
        findings.push(found(Severity::Warning, "overlap", &lines.clients, what, "take one out"));
    }
    if seen.len() > 1 && facts.clients.iter().all(|client| seen.contains(&client.name)) {
        let what = format!("`{id}` may sign for every client there is: {}", seen.len());
        let hint = "name those that it needs; who takes it over can speak for all of these";
        findings.push(found(Severity::Warning, "every-client", &lines.clients, what, hint));
    }
    for audience in &workload.audiences {
        audience_breadth(facts, workload, audience, &lines.audiences, findings);
    }
    if let Identity::Uid(uid @ (0 | 65534)) = id {
        let what = format!("workload `{id}` is {}", if *uid == 0 { "root" } else { "nobody, whom many processes are" });
        let hint = "run the service as a user of its own";
        findings.push(found(Severity::Warning, "shared-uid", &lines.section, what, hint));
    }
}

fn audience_breadth(facts: Facts<'_>, workload: &Workload, audience: &str, line: &Line, findings: &mut Vec<Finding>) {
    let own = |client: &&Client| workload.clients.contains(&client.name);
    let is_of = |client: &&Client| client.audience() == audience || client.token_endpoint == audience;
    if let Some(client) = facts.clients.iter().filter(own).find(is_of) {
        let what = format!("`{audience}` is the own audience of `{}`, for which it need not be listed", client.name);
        let others = workload.clients.len() > 1;
        let (severity, code) =
            if others { (Severity::Warning, "crossed-audience") } else { (Severity::Info, "needless-audience") };
        let hint = if others {
            "it counts for the workload's other clients too: their assertions could be shown there"
        } else {
            "take it out"
        };
        findings.push(found(severity, code, line, what, hint));
    } else if let Some(client) = facts.clients.iter().find(is_of) {
        let what = format!("`{audience}` is the audience of `{}`, which is not this workload's client", client.name);
        let hint = "an assertion of one client must not be good at another's server";
        findings.push(found(Severity::Warning, "crossed-audience", line, what, hint));
    }
}

/// Clients that nobody may use.
fn clients(facts: Facts<'_>, findings: &mut Vec<Finding>) {
    let mut users: HashMap<&ClientName, Vec<&Identity>> = HashMap::new();
    for workload in facts.workloads {
        for name in &workload.clients {
            users.entry(name).or_default().push(&workload.id);
        }
    }
    for client in facts.clients {
        let Some(line) = facts.book.clients.get(&client.name) else { continue };
        let reachable = |id: &&&Identity| facts.book.roles_of(id).workload;
        match users.get(&client.name) {
            None => {
                let what = format!("nobody may sign for client `{}`", client.name);
                let hint = "name it in `clients` of a [[workload]], or take it out";
                findings.push(found(Severity::Warning, "unused-client", line, what, hint));
            }
            Some(ids) if ids.iter().find(reachable).is_none() => {
                let what = format!("nobody who can connect may sign for client `{}`", client.name);
                let hint = "see what else is said of its workloads";
                findings.push(found(Severity::Warning, "unused-client", line, what, hint));
            }
            Some(_) => {}
        }
    }
}

/// Roles that say the same twice, and operators who may all.
fn operators(facts: Facts<'_>, findings: &mut Vec<Finding>) {
    for (id, roles) in facts.operators {
        let Some(lines) = facts.book.operators.get(id) else { continue };
        if let [_, _, ..] = roles[..] {
            let widest = roles.iter().copied().max_by_key(|role| *role as u8).unwrap_or(OperatorRole::Follow);
            let what = format!(
                "`{id}` has several roles, each of which contains those before it: `{}` counts",
                widest.as_str()
            );
            let hint = format!("write `roles = [\"{}\"]`", widest.as_str());
            findings.push(found(Severity::Warning, "overlap", &lines.roles, what, hint));
        }
        if let Identity::Uid(uid @ (0 | 65534)) = id {
            let whom = if *uid == 0 { "root" } else { "nobody, whom many processes are" };
            let what = format!("operator `{id}` is {whom}");
            let hint = "give each person a certificate, so that the audit log says who it was";
            findings.push(found(Severity::Warning, "shared-uid", &lines.section, what, hint));
        }
    }
    let may_all = |(_, roles): &&(Identity, Vec<OperatorRole>)| roles.contains(&OperatorRole::Destroy);
    if let [first, _, ..] = facts.operators
        && facts.operators.iter().all(|operator| may_all(&operator))
    {
        let what = "every operator has the role `destroy`, which contains all others".to_owned();
        let hint = "most need `view` or `rotate`: destroying a key can't be undone";
        findings.push(found(Severity::Warning, "all-roles", section_of(facts.book, &first.0, "operator"), what, hint));
    }
}

/// Authorities whose word counts for more than it should.
fn vouchers(book: &Book, findings: &mut Vec<Finding>) {
    for voucher in &book.vouchers {
        if voucher.scope == Scope::Socket {
            continue;
        }
        if voucher.roles.workload && voucher.roles.operator {
            let what = "who issues identities of workloads issues those of operators too".to_owned();
            let hint = "use two authorities: the one of workloads is asked by machines, all day long";
            findings.push(found(Severity::Warning, "shared-authority", &voucher.line, what, hint));
        }
        if let Scope::DnsSuffixes(suffixes) = &voucher.scope {
            for suffix in suffixes.iter().filter(|suffix| !suffix.trim_start_matches('.').contains('.')) {
                let what = format!("`{suffix}` is a whole top-level domain");
                let hint = "name your own domain: `.svc.example.com`";
                findings.push(found(Severity::Warning, "broad-suffix", &voucher.line, what, hint));
            }
        }
    }
    for (n, one) in book.vouchers.iter().enumerate() {
        for other in &book.vouchers[n + 1..] {
            overlap(one, other, findings);
        }
    }
}

fn overlap(one: &super::Voucher, other: &super::Voucher, findings: &mut Vec<Finding>) {
    let crossed = one.roles.workload && other.roles.operator || one.roles.operator && other.roles.workload;
    let both = |roles: super::Roles| roles.workload && roles.operator;
    if one.authority == other.authority && crossed && !both(one.roles) && !both(other.roles) {
        let what = format!("workloads and operators have one authority: `{}`", one.authority);
        let hint = format!("use two; the other section is at {}", one.line);
        findings.push(found(Severity::Warning, "shared-authority", &other.line, what, hint));
    }
    if one.scope == other.scope && one.roles != other.roles {
        let what =
            format!("two sections vouch for the same identities, with other roles; the other is at {}", one.line);
        let hint = "whoever both vouch for has the roles of both; make one section of them, or tell the scopes apart";
        findings.push(found(Severity::Warning, "overlap", &other.line, what, hint));
    }
}

#[cfg(test)]
mod tests;
