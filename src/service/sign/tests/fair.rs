//! One that floods, and those who ask beside it.

use std::{
    collections::HashMap,
    sync::atomic::{AtomicUsize, Ordering},
};

use hallmark_core::{
    client::Client,
    key::HsmName,
    policy::{OperatorRole, Workload},
};
use hallmark_testkit::fake_hsm::{FakeHsm, FakeToken};
use tokio::{task::JoinSet, time::MissedTickBehavior};

use super::*;
use crate::{
    pool::Settings,
    service::{
        fixture::{Blind, StillClock, client, in_memory, workload},
        keys::CreateRequest,
        registry::Registered,
        rules::RuleSettings,
    },
};

/// What a call to the HSM takes.
const CALL: Duration = Duration::from_millis(5);
const WORKERS: usize = 2;
/// Ten times what the HSM can do: 400 a second.
const FLOOD_EACH_MS: usize = 4;
/// So much patience has the one who floods: FIFO would have it all wait before the other.
const FLOODERS_PATIENCE: Duration = Duration::from_secs(1);
/// And so much the other.
const DEADLINE: Duration = Duration::from_millis(400);
const ASKED: usize = 150;
/// A machine that is busy with something else may spoil one.
const ROUNDS: usize = 4;

/// Workloads `dns:w.example` and `dns:flood.example`, two workers, 5 ms a call.
async fn slow_hsm() -> (Rig, Sign) {
    let (rig, _) = with_keys().await;
    let clients = rig.context.registry.load_full().clients.values().cloned().collect();
    let flooder = Workload { id: "dns:flood.example".parse().unwrap(), ..workload() };
    rig.context.registry.replace(Registered::new(clients, vec![workload(), flooder], vec![]));
    rig.token("one").set_latency(Call::Sign, CALL);
    let name: HsmName = "one".parse().unwrap();
    let settings = Settings::new(name.clone(), WORKERS);
    let hsm = Arc::new(FakeHsm::new(rig.token("one")));
    let pool = Pool::start(hsm, settings, Arc::new(StillClock), Arc::new(Blind)).unwrap();
    tokio::time::timeout(PATIENCE, pool.wait_until_up()).await.unwrap();
    let context = Context { pools: Arc::new(HashMap::from([(name, pool)])), ..rig.context.clone() };
    (rig, Sign::new(context, Arc::new(Metrics::new())))
}

/// Asks one after the other, and never gets an error; gives the 99th percentile of what it took.
async fn p99(sign: &Sign) -> Duration {
    let mut times = Vec::new();
    for _ in 0..ASKED {
        let asked = Instant::now();
        ask(sign, DEADLINE).await.expect("no deadline of its is missed");
        times.push(asked.elapsed());
    }
    times.sort_unstable();
    times[ASKED * 99 / 100]
}

/// What became of what was asked.
#[derive(Debug, Default)]
struct Flood {
    asked: AtomicUsize,
    signed: AtomicUsize,
    late: AtomicUsize,
}

/// Asks ten times as much as the HSM can do, until it is dropped.
async fn flood(sign: Sign, seen: Arc<Flood>) {
    let mut tick = tokio::time::interval(Duration::from_millis(1));
    tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let mut asking = JoinSet::new();
    loop {
        tick.tick().await;
        for _ in 0..FLOOD_EACH_MS {
            let (sign, seen) = (sign.clone(), seen.clone());
            asking.spawn(async move {
                seen.asked.fetch_add(1, Ordering::Relaxed);
                let deadline = Instant::now() + FLOODERS_PATIENCE;
                match sign.sign(&caller("dns:flood.example"), request(), deadline, "flood").await {
                    Ok(_) => seen.signed.fetch_add(1, Ordering::Relaxed),
                    Err(error) if error.reason == Reason::DeadlineExceeded => seen.late.fetch_add(1, Ordering::Relaxed),
                    Err(error) => {
                        assert_eq!(error.reason, Reason::Overloaded, "{error}");
                        assert!(error.retry_after.is_some_and(|wait| wait >= Duration::from_millis(20)), "{error:?}");
                        0
                    }
                };
            });
        }
        while let Some(answer) = asking.try_join_next() {
            answer.unwrap();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_floods_delays_nobody_else_by_much() {
    let (_rig, sign) = slow_hsm().await;
    for round in 1..=ROUNDS {
        let alone = p99(&sign).await;
        let (seen, began) = (Arc::new(Flood::default()), Instant::now());
        let mut flooding = JoinSet::new();
        flooding.spawn(flood(sign.clone(), seen.clone()));
        while sign.context.pools.values().next().unwrap().waiting().jobs < 100 {
            tokio::task::yield_now().await;
        }
        let beside = p99(&sign).await;
        let rate = seen.asked.load(Ordering::Relaxed) as f64 / began.elapsed().as_secs_f64();
        flooding.abort_all();
        assert!(flooding.join_next().await.unwrap().unwrap_err().is_cancelled(), "the flood went on");
        eprintln!("p99 alone {alone:?}, beside {rate:.0} requests/s of another {beside:?} (round {round})");
        let (signed, late) = (seen.signed.load(Ordering::Relaxed), seen.late.load(Ordering::Relaxed));
        eprintln!("of the other's {signed} were signed and {late} were let in and too late");
        if late * 5 <= signed && beside <= alone * 3 && rate > 3000.0 {
            return;
        }
    }
    panic!("in no round was its p99 within three times of its own, and the other told in time");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_hsm_holds_up_no_fast_one() {
    let [slow, fast]: [HsmName; 2] = ["slow", "fast"].map(|name| name.parse().unwrap());
    let tokens = [&slow, &fast].map(|name| (name.clone(), FakeToken::new()));
    let other = Client { name: "d".parse().unwrap(), ..client(std::slice::from_ref(&fast)) };
    let clients = vec![client(std::slice::from_ref(&slow)), other];
    let settings = RuleSettings::new(Duration::from_secs(300), PATIENCE);
    let rig =
        Rig::start(clients.clone(), HashMap::from(tokens), in_memory().await, Arc::new(StillClock), settings).await;
    let workload = Workload { clients: clients.iter().map(|client| client.name.clone()).collect(), ..workload() };
    let operators = vec![("dns:o.example".parse().unwrap(), vec![OperatorRole::Rotate])];
    rig.context.registry.replace(Registered::new(clients, vec![workload], operators));
    for (client, id) in [("c", "r1"), ("d", "r2")] {
        let create = CreateRequest { client: client.parse().unwrap(), ..rig.create(id) };
        rig.keys.create(&caller("dns:o.example"), create).await.unwrap();
    }
    let sign = Sign::new(rig.context.clone(), Arc::new(Metrics::new()));

    let hanging = rig.token("slow").hang(Call::Sign);
    let mut waiting = JoinSet::new();
    for _ in 0..200 {
        let sign = sign.clone();
        waiting.spawn(async move { ask(&sign, PATIENCE).await });
    }
    while rig.context.pools[&slow].waiting().jobs < 199 {
        tokio::task::yield_now().await;
    }
    // The same workload, and its jobs for the other HSM wait for nobody.
    let request = AssertionRequest { client: "d".parse().unwrap(), ..request() };
    for _ in 0..20 {
        let deadline = Instant::now() + Duration::from_secs(2);
        sign.sign(&caller("dns:w.example"), request.clone(), deadline, "id").await.expect("the fast one signs");
    }
    assert_eq!(rig.context.pools[&slow].waiting().jobs, 199, "meanwhile nothing came of the slow one");
    drop(hanging);
    while let Some(answer) = waiting.join_next().await {
        answer.unwrap().expect("nor is anything lost");
    }
}
