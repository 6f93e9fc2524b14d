//! Replicas on PostgreSQL with an HSM each: one key line for each HSM, one key set for all.

use std::time::Duration;

use hallmark_proto::v1::{Key, KeyState, ListKeysRequest};
use hallmark_testkit::postgres::Postgres;

use crate::{
    rotation::Verifier,
    support::{PATIENCE, Server, Site, eventually},
};

/// A lead that is longer than what verifiers keep and what replicas take to see a change, on a machine that is busy.
const TIMES: &str = "\n[unsafe_testing]\nsweep_every = \"100ms\"\nrotate_every = \"3s\"\nlead = \"3s\"\nkeep = \"4s\"\n\
                     line_timeout = \"1s\"\n";

/// Two sites with a token each; each knows the other's HSM by its name alone.
fn an_hsm_each(cluster: &Postgres) -> [Site; 2] {
    let database = cluster.database();
    [("a", "b"), ("b", "a")].map(|(own, other)| {
        let mut site = Site::new();
        let sqlite = format!("url = \"sqlite://{}/keys.db\"", site.folder().display());
        site.replace(&sqlite, &format!("url = \"{database}\"\nlease = \"2s\""));
        site.replace("id = \"test\"", &format!("id = \"{own}\""));
        site.replace("name = \"soft\"", &format!("name = \"{own}\""));
        site.replace("hsm = [\"soft\"]", "hsm = [\"a\", \"b\"]");
        site.append(&format!("\n[[hsm]]\nname = \"{other}\"\nkind = \"elsewhere\"\n{TIMES}"));
        site
    })
}

fn start(site: &Site) -> Server {
    site.start_with(|command| _ = command.arg("--unsafe-testing"))
}

async fn sweeps(server: &Server) -> bool {
    server.metric("hallmark_rotation_leader{}").await == 1.0
}

/// Signs at `server` until it has used so many keys, and verifies each assertion with the set of `other`.
async fn rotates(server: &Server, other: &Server, keys: usize) -> Vec<String> {
    let (app, mut verifier, mut kids) = (server.app(), Verifier::new(other), Vec::<String>::new());
    eventually(&format!("{keys} keys have signed"), PATIENCE, async || {
        match app.sign_for("demo").await {
            Ok(signed) => {
                let kid = verifier.verify(&signed.assertion).await.unwrap();
                if kids.last() != Some(&kid) {
                    assert!(!kids.contains(&kid), "a key signs once in its life");
                    kids.push(kid);
                }
            }
            Err(refusal) => assert_eq!(refusal.reason, "KEY_CHANGED", "{refusal:?}"),
        }
        (kids.len() >= keys).then_some(())
    })
    .await;
    kids
}

async fn keys_on(server: &Server, hsm: &str) -> Vec<Key> {
    let listed = server.ops().keys().list_keys(ListKeysRequest::default()).await.unwrap().into_inner();
    listed.keys.into_iter().filter(|key| key.hsm == hsm && key.client == "demo").collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_signs_with_its_own_keys_and_outlives_the_other() {
    let Some(cluster) = Postgres::own() else { return };
    let sites = an_hsm_each(&cluster);
    let [mut one, two] = [start(&sites[0]), start(&sites[1])];
    one.ready().await;
    two.ready().await;

    let (of_one, of_two) = tokio::join!(rotates(&one, &two, 3), rotates(&two, &one, 3));
    assert!(of_one.iter().all(|kid| !of_two.contains(kid)), "each has keys of its own: {of_one:?} {of_two:?}");
    assert_eq!(sweeps(&one).await as u8 + sweeps(&two).await as u8, 1, "one sweeps for both");

    one.process.kill();
    two.app().sign_for("demo").await.expect("the other one signs on");
    eventually("the line without an HSM gives way", PATIENCE, async || {
        let keys = keys_on(&two, "a").await;
        keys.iter().all(|key| key.state() != KeyState::Active).then_some(())
    })
    .await;
    assert!(sweeps(&two).await, "whoever is left sweeps");
    assert!(two.log().contains("no replica that lives reaches it"), "and says why");
    rotates(&two, &two, 2).await;

    let one = start(&sites[0]);
    one.ready().await;
    eventually("its line comes back", PATIENCE, async || one.app().sign_for("demo").await.ok()).await;
    // Now it is the other one that sweeps, and this one that makes the keys of its own line.
    let again = rotates(&one, &two, 3).await;
    assert!(again.iter().all(|kid| !of_one[..of_one.len() - 1].contains(kid)), "none comes back: {again:?} {of_one:?}");
    one.stop().await;
    two.stop().await;
}
