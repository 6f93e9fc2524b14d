//! Rotations with the constants of production, under a fast clock, while servers get killed: no verifier refuses anything.
//!
//! A short form is one of the tests; `make soak` runs the long ones, with `HALLMARK_SOAK=full`.

mod callers;
mod clock;
mod cluster;
mod front;
mod report;
mod tally;
mod verify;
mod watch;

use std::{env, sync::Arc, time::Duration};

use rand::RngExt;
use tokio::time::sleep;

use self::{
    callers::Field,
    clock::FastClock,
    cluster::{Cluster, DATABASE_AWAY, Line},
    front::Front,
    tally::{Seen, Tally},
    verify::Verifiers,
    watch::Timeline,
};
use crate::support::PATIENCE;

/// What is to happen in one soak.
struct Plan {
    name: &'static str,
    replicas: usize,
    lines: usize,
    callers: usize,
    /// How long a caller rests after each assertion.
    pause: Duration,
    /// It goes on until there were so many.
    rotations: usize,
    /// How long that may take, in real time.
    limit: Duration,
    kills: usize,
    /// Whether the database is stopped for [`DATABASE_AWAY`], once.
    database_stops: bool,
    /// `[unsafe_testing]`. What is not there is as in production.
    testing: &'static str,
    /// It breaks the rules, and goes on until an assertion is refused.
    is_broken: bool,
}

impl Plan {
    fn short() -> Self {
        let limit = Duration::from_mins(3);
        let pause = Duration::from_millis(80);
        Self {
            name: "short, one server on SQLite",
            replicas: 1,
            lines: 4,
            callers: 4,
            pause,
            rotations: 8,
            limit,
            kills: 1,
            database_stops: false,
            // Each line rotates as soon as the gates let it.
            testing: "rotate_every = \"1m\"",
            is_broken: false,
        }
    }

    fn broken(name: &'static str, testing: &'static str) -> Self {
        Self { name, lines: 2, rotations: usize::MAX, kills: 0, testing, is_broken: true, ..Self::short() }
    }

    fn one_server() -> Self {
        let limit = Duration::from_mins(15);
        let name = "one server on SQLite";
        Self { name, lines: 8, callers: 6, rotations: 100, limit, kills: 6, ..Self::short() }
    }

    fn replicas() -> Self {
        let name = "two replicas on PostgreSQL";
        Self { name, replicas: 2, database_stops: true, ..Self::one_server() }
    }

