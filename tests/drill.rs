//! An HSM is destroyed under load, and another one put in its place: what `make drill` shows step by step, and what
//! `make test` does in a short form.

mod load;
mod place;

use std::{
    collections::BTreeSet,
    time::{Duration, Instant, SystemTime},
};

use hallmark_proto::v1::{Key, KeyState, ListKeysRequest};
use hallmark_testkit::p11_kit::P11Kit;

use self::{load::Load, place::Place};
use crate::support::{PATIENCE, Server, eventually, soak_or};

/// What happened, with its time, as an operator would write it down.
struct Minutes(Instant);

impl Minutes {
    fn write(&self, what: &str) {
        eprintln!("drill: {:>6.1} s  {what}", self.0.elapsed().as_secs_f64());
    }
}

async fn keys_on(server: &Server, hsm: &str) -> Vec<Key> {
    let listed = server.ops().keys().list_keys(ListKeysRequest::default()).await.unwrap().into_inner();
    listed.keys.into_iter().filter(|key| key.hsm == hsm && key.client == "demo").collect()
}

async fn kids_on(server: &Server, hsm: &str) -> BTreeSet<String> {
    keys_on(server, hsm).await.into_iter().map(|key| key.kid).filter(|kid| !kid.is_empty()).collect()
}

async fn published(server: &Server) -> BTreeSet<String> {
    let set = server.jwks_of("demo").await;
    set["keys"].as_array().unwrap().iter().map(|key| key["kid"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_hsm_is_destroyed_and_another_takes_its_place() {
    let (mut place, minutes) = (Place::new(), Minutes(Instant::now()));
    let [first, third] = [place.first.shared(), place.third.shared()];
    let mut line = P11Kit::new(&first);
    line.start();
    let server = place.start();
    server.ready().await;
    eventually("both HSMs have their keys", PATIENCE, async || (published(&server).await.len() == 4).then_some(()))
        .await;
    let lost = kids_on(&server, "first").await;
    let load = Load::start(&server, soak_or(4, 16));
    load.signs_with(&lost, minutes.0).await;
    minutes.write("two HSMs serve the client; `first` signs");

    line.kill();
    place.destroy_first();
    let destroyed = Instant::now();
    minutes.write("`first` is destroyed under load");
    goes_on(&server, &load, destroyed, &minutes).await;
    gives_way(&server, destroyed, &minutes).await;

    let mut line = P11Kit::new(&third);
    line.start();
    let server = replaced(&mut place, server, &load, &minutes).await;
    takes_over(&server, &load, &lost, &minutes).await;

    let tally = load.finish();
    minutes.write(&format!("{} assertions were made; verifiers refused none of them", tally.verified));
    assert_eq!(tally.not_verified, Vec::<String>::new(), "no verifier refuses anything");
    server.stop().await;
}

/// The other HSM signs; nobody waits for `line_timeout`, and only what was in flight is refused.
async fn goes_on(server: &Server, load: &Load, destroyed: Instant, minutes: &Minutes) {
    let second = kids_on(server, "second").await;
    let first_by_second = load.signs_with(&second, destroyed).await;
    let took = first_by_second.saturating_duration_since(destroyed);
    minutes.write(&format!("`second` signs, {} ms after the loss", took.as_millis()));
    assert!(took < place::line_timeout(), "{took:?}");
    load.signs_times(100).await;
    let refused = load.refused_since(destroyed);
    minutes.write(&format!("{} of {} callers were told to try again; nobody after that", refused.len(), load.callers));
    assert!(refused.len() <= load.callers, "more than what was in flight: {refused:?}");
    assert!(refused.iter().all(|reason| reason == "HSM_UNAVAILABLE"), "{refused:?}");
}

/// After `line_timeout` the lost HSM's line is given up by itself, and its keys stay published.
async fn gives_way(server: &Server, destroyed: Instant, minutes: &Minutes) {
    eventually("the lost line is deactivated", place::line_timeout() + PATIENCE, async || {
        let keys = keys_on(server, "first").await;
        keys.iter().all(|key| key.state() != KeyState::Active).then_some(())
    })
    .await;
    let took = destroyed.elapsed();
    minutes.write(&format!("the key of `first` is deactivated, {:.1} s after the loss", took.as_secs_f64()));
    assert!(took >= place::line_timeout(), "not before `line_timeout`: {took:?}");
    assert_eq!(server.metric(r#"hallmark_alarms{alarm="hsm-gone"}"#).await, 1.0);
}

/// As an operator does it: a new section, the client's `hsm`, and a restart.
async fn replaced(place: &mut Place, server: Server, load: &Load, minutes: &Minutes) -> Server {
    place.put_third_in_place(&server);
    let stopped = Instant::now();
    server.stop().await;
    let server = place.start();
    load.signs_times(1).await;
    let pause = load.longest_pause_since(stopped);
    minutes.write(&format!("`third` is in its place; callers had to wait {} ms for the restart", pause.as_millis()));
    assert!(pause < Duration::from_secs(20), "{pause:?}");
    server
}

/// How long the key was published after it had been deactivated.
fn kept(key: &Key) -> Option<Duration> {
    let [from, to] = [key.deactivated_at?, key.retired_at?].map(SystemTime::try_from);
    to.ok()?.duration_since(from.ok()?).ok()
}

/// The new HSM's keys are published and sign, those of the lost one leave the set.
async fn takes_over(server: &Server, load: &Load, lost: &BTreeSet<String>, minutes: &Minutes) {
    let new = eventually("keys on `third`", PATIENCE, async || {
        Some(kids_on(server, "third").await).filter(|kids| kids.len() == 2)
    })
    .await;
    eventually("they are published", PATIENCE, async || published(server).await.is_superset(&new).then_some(())).await;
    minutes.write("the keys of `third` are published");
    load.signs_with(&new, minutes.0).await;
    minutes.write("`third` signs");
    eventually("the lost keys have left the set", PATIENCE, async || {
        published(server).await.is_disjoint(lost).then_some(())
    })
    .await;
    for key in keys_on(server, "first").await {
        assert_eq!(key.state(), KeyState::Retired, "{}", key.kid);
        // As the server has it: when this looks is no measure on a slow machine.
        let kept = kept(&key).unwrap();
        assert!(kept >= place::keep(), "{} left the set {kept:?} after its end: assertions were under way", key.kid);
    }
    minutes.write("the keys of `first` are retired");
    load.signs_times(100).await;
    assert_eq!(published(server).await.len(), 4, "two for each HSM that is there");
}
