//! Keys on a static host: none signs before it was seen there.

use std::time::Duration;

use hallmark_core::client::JwksHost;

use super::{
    super::alarms::Alarm,
    rig::{EVERY, LEAD, Process, ROTATE, World},
};

const EDGE_TTL: Duration = Duration::from_secs(300);

async fn hosted() -> World {
    let mut world = World::new(&["one"]).await;
    let client = &mut world.clients[0];
    (client.jwks_host, client.edge_ttl) = (JwksHost::Static, EDGE_TTL);
    world
}

impl Process {
    /// As long as the sweep lives, with a look in each sixth round.
    async fn live_looking(&self, time: Duration) {
        for n in 0..time.as_secs() / EVERY.as_secs() {
            if n.is_multiple_of(6) {
                self.rotation.look_at_hosts().await;
            }
            self.live(EVERY).await;
        }
    }

    fn served(&self) -> Vec<u64> {
        let rules = &self.rig.rules;
        let keys = self.rig.context.keyring.keys();
        rules.records(&keys, &"c".parse().unwrap()).iter().map(|record| record.served_for_ms / 1000).collect()
    }

    fn trouble(&self) -> Option<String> {
        self.rotation.0.alarms.of(Alarm::PublicUrl).remove("c")
    }
}

#[tokio::test]
async fn time_counts_from_when_the_host_was_seen_to_have_the_key() {
    let world = hosted().await;
    let process = world.start().await;
    process.settle().await;
    let first = process.active();
    process.live_looking(LEAD + EDGE_TTL * 2).await;
    assert_eq!(process.served(), [0, 0], "nothing was exported");
    let why = process.trouble().unwrap();
    assert!(why.starts_with("`https://keys.example/clients/c/jwks.json` answers 404;"), "{why}");

    process.skip(ROTATE).await;
    process.live_looking(EVERY * 2).await;
    assert_eq!(process.active(), first, "due, and nobody knows the next key");
    world.host.serves(Some(process.jwks()));
    process.live_looking(LEAD + EDGE_TTL - EVERY).await;
    assert_eq!(process.active(), first, "not for long enough");
    assert_eq!(process.trouble(), None);
    process.live_looking(EVERY * 4).await;
    assert_ne!(process.active(), first);
}

#[tokio::test]
async fn an_export_that_is_stale_lets_no_new_key_sign() {
    let world = hosted().await;
    let process = world.start().await;
    process.settle().await;
    world.host.serves(Some(process.jwks()));
    process.live_looking(LEAD + EDGE_TTL + EVERY * 2).await;
    process.skip(ROTATE).await;
    process.settle().await;
    // The standby signs; the one made then is not on the host.
    let second = process.active();
    process.live_looking(EDGE_TTL * 3).await;
    process.skip(ROTATE).await;
    process.live_looking(EDGE_TTL).await;
    assert_eq!(process.active(), second);
    let why = process.trouble().unwrap();
    assert!(why.contains("is older than `edge_ttl`: it lacks `"), "{why}");
    world.host.serves(Some(process.jwks()));
    process.live_looking(LEAD + EDGE_TTL + EVERY * 4).await;
    assert_ne!(process.active(), second);
    assert_eq!(process.trouble(), None);
}

#[tokio::test]
async fn a_host_that_fails_stops_the_counting() {
    let world = hosted().await;
    let process = world.start().await;
    process.settle().await;
    let document = process.jwks();
    world.host.serves(Some(document.clone()));
    process.live_looking(EVERY * 12).await;
    let before = process.served();
    assert!(before.iter().all(|seconds| (100..=120).contains(seconds)), "{before:?}");
    world.host.serves(None);
    process.live_looking(EVERY * 12).await;
    assert_eq!(process.served(), before);
    assert_eq!(process.metric("hallmark_alarms{alarm=\"public-url\"}"), 1.0);
    world.host.serves(Some(document));
    process.live_looking(EVERY * 3).await;
    assert!(process.served()[0] > before[0]);
    assert_eq!(process.metric("hallmark_alarms{alarm=\"public-url\"}"), 0.0);
    // Nobody looks any more: what was seen long ago is not served for ever.
    process.live(EVERY * 60).await;
    assert!(process.served()[0] < before[0] + 300, "{:?}", process.served());
}
