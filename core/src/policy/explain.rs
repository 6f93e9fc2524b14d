//! Why the policy lets somebody do something, or not: what [`Policy::authorise`] and [`Policy::operator`] answer, with
//! the line that decides.

use super::{Act, AssertionRequest, Book, Caller, Claims, Credential, Identity, Line, Policy, Roles, Rule};
use crate::{
    client::Client,
    error::{Error, Reason},
    key::ClientName,
    time::Timestamp,
};

/// What is asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Question {
    /// May this workload sign for that client, to that audience?
    Sign { workload: Identity, client: ClientName, audience: Option<String> },
    /// May this operator do that, past a gate or not?
    Operate { operator: Identity, act: Act, force: bool },
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// The reason of the refusal; `None`: it is allowed.
    pub refused: Option<Reason>,
    /// What decides, in words.
    pub why: String,
    /// The line that decides. `None` where one is missing.
    pub by: Option<Line>,
    /// Who vouches for the identity, in this role.
    pub vouched_by: Vec<Line>,
    /// What to do about it, where it is refused.
    pub hint: Option<String>,
}

impl Policy {
    /// Answers `question` as for a caller whom one of the vouchers of `book` has let in. `client` is the one that the
    /// question names, if it exists.
    pub fn explain(&self, book: &Book, question: &Question, client: Option<&Client>) -> Explanation {
        match question {
            Question::Sign { workload, client: name, audience } => {
                self.explain_signing(book, workload, name, audience.as_deref(), client)
            }
            Question::Operate { operator, act, force } => self.explain_act(book, operator, *act, *force),
        }
    }

    fn explain_signing(
        &self,
        book: &Book,
        id: &Identity,
        name: &ClientName,
        audience: Option<&str>,
        client: Option<&Client>,
    ) -> Explanation {
        let request = AssertionRequest {
            client: name.clone(),
            alg: None,
            audience: audience.map(str::to_owned),
            lifetime: None,
            scope: None,
            claims: Claims::default(),
        };
        let decided = self.decide(&caller(book, id), &request, client, NO_TIME);
        let lines = book.workloads.get(id);
        let line = |rule: Rule| match rule {
            Rule::Workload => None,
            Rule::OwnAudience => book.clients.get(name).cloned(),
            Rule::Audiences | Rule::Claims | Rule::Lifetime => lines.map(|lines| lines.audiences.clone()),
            Rule::Clients => lines.map(|lines| lines.clients.clone()),
        };
        let vouched_by = vouched(book, id, |roles| roles.workload);
        match decided {
            Ok(rule) => {
                let why = format!("`{id}` may sign for `{name}`, to {}", addressee(rule, audience));
                Explanation { refused: None, why, by: line(rule), vouched_by, hint: None }
            }
            Err((rule, error)) => {
                let (by, hint) = match rule {
                    Rule::Workload => why_nobody(book, id, lines.map(|lines| &lines.section), "workload"),
                    Rule::Clients if client.is_none() => {
                        (line(rule), format!("there is no [[client]] `{name}` in the configuration at all"))
                    }
                    Rule::Clients => (line(rule), format!("add \"{name}\" to `clients` there, if it is meant to")),
                    _ => (line(rule), "add it to `audiences` there, byte for byte, if it is meant to".to_owned()),
                };
                refusal(error, by, vouched_by, hint)
            }
        }
    }

    fn explain_act(&self, book: &Book, id: &Identity, act: Act, force: bool) -> Explanation {
        let role = act.role(force);
        let lines = book.operators.get(id);
        let vouched_by = vouched(book, id, |roles| roles.operator);
        let past = if force { " past a gate" } else { "" };
        match self.operator(&caller(book, id), role, NO_TIME) {
            Ok(()) => {
                let why = format!("`{id}` may {act}{past}: that takes the role `{}`", role.as_str());
                let by = lines.map(|lines| lines.roles.clone());
                Explanation { refused: None, why, by, vouched_by, hint: None }
            }
            Err(error) if vouched_by.is_empty() || lines.is_none() => {
                let (by, hint) = why_nobody(book, id, lines.map(|lines| &lines.section), "operator");
                refusal(error, by, vouched_by, hint)
            }
            Err(error) => {
                let hint = format!("`{act}`{past} takes the role `{}`; `roles` there has less", role.as_str());
                refusal(error, lines.map(|lines| lines.roles.clone()), vouched_by, hint)
            }
        }
    }
}

/// No credential ends in an explanation.
const NO_TIME: Timestamp = Timestamp::from_millis(0);

fn caller(book: &Book, id: &Identity) -> Caller {
    Caller { identity: id.clone(), roles: book.roles_of(id), not_after: None, credential: Credential::Socket }
}

fn vouched(book: &Book, id: &Identity, wants: fn(&Roles) -> bool) -> Vec<Line> {
    book.vouchers_of(id).filter(|voucher| wants(&voucher.roles)).map(|voucher| voucher.line.clone()).collect()
}

/// To whom `rule` lets an assertion be addressed.
fn addressee(rule: Rule, audience: Option<&str>) -> String {
    match (rule, audience) {
        (Rule::Audiences, Some(audience)) => format!("the audience `{audience}` of its list"),
        (Rule::OwnAudience, Some(audience)) => format!("`{audience}`, the client's own audience"),
        _ => "the client's own audience".to_owned(),
    }
}

/// Why an identity is nobody here: it has no section, or nobody vouches for it in that role.
fn why_nobody(book: &Book, id: &Identity, section: Option<&Line>, role: &str) -> (Option<Line>, String) {
    let Some(section) = section else {
        return (None, format!("no [[{role}]] section has `id = \"{id}\"`"));
    };
    match book.vouchers_of(id).next() {
        Some(voucher) => {
            let hint = format!("who vouches for `{id}` does not have \"{role}\" in its `roles`");
            (Some(voucher.line.clone()), hint)
        }
        None => (Some(section.clone()), format!("nothing can vouch for `{id}`: it can't connect at all")),
    }
}

fn refusal(error: Error, by: Option<Line>, vouched_by: Vec<Line>, hint: String) -> Explanation {
    Explanation { refused: Some(error.reason), why: error.message, by, vouched_by, hint: Some(hint) }
}

#[cfg(test)]
mod tests;
