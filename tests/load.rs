//! What a workload notices of another one that floods, on a real token: reported, for it depends on the machine.
//!
//! What must hold is asserted where time is under control, on the fake HSM (`src/service/sign/tests/fair.rs`). Here the
//! token, the server, the one who floods and the one who asks share the same cores.

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::task::JoinSet;

use crate::support::{Caller, PATIENCE, Site, caller::for_client, caller::within, eventually};

const FLOODER: &str = "spiffe://test.example/flooder";
/// Connections of the flooder, and requests under way on each; none waits as it is told.
const CONNECTIONS: usize = 4;
const UNDER_WAY: usize = 64;
/// So long the flooder waits for each.
const FLOODERS_PATIENCE: Duration = Duration::from_secs(1);
/// What the other allows, one after the other.
const LIMIT: Duration = Duration::from_secs(2);
const ASKED: usize = 50;
/// Asks no more after this: a slow machine reports of fewer.
const LONG_ENOUGH: Duration = Duration::from_secs(10);

/// What became of requests.
#[derive(Default)]
struct Seen {
    asked: AtomicU64,
    signed: AtomicU64,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn softhsm_beside_a_flood() {
    for alg in ["ES256", "RS256"] {
        let mut site = Site::new();
        site.replace("alg = \"ES256\"", &format!("alg = \"{alg}\""));
        site.append(&format!("\n[[workload]]\nid = \"{FLOODER}\"\nclients = [\"demo\"]\n"));
        let server = site.start();
        server.ready().await;
        let app = server.app();
        let alone = ask(&app).await;

        let (seen, began) = (Arc::new(Seen::default()), Instant::now());
        let mut flooding = JoinSet::new();
        let flooder = site.ca.client(FLOODER);
        for _ in 0..CONNECTIONS {
            let caller = server.caller(Some(&flooder));
            for _ in 0..UNDER_WAY {
                flooding.spawn(flood(caller.clone(), seen.clone()));
            }
        }
        eventually("the flood waits before the HSM", PATIENCE, async || {
            (server.metric(r#"hallmark_queue_jobs{hsm="soft"}"#).await >= 1.0).then_some(())
        })
        .await;
        let beside = ask(&app).await;
        let per_second = |count: &AtomicU64| count.load(Ordering::Relaxed) as f64 / began.elapsed().as_secs_f64();
        eprintln!(
            "{alg}: alone {alone}; beside {:.0} requests/s of another, of which {:.0}/s are signed: {beside}",
            per_second(&seen.asked),
            per_second(&seen.signed)
        );
        flooding.shutdown().await;
        eventually("nothing is left of it", PATIENCE, async || app.sign_for("demo").await.ok()).await;
        server.stop().await;
    }
}

/// Never stops.
async fn flood(caller: Caller, seen: Arc<Seen>) {
    loop {
        seen.asked.fetch_add(1, Ordering::Relaxed);
        match caller.sign(within(FLOODERS_PATIENCE, for_client("demo"))).await {
            Ok(_) => _ = seen.signed.fetch_add(1, Ordering::Relaxed),
            // Where the answer was there at once, others have their turn on this machine.
            Err(_) => tokio::task::yield_now().await,
        }
    }
}

/// Asks one after the other; gives the times and what was refused, for a report.
async fn ask(app: &Caller) -> String {
    let (mut times, mut refused) = (Vec::new(), BTreeMap::<String, usize>::new());
    let began = Instant::now();
    for _ in (0..ASKED).take_while(|_| began.elapsed() < LONG_ENOUGH) {
        let asked = Instant::now();
        match app.sign(within(LIMIT, for_client("demo"))).await {
            Ok(_) => times.push(asked.elapsed()),
            // What our own clock ended has no reason.
            Err(refusal) => *refused.entry(format!("{:?} {}", refusal.code, refusal.reason)).or_default() += 1,
        }
    }
    times.sort_unstable();
    let asked = times.len() + refused.values().sum::<usize>();
    let millis = |percent: usize| {
        let time = times.get((times.len() * percent / 100).min(times.len().saturating_sub(1)));
        time.map_or_else(|| "none".to_owned(), |time| format!("{:.1} ms", time.as_secs_f64() * 1e3))
    };
    format!("{} of {asked} signed, p50 {}, p99 {}, refused {refused:?}", times.len(), millis(50), millis(99))
}
