use super::{
    super::{OperatorLines, Roles, Voucher, WorkloadLines},
    *,
};
use crate::profile::Profile;

fn line(section: &str) -> Line {
    Line { file: "f.toml".into(), line: Some(1), section: section.into() }
}

fn client(name: &str) -> Client {
    let endpoint = format!("https://{name}.example/token");
    Client::new(name.parse().unwrap(), Profile::find("smart-v2").unwrap(), &endpoint)
}

struct Site {
    clients: Vec<Client>,
    workloads: Vec<Workload>,
    operators: Vec<(Identity, Vec<OperatorRole>)>,
    book: Book,
}

const WORKLOAD: Roles = Roles { workload: true, operator: false };
const OPERATOR: Roles = Roles { workload: false, operator: true };

impl Site {
    /// Two clients, a workload for each, two operators, an authority for either kind: nothing to be said.
    fn new() -> Self {
        let mut site = Self {
            clients: vec![client("a"), client("b")],
            workloads: vec![],
            operators: vec![],
            book: Book::default(),
        };
        site.book.clients = site.clients.iter().map(|client| (client.name.clone(), line("[[client]]"))).collect();
        site.vouch(Scope::TrustDomain("prod.example".into()), WORKLOAD, "workloads.pem");
        site.vouch(Scope::TrustDomain("people.example".into()), OPERATOR, "people.pem");
        site.workload("spiffe://prod.example/a", &["a"], &[]);
        site.workload("spiffe://prod.example/b", &["b"], &[]);
        site.operator("spiffe://people.example/ann", &[OperatorRole::Destroy]);
        site.operator("spiffe://people.example/bob", &[OperatorRole::View]);
        site
    }

    fn vouch(&mut self, scope: Scope, roles: Roles, authority: &str) {
        let (line, authority) = (line("[[trust]]"), authority.to_owned());
        self.book.vouchers.push(Voucher { scope, roles, line, authority });
    }

    fn workload(&mut self, id: &str, clients: &[&str], audiences: &[&str]) {
        let id: Identity = id.parse().unwrap();
        let lines = WorkloadLines {
            section: line("[[workload]]"),
            clients: line("clients in [[workload]]"),
            audiences: line("audiences in [[workload]]"),
        };
        self.book.workloads.insert(id.clone(), lines);
        self.workloads.push(Workload {
            id,
            clients: clients.iter().map(|name| name.parse().unwrap()).collect(),
            audiences: audiences.iter().map(|&audience| audience.to_owned()).collect(),
            claims: vec![],
            rate: None,
            concurrency: None,
        });
    }

    fn operator(&mut self, id: &str, roles: &[OperatorRole]) {
        let id: Identity = id.parse().unwrap();
        let lines = OperatorLines { section: line("[[operator]]"), roles: line("roles in [[operator]]") };
        self.book.operators.insert(id.clone(), lines);
        self.operators.push((id, roles.to_vec()));
    }

    fn codes(&self) -> Vec<&'static str> {
        let Self { clients, workloads, operators, book } = self;
        lint(Facts { clients, workloads, operators, book }).into_iter().map(|finding| finding.code).collect()
    }

    /// What is found once `change` was made.
    fn after(change: impl FnOnce(&mut Self)) -> Vec<&'static str> {
        let mut site = Self::new();
        change(&mut site);
        site.codes()
    }
}

#[test]
fn a_tidy_policy_is_left_alone() {
    assert_eq!(Site::new().codes(), [""; 0]);
}

#[test]
fn who_can_not_be_reached_is_an_error() {
    assert_eq!(Site::after(|site| site.workload("dns:w.example", &["a"], &[])), ["unvouched"]);
    assert_eq!(Site::after(|site| site.operator("uid:1000", &[OperatorRole::View])), ["unvouched"]);
    // Vouched for, but not as what it is listed as.
    let crossed = Site::after(|site| site.workload("spiffe://people.example/w", &["a"], &[]));
    assert_eq!(crossed, ["unvouched"]);
}

#[test]
fn clients_that_nobody_can_use_are_named() {
    let unused = |site: &mut Site| {
        site.clients.push(client("c"));
        site.book.clients.insert("c".parse().unwrap(), line("[[client]]"));
    };
    assert_eq!(Site::after(unused), ["unused-client"]);
    let unreachable = Site::after(|site| {
        unused(site);
        site.workload("dns:w.example", &["c"], &[]);
    });
    assert_eq!(unreachable, ["unused-client", "unvouched"]);
}

#[test]
fn who_may_more_than_anybody_needs_is_named() {
    assert_eq!(Site::after(|site| site.workload("spiffe://prod.example/c", &["a", "b"], &[])), ["every-client"]);
    let crossed = Site::after(|site| site.workload("spiffe://prod.example/c", &["a"], &["https://b.example/token"]));
    assert_eq!(crossed, ["crossed-audience"]);
    let needless = Site::after(|site| site.workload("spiffe://prod.example/c", &["a"], &["https://a.example/token"]));
    assert_eq!(needless, ["needless-audience"]);
    let all = Site::after(|site| site.operators[1].1 = vec![OperatorRole::Destroy]);
    assert_eq!(all, ["all-roles"]);
    assert_eq!(
        Site::after(|site| site.vouch(Scope::DnsSuffixes(vec![".com".into()]), WORKLOAD, "c.pem")),
        ["broad-suffix"]
    );
    let root = Site::after(|site| {
        site.vouch(Scope::Socket, Roles { workload: true, operator: true }, "/run/h.sock");
        site.workload("uid:0", &["a"], &[]);
    });
    assert_eq!(root, ["shared-uid"]);
}

#[test]
fn authorities_that_make_both_kinds_are_named() {
    let both = Roles { workload: true, operator: true };
    let other = || Scope::TrustDomain("other.example".into());
    assert_eq!(Site::after(|site| site.vouch(other(), both, "o.pem")), ["shared-authority"]);
    assert_eq!(Site::after(|site| site.vouch(other(), OPERATOR, "workloads.pem")), ["shared-authority"]);
    let twice = Site::after(|site| site.vouch(Scope::TrustDomain("prod.example".into()), OPERATOR, "o.pem"));
    assert_eq!(twice, ["overlap"]);
    let one_of_both = Site::after(|site| site.operator("spiffe://prod.example/a", &[OperatorRole::View]));
    assert_eq!(one_of_both, ["both-roles", "unvouched"]);
}

#[test]
fn what_is_said_twice_is_named() {
    assert_eq!(Site::after(|site| site.workload("spiffe://prod.example/c", &["a", "a"], &[])), ["overlap"]);
    let roles = [OperatorRole::View, OperatorRole::Rotate];
    assert_eq!(Site::after(|site| site.operator("spiffe://people.example/eve", &roles)), ["overlap"]);
}
