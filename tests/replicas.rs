//! Replicas on PostgreSQL with an HSM each: one key line for each HSM, one key set for all.

use hallmark_proto::v1::{Key, KeyState, ListKeysRequest};
use hallmark_testkit::postgres::Postgres;
use rustix::process::Signal;

use crate::{
    follower::watch,
    rotation::Verifier,
    support::{PATIENCE, Server, Site, edge::EDGE, eventually},
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

/// As with one replica in `rotation`, and with two that rotate without pause: now the one that sweeps is killed, now the
/// other, each at another moment of its life.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_that_are_killed_again_and_again_lose_no_key_and_leave_none_behind() {
    const ROUNDS: usize = 16;
    let Some(cluster) = Postgres::own() else { return };
    let mut sites = an_hsm_each(&cluster);
    for site in &mut sites {
        site.replace("rotate_every = \"3s\"\nlead = \"3s\"\nkeep = \"4s\"", HURRY);
    }
    let mut servers = [start(&sites[0]), start(&sites[1])];
    for server in &servers {
        server.ready().await;
    }
    for round in 0..ROUNDS {
        let victim = round % 2;
        let acts = "hallmark_rotation_acts_total{outcome=\"done\"}";
        let moves = "hallmark_rotation_moves_total{outcome=\"done\"}";
        let server = &servers[victim];
        let sessions = format!("hallmark_hsm_sessions{{hsm=\"{}\"}}", ["a", "b"][victim]);
        // Not inside the login: a PIN that nobody knows the verdict on waits for an operator, and rightly so.
        eventually("it has logged in and done something", PATIENCE, async || {
            let (done, sessions) =
                (server.metric(acts).await + server.metric(moves).await, server.metric(&sessions).await);
            (sessions > 0.0 && done >= (round % 3) as f64).then_some(())
        })
        .await;
        server.process.signal(Signal::KILL);
        servers[victim] = start(&sites[victim]);
    }
    let [one, two] = &servers;
    for (server, other, hsm) in [(one, two, "a"), (two, one, "b")] {
        server.ready().await;
        eventually("its line signs", PATIENCE, async || server.app().sign_for("demo").await.ok()).await;
        let signed = server.app().sign_for("demo").await.unwrap();
        Verifier::new(other).verify(&signed.assertion).await.unwrap();
        let series = |text: &str, name: &str| {
            text.lines().find_map(|line| line.strip_prefix(&format!("{name}{{hsm=\"{hsm}\"}} "))?.parse::<f64>().ok())
        };
        let found = eventually("the token was looked at", PATIENCE, async || {
            let (_, text) = server.health("/metrics").await;
            series(&text, "hallmark_hsm_strays").zip(series(&text, "hallmark_hsm_absent_keys"))
        })
        .await;
        // A kill inside `C_GenerateKeyPair` may leave half a pair: reported, and in nobody's way.
        assert!(found.0 <= ROUNDS as f64 && found.1 == 0.0, "strays and absent keys on `{hsm}`: {found:?}");
        let listed = server.ops().keys().list_keys(ListKeysRequest::default()).await.unwrap().into_inner();
        assert_eq!(found.0, listed.strays.len() as f64, "all that no record knows is listed: {:?}", listed.strays);
    }
}

/// Shorter than verifiers could follow: here nobody but the keys is looked after.
const HURRY: &str = "rotate_every = \"300ms\"\nlead = \"200ms\"\nkeep = \"400ms\"";

/// Verifiers ask a follower of the replica that does not sweep: a new key waits for that one too.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_of_another_replica_holds_up_new_keys_until_it_has_them() {
    let Some(cluster) = Postgres::own() else { return };
    let mut sites = an_hsm_each(&cluster);
    for site in &mut sites {
        site.replace("[jwks]\n", &format!("[jwks]\npublic_url = \"https://keys.example\"\nfollowers = [\"{EDGE}\"]\n"));
        site.append(&format!("\n[[operator]]\nid = \"{EDGE}\"\nroles = [\"follow\"]\n"));
    }
    let one = start(&sites[0]);
    one.ready().await;
    let two = start(&sites[1]);
    let behind = async |count: f64| (one.metric("hallmark_followers_behind{}").await == count).then_some(());
    let app = one.app();
    let kid = async || eventually("it signs", PATIENCE, async || app.sign_for("demo").await.ok()).await.kid;

    let mut follower = watch(&two.caller(Some(&sites[1].ca.client(EDGE))), "edge").await.unwrap();
    let (mut has, _) = follower.whole().await;
    eventually("the one that sweeps hears of it", PATIENCE, || behind(1.0)).await;
    assert!(sweeps(&one).await);
    let first = kid().await;
    eventually("the key's time is up, and no other may sign", PATIENCE, async || {
        (one.metric("hallmark_rotation_overdue{client=\"demo\"}").await == 1.0).then_some(())
    })
    .await;
    assert_eq!(kid().await, first);

    let (stop, mut stopped) = tokio::sync::oneshot::channel::<()>();
    let following = tokio::spawn(async move {
        loop {
            follower.acknowledge(has);
            tokio::select! {
                message = follower.message() => has = has.max(message.generation),
                _ = &mut stopped => return follower,
            }
        }
    });
    let second =
        eventually("the next key signs", PATIENCE, async || Some(kid().await).filter(|kid| *kid != first)).await;
    // It hangs: connected, and with an old set.
    stop.send(()).unwrap();
    let follower = following.await.unwrap();
    eventually("it is missed", PATIENCE, || behind(1.0)).await;
    drop((follower, second));
    two.stop().await;
    one.stop().await;
}

/// Half of a change of configuration: nobody's keys are moved by rules that replicas do not agree about.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_with_different_policies_do_not_sweep_and_say_what_differs() {
    let Some(cluster) = Postgres::own() else { return };
    let mut sites = an_hsm_each(&cluster);
    sites[1].replace("provision = \"auto\"", "provision = \"auto\"\nkeep_for = \"2h\"");
    let one = start(&sites[0]);
    one.ready().await;
    let mut two = start(&sites[1]);
    eventually("they notice", PATIENCE, async || {
        (one.metric("hallmark_rotation_policy_differences{}").await == 1.0).then_some(())
    })
    .await;
    let log = one.log();
    let told = log.lines().find(|line| line.contains("replicas have different policies")).expect("an alarm");
    assert!(told.contains("demo") && told.contains("`a` has") && told.contains("`b` has"), "{told}");
    // What was under way when they met is through.
    let swept = async || one.metric("hallmark_rotation_last_sweep_timestamp_seconds{}").await;
    let moved = async || one.metric("hallmark_rotation_moves_total{outcome=\"done\"}").await;
    let later = async |seconds: f64| {
        let since = swept().await;
        eventually("it sweeps on", PATIENCE, async || (swept().await >= since + seconds).then_some(())).await;
    };
    later(1.0).await;
    let before = moved().await;
    later(5.0).await;
    assert_eq!(moved().await, before, "a key's time is up after three seconds, and nothing is moved");

    two.process.kill();
    sites[1].replace("\nkeep_for = \"2h\"", "");
    let two = start(&sites[1]);
    eventually("they agree, and it goes on", PATIENCE, async || (moved().await > before).then_some(())).await;
    two.stop().await;
    one.stop().await;
}
