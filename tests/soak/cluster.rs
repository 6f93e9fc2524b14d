//! The servers of a soak: one on SQLite, or replicas on PostgreSQL that share a PKCS#11 token.

use std::time::Duration;

use hallmark_testkit::postgres::Postgres;
use tokio::sync::watch;

use super::{Plan, clock::FastClock, front::Front};
use crate::support::{Caller, PATIENCE, Server, Site, eventually};

pub(super) struct Cluster<'a> {
    clock: &'a FastClock,
    front: &'a Front,
    replicas: Vec<(Site, Server)>,
    pub(super) database: Option<Postgres>,
    callers: watch::Sender<Vec<Caller>>,
}

/// What the clients are to be.
pub(super) struct Line {
    pub(super) name: String,
    pub(super) alg: &'static str,
}

impl<'a> Cluster<'a> {
    /// Starts what `plan` says, and waits until every line has a key. `None` where there is no PostgreSQL.
    pub(super) async fn start(
        clock: &'a FastClock,
        front: &'a Front,
        plan: &Plan,
        lines: &[Line],
        token_endpoint: &str,
    ) -> Option<Self> {
        let database = if plan.replicas > 1 { Some(Postgres::own_under(clock.env())?) } else { None };
        let url = database.as_ref().map(Postgres::database);
        let mut sites: Vec<Site> = Vec::new();
        for number in 0..plan.replicas {
            let mut site = match sites.first() {
                None => Site::new(),
                Some(first) => Site::with_token(first.token.shared()),
            };
            configure(&mut site, number, url.as_deref(), lines, token_endpoint);
            site.append(&format!("\n[unsafe_testing]\n{}\n", plan.testing));
            sites.push(site);
        }
        let (replicas, callers) = (Vec::new(), watch::channel(Vec::new()).0);
        let mut cluster = Self { clock, front, replicas, database, callers };
        for site in sites {
            let server = cluster.serve(&site);
            cluster.replicas.push((site, server));
        }
        cluster.tell();
        cluster.wait_for_keys(lines).await;
        Some(cluster)
    }

    pub(super) fn callers(&self) -> watch::Receiver<Vec<Caller>> {
        self.callers.subscribe()
    }

    /// As `kill -9`, and starts it again.
    pub(super) fn kill(&mut self, number: usize) {
        let (site, mut killed) = self.replicas.remove(number);
        killed.process.kill();
        let server = self.serve(&site);
        self.replicas.insert(number, (site, server));
        self.tell();
    }

    fn serve(&self, site: &Site) -> Server {
        site.start_with(|command| {
            self.clock.apply(command);
            command.arg("--unsafe-testing");
        })
    }

    pub(super) fn len(&self) -> usize {
        self.replicas.len()
    }

    fn tell(&self) {
        self.front.point_at(self.replicas.iter().map(|(_, server)| server.jwks.clone()).collect());
        self.callers.send_replace(self.replicas.iter().map(|(_, server)| server.app()).collect());
    }

    async fn wait_for_keys(&self, lines: &[Line]) {
        for (_, server) in &self.replicas {
            for line in lines {
                eventually(&format!("`{}` has a key", line.name), PATIENCE, async || {
                    server.app().sign_for(&line.name).await.ok().map(|_| ())
                })
                .await;
            }
        }
    }
}

fn configure(site: &mut Site, number: usize, store: Option<&str>, lines: &[Line], token_endpoint: &str) {
    if let Some(store) = store {
        let sqlite = format!("sqlite://{}/keys.db", site.folder().display());
        site.replace(&sqlite, store);
        site.replace("id = \"test\"", &format!("id = \"test-{number}\""));
    }
    let names: Vec<_> = lines.iter().map(|line| format!("\"{}\"", line.name)).collect();
    site.replace("clients = [\"demo\"]", &format!("clients = [\"demo\", {}]", names.join(", ")));
    for Line { name, alg } in lines {
        // A verifier of this profile obeys the headers; and nothing is kept longer than it must.
        site.append(&format!(
            "\n[[client]]\nname = \"{name}\"\nclient_id = \"{name}\"\nprofile = \"smart-v2\"\n\
             token_endpoint = \"{token_endpoint}\"\nhsm = [\"soft\"]\nkeep_for = \"0s\"\nprovision = \"auto\"\n\
             keys = [{{ alg = \"{alg}\" }}]\n"
        ));
    }
}

/// For how long the database is away, in real time: longer than a store lease by the fast clock.
pub(super) const DATABASE_AWAY: Duration = Duration::from_secs(10);
