//! The wall clock is set back or forward by a year while a server runs.

use std::{
    ops::RangeInclusive,
    time::{SystemTime, UNIX_EPOCH},
};

use hallmark_proto::v1::{KeyState, ListKeysRequest, RevokeKeyRequest, RotateKeysRequest};

use crate::support::{Caller, PATIENCE, Refusal, Server, Site, claims, edge::get, eventually, faketime::WallClock};

const YEAR: i64 = 365 * 24 * 3600;

/// A key signs for a month, and is destroyed a month after its end: by its dates, all of it would be due in a year.
fn site() -> Site {
    let uid = rustix::process::getuid().as_raw();
    let mut site = Site::new();
    site.replace("keys = [{ alg = \"ES256\" }]", "keys = [{ alg = \"ES256\", rotate = \"30d\" }]");
    site.append("\n[rotation]\ndestroy_after = \"30d\"\n");
    site.append("\n[unsafe_testing]\nsweep_every = \"100ms\"\nlead = \"1s\"\n");
    // Whom the kernel vouches for has no certificate that could have run out.
    site.append(&format!("\n[[workload]]\nid = \"uid:{uid}\"\nclients = [\"demo\"]\n"));
    site.append(&format!("\n[[operator]]\nid = \"uid:{uid}\"\nroles = [\"destroy\"]\n"));
    site
}

#[tokio::test]
async fn a_year_forward_and_a_year_back_change_no_key() {
    let Some(clock) = WallClock::new() else { return };
    let site = site();
    let server = site.start_with(|command| {
        command.arg("--unsafe-testing");
        clock.apply(command);
    });
    server.ready().await;
    let here = Caller::unix(&server.unix);
    let before = a_key_in_each_state(&here).await;
    // The standby has been served for longer than its lead: only a date keeps it from signing.
    sweeps(&server, 20.0).await;
    let signing = here.sign_for("demo").await.unwrap().kid;

    for (offset, why) in [(YEAR, "has expired"), (-YEAR, "is not valid yet")] {
        clock.set(offset);
        eventually("the alarm is on", PATIENCE, async || (alarm(&server).await == 1.0).then_some(())).await;
        assert_eq!(server.metric("hallmark_rotation_clock_held{}").await, 1.0);
        sweeps(&server, 5.0).await;
        assert_eq!(states(&here).await, before, "{offset}");

        // Signing goes on, and the assertion says what the wall clock says: its verifier is to judge that.
        let signed = here.sign_for("demo").await.unwrap();
        assert_eq!(signed.kid, signing);
        let claims = claims(&signed.assertion);
        let (iat, exp) = (claims["iat"].as_i64().unwrap(), claims["exp"].as_i64().unwrap());
        assert!(about(now() + offset).contains(&iat) && (iat..=iat + 300).contains(&exp), "{offset}: {claims}");
        let served = get(&server.jwks_url("demo")).await;
        assert!(served.status == 200 && served.body.contains(&signing), "{offset}: {served:?}");

        // A caller whose certificate is not valid by that clock hears so.
        let refused = server.app().sign_for("demo").await.unwrap_err();
        assert_eq!(refused.reason, "CERTIFICATE_UNTRUSTED", "{refused:?}");
        assert!(refused.message.contains(why), "{refused:?}");
        // And an operator, why there is no change.
        let refused = rotate(&here, why).await.unwrap_err();
        assert_eq!(refused.reason, "GATE_SHUT", "{refused:?}");
        assert!(refused.message.contains("the wall clock departed"), "{refused:?}");
    }

    clock.set(0);
    eventually("the alarm is off", PATIENCE, async || (alarm(&server).await == 0.0).then_some(())).await;
    assert_eq!(server.metric("hallmark_rotation_clock_held{}").await, 0.0);
    sweeps(&server, 5.0).await;
    assert_eq!(states(&here).await, before, "nothing is due");
    server.app().sign_for("demo").await.unwrap();
    rotate(&here, "right").await.unwrap();
    assert_ne!(here.sign_for("demo").await.unwrap().kid, signing, "and what is asked for is done");
    server.stop().await;
}

/// One that signed and is still published, one that was revoked, one that signs, and one that could.
async fn a_key_in_each_state(ops: &Caller) -> Vec<(String, KeyState)> {
    eventually("the standby may sign", PATIENCE, async || rotate(ops, "first").await.ok()).await;
    let kid = ops.sign_for("demo").await.unwrap().kid;
    // Its standby takes over, once it is there and may.
    eventually("there is another standby", PATIENCE, async || rotate(ops, "second").await.ok()).await;
    let (request_id, reason) = ("revoke".to_owned(), "test".to_owned());
    ops.keys().revoke_key(RevokeKeyRequest { request_id, reason, kid }).await.unwrap();
    eventually("all is there, and nothing is under way", PATIENCE, async || {
        let states = states(ops).await;
        let has = |state| states.iter().any(|(_, its)| *its == state);
        let wanted = [KeyState::Deactivated, KeyState::Compromised, KeyState::Active, KeyState::PreActive];
        wanted.into_iter().all(has).then_some(states)
    })
    .await
}

/// Of all keys of the client that were published.
async fn states(ops: &Caller) -> Vec<(String, KeyState)> {
    let request = ListKeysRequest { client: "demo".to_owned(), ..Default::default() };
    let keys = ops.keys().list_keys(request).await.unwrap().into_inner().keys;
    let mut keys: Vec<_> = keys.into_iter().filter(|key| key.published_at.is_some()).collect();
    keys.sort_by(|a, b| a.kid.cmp(&b.kid));
    keys.into_iter().map(|key| (key.kid.clone(), key.state())).collect()
}

async fn rotate(ops: &Caller, request_id: &str) -> Result<(), Refusal> {
    let (request_id, reason, client) = (request_id.to_owned(), "test".to_owned(), "demo".to_owned());
    let request = RotateKeysRequest { request_id, reason, client, alg: String::new(), force: false };
    Ok(ops.keys().rotate_keys(request).await.map(drop)?)
}

async fn alarm(server: &Server) -> f64 {
    server.metric("hallmark_alarms{alarm=\"clock\"}").await
}

/// Waits for so many more.
async fn sweeps(server: &Server, count: f64) {
    let done = async || server.metric("hallmark_rotation_sweep_seconds_count{}").await;
    let before = done().await;
    eventually("it sweeps", PATIENCE, async || (done().await >= before + count).then_some(())).await;
}

/// Some room for a busy machine.
fn about(second: i64) -> RangeInclusive<i64> {
    second - 60..=second + 60
}

/// By the right clock, in seconds since 1970.
#[expect(clippy::disallowed_methods, reason = "what the server's clock is held against")]
fn now() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()).unwrap()
}
