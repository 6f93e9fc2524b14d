use super::{
    super::{OperatorLines, OperatorRole, Scope, Voucher, Workload, WorkloadLines},
    *,
};
use crate::profile::Profile;

fn line(section: &str) -> Line {
    Line { file: "f.toml".into(), line: Some(1), section: section.into() }
}

fn site() -> (Policy, Book, Client) {
    let id: Identity = "dns:w.example".parse().unwrap();
    let ops: Identity = "dns:ops.example".parse().unwrap();
    let workload = Workload {
        id: id.clone(),
        clients: vec!["a".parse().unwrap()],
        audiences: vec!["https://other.example/".into()],
        claims: vec![],
        rate: None,
        concurrency: None,
    };
    let lines = WorkloadLines { section: line("workload"), clients: line("clients"), audiences: line("audiences") };
    let scope = Scope::DnsSuffixes(vec![".example".into()]);
    let roles = Roles { workload: true, operator: true };
    let mut book = Book::default();
    book.workloads.insert(id, lines);
    book.operators.insert(ops.clone(), OperatorLines { section: line("operator"), roles: line("roles") });
    book.clients.insert("a".parse().unwrap(), line("client"));
    book.vouchers.push(Voucher { scope, roles, line: line("trust"), authority: "ca.pem".into() });
    let client = Client::new("a".parse().unwrap(), Profile::find("smart-v2").unwrap(), "https://as.example/token");
    (Policy::new([workload], [(ops, vec![OperatorRole::Rotate])]), book, client)
}

fn ask(book: &Book, policy: &Policy, question: &Question) -> (Option<Reason>, String) {
    let (_, _, client) = site();
    let known = match question {
        Question::Sign { client: name, .. } => Some(&client).filter(|client| client.name == *name),
        Question::Operate { .. } => None,
    };
    let answer = policy.explain(book, question, known);
    (answer.refused, answer.by.map(|line| line.section).unwrap_or_default())
}

fn sign(workload: &str, client: &str, audience: Option<&str>) -> Question {
    let (workload, client) = (workload.parse().unwrap(), client.parse().unwrap());
    Question::Sign { workload, client, audience: audience.map(str::to_owned) }
}

fn operate(operator: &str, act: Act, force: bool) -> Question {
    Question::Operate { operator: operator.parse().unwrap(), act, force }
}

#[test]
fn the_line_that_decides_is_named() {
    let (policy, book, _) = site();
    let asked = |question: Question| ask(&book, &policy, &question);
    let w = "dns:w.example";
    assert_eq!(asked(sign(w, "a", None)), (None, "clients".into()));
    assert_eq!(asked(sign(w, "a", Some("https://as.example/token"))), (None, "client".into()));
    assert_eq!(asked(sign(w, "a", Some("https://other.example/"))), (None, "audiences".into()));
    let refused = |reason, line: &str| (Some(reason), line.to_owned());
    assert_eq!(asked(sign(w, "a", Some("https://x/"))), refused(Reason::AudienceNotPermitted, "audiences"));
    assert_eq!(asked(sign(w, "b", None)), refused(Reason::ClientNotPermitted, "clients"));
    assert_eq!(asked(sign("dns:x.example", "a", None)), refused(Reason::WorkloadUnknown, ""));
    assert_eq!(asked(operate("dns:ops.example", Act::Rotate, false)), (None, "roles".into()));
    assert_eq!(asked(operate("dns:ops.example", Act::Destroy, false)), refused(Reason::NotAnOperator, "roles"));
    assert_eq!(asked(operate("dns:ops.example", Act::Rotate, true)), refused(Reason::NotAnOperator, "roles"));
    assert_eq!(asked(operate(w, Act::ListKeys, false)), refused(Reason::NotAnOperator, ""));
}

#[test]
fn who_is_listed_and_not_vouched_for_is_nobody() {
    let (policy, mut book, _) = site();
    book.vouchers[0].roles = Roles { workload: false, operator: false };
    let at_trust = |reason| (Some(reason), "trust".to_owned());
    assert_eq!(ask(&book, &policy, &sign("dns:w.example", "a", None)), at_trust(Reason::WorkloadUnknown));
    let rotate = operate("dns:ops.example", Act::Rotate, false);
    assert_eq!(ask(&book, &policy, &rotate), at_trust(Reason::NotAnOperator));
    book.vouchers.clear();
    assert_eq!(ask(&book, &policy, &rotate), (Some(Reason::NotAnOperator), "operator".into()));
}

/// An explanation that differs from what is done would be worse than none.
#[test]
fn what_is_explained_is_what_is_decided() {
    let (policy, book, client) = site();
    for audience in [None, Some("https://as.example/token"), Some("https://other.example/"), Some("https://x/")] {
        for id in ["dns:w.example", "dns:ops.example", "dns:x.example", "uid:1"] {
            let question = sign(id, "a", audience);
            let caller = caller(&book, &id.parse().unwrap());
            let request = AssertionRequest {
                client: "a".parse().unwrap(),
                alg: None,
                audience: audience.map(str::to_owned),
                lifetime: None,
                scope: None,
                claims: Claims::default(),
            };
            let decided = policy.authorise(&caller, request, Some(&client), NO_TIME).err().map(|error| error.reason);
            assert_eq!(policy.explain(&book, &question, Some(&client)).refused, decided, "{question:?}");
        }
    }
}

#[test]
fn acts_read_back_and_force_takes_the_last_role() {
    for act in Act::ALL {
        assert_eq!(act.as_str().parse(), Ok(*act));
        assert_eq!(act.role(true), OperatorRole::Destroy);
    }
    assert!("dance".parse::<Act>().unwrap_err().to_string().contains("rotate"));
}