    fn lines(&self) -> Vec<Line> {
        let line = |number: usize| Line {
            name: format!("line-{number}"),
            // The costly one to generate, once.
            alg: if number == 0 { "RS384" } else { "ES384" },
        };
        (0..self.lines).map(line).collect()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_verifier_refuses_an_assertion_because_of_a_rotation() {
    let plans = match env::var("HALLMARK_SOAK").as_deref() {
        Ok("full") => vec![Plan::one_server(), Plan::replicas()],
        _ => vec![Plan::short()],
    };
    for plan in plans {
        let Some(seen) = soak(&plan).await else { continue };
        judge(&plan, &seen);
    }
}

/// The soak can fail: a key that signs as soon as it is published is one that caches do not have.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_signs_too_early_is_noticed() {
    let plan = Plan::broken("no lead", "lead = \"0s\"\nrotate_every = \"1m\"");
    let Some(seen) = soak(&plan).await else { return };
    assert!(seen.refused[0].contains("at once"), "{}", seen.refused[0]);
}

/// What was seen; `None` where a part is missing.
async fn soak(plan: &Plan) -> Option<Seen> {
    eprintln!("--- {}", plan.name);
    let fast = FastClock::start()?;
    let front = Front::start().await;
    let verifiers = Verifiers::start(&fast, format!("http://{}", front.address));
    let lines = plan.lines();
    let endpoint = verifiers.token_endpoint().to_owned();
    let mut cluster = Cluster::start(&fast, &front, plan, &lines, &endpoint).await?;
    for line in &lines {
        verifiers.register(&line.name, line.alg).await;
    }
    let field = field(&fast, verifiers, &cluster, &lines);
    let callers: Vec<_> = (0..plan.callers).map(|who| tokio::spawn(field.clone().call(who, plan.pause))).collect();
    disturb(plan, &mut cluster, &field.tally).await;
    field.end.cancel();
    for caller in callers {
        caller.await.unwrap();
    }
    field.later.close();
    field.later.wait().await;
    let seen = field.tally.so_far();
    // The servers are killed: the seconds that an orderly end takes for a key that is being made are few by this clock.
    drop(cluster);
    eprintln!("{}", report::table(plan, &seen, field.tally.elapsed()));
    Some(seen)
}

fn field(fast: &FastClock, verifiers: Verifiers, cluster: &Cluster<'_>, lines: &[Line]) -> Arc<Field> {
    let (timeline, tally) = (Arc::new(Timeline::default()), Arc::new(Tally::new()));
    let clients: Vec<_> = lines.iter().map(|line| line.name.clone()).collect();
    let urls = clients.iter().map(|client| (client.clone(), verifiers.jwks_url(client))).collect();
    tokio::spawn(timeline.clone().watch(urls, fast.clock, tally.clone()));
    let (replicas, clock) = (cluster.callers(), fast.clock);
    let (later, end) = Default::default();
    Arc::new(Field { clients, replicas, verifiers, timeline, tally, clock, later, end })
}

/// Kills and stops what the plan says, at moments that nobody chose, until there were rotations enough.
async fn disturb(plan: &Plan, cluster: &mut Cluster<'_>, tally: &Tally) {
    let mut kills = 0;
    let mut database_stops = usize::from(plan.database_stops);
    let mut since_shown = Duration::ZERO;
    loop {
        let spread = if plan.kills > 1 { 3000 } else { 1 };
        sleep(SHOW_EVERY + Duration::from_millis(rand::rng().random_range(0..spread))).await;
        let done = tally.so_far().rotations();
        if tally.elapsed() > since_shown + SHOW_EVERY {
            eprintln!("{:>4} s  {}", tally.elapsed().as_secs(), tally.so_far());
            since_shown = tally.elapsed();
        }
        // Evenly over the rotations, the first one right away.
        if kills < plan.kills && done * plan.kills >= kills * plan.rotations {
            let number = kills % cluster.len();
            tally.event(&format!("kill -9 of server {number}"));
            cluster.kill(number);
            kills += 1;
        } else if database_stops > 0 && done * 2 >= plan.rotations {
            database_stops -= 1;
            let database = cluster.database.as_ref().unwrap();
            tally.event("the database stops for 10 s");
            database.stop();
            sleep(DATABASE_AWAY).await;
            database.start();
            tally.event("the database is back");
        }
        let refused = !tally.so_far().refused.is_empty();
        if (done >= plan.rotations && kills == plan.kills) || (plan.is_broken && refused) {
            return;
        }
        assert!(tally.elapsed() < plan.limit, "too few rotations in {:?}: {}", plan.limit, tally.so_far());
    }
}

fn judge(plan: &Plan, seen: &Seen) {
    assert!(seen.refused.is_empty(), "{} refused; the first one: {}", seen.refused.len(), seen.refused[0]);
    assert!(seen.accepted.values().all(|count| *count > 100), "too little was shown: {seen}");
    // What the test shows too late says nothing; a few may be on a busy machine.
    assert!(seen.expired * 50 < seen.signatures, "{} assertions were shown too late", seen.expired);
    assert!(seen.longest_gap.length < PATIENCE, "{}: {}", plan.name, seen.longest_gap);
    assert!(!seen.failures.contains_key("Unavailable NO_ACTIVE_KEY"), "{:?}", seen.failures);
}

const SHOW_EVERY: Duration = Duration::from_secs(5);
