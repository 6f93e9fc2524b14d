//! Keys are made and destroyed for operators: what fails says so, and can be asked for again.

use hallmark_proto::v1::{CreateKeysRequest, DestroyKeyRequest, Key, KeyState, ListKeysRequest, RevokeKeyRequest};
use hallmark_testkit::fault_module::Function;
use tonic::Code;

use super::{CLASSES, rig::Rig};
use crate::support::{Caller, Refusal};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keys_that_could_not_be_made_or_destroyed_are_so_later() {
    let acts: Vec<_> = CLASSES.iter().map(|(_, code)| format!("return {code}")).collect();
    let acts: Vec<_> = acts.into_iter().chain(["return-after CKR_DEVICE_ERROR".to_owned()]).collect();
    let rig = Rig::start(|site| {
        for spare in 0..acts.len() {
            site.append(&format!(
                "\n[[client]]\nname = \"spare-{spare}\"\nclient_id = \"spare\"\n\
                 token_endpoint = \"https://as.example/token\"\nhsm = [\"soft\"]\nkeys = [{{ alg = \"ES256\" }}]\n"
            ));
        }
    })
    .await;
    let ops = rig.server.ops();
    for (spare, act) in acts.iter().enumerate() {
        let client = format!("spare-{spare}");
        rig.module.set(&format!("C_GenerateKeyPair {act}"));
        must_fail(create(&ops, &client, "while it fails").await, act);
        rig.recover(act).await;
        create(&ops, &client, "afterwards").await.unwrap_or_else(|refusal| panic!("{act}: {refusal:?}"));
        let [active, standby] = keys(&ops, &client).await.try_into().unwrap();
        assert_eq!([active.state(), standby.state()], [KeyState::Active, KeyState::PreActive], "{act}");

        revoke(&ops, &standby.kid).await;
        let before = rig.module.seen(Function::C_DestroyObject).faults;
        rig.module.set(&format!("C_DestroyObject {act}"));
        let failed = destroy(&ops, &standby.kid, "while it fails").await;
        assert!(rig.module.seen(Function::C_DestroyObject).faults > before, "{act}");
        must_fail(failed, act);
        rig.recover(act).await;
        destroy(&ops, &standby.kid, "afterwards").await.unwrap_or_else(|refusal| panic!("{act}: {refusal:?}"));
        let destroyed = keys(&ops, &client).await.into_iter().find(|key| key.kid == standby.kid).unwrap();
        assert_eq!(destroyed.state(), KeyState::Destroyed, "{act}");
    }
    rig.no_pin_was_at_risk();
    rig.stop().await;
}

/// An operator learns that it did not work, and not that we have a bug.
fn must_fail(answer: Result<(), Refusal>, act: &str) {
    let refusal = answer.expect_err(act);
    let fits = match refusal.code {
        Code::Unavailable => refusal.retry_after.is_some() || refusal.reason == "PIN_REFUSED",
        Code::FailedPrecondition => ["HSM_REFUSED", "ALG_UNSUPPORTED"].contains(&refusal.reason.as_str()),
        _ => false,
    };
    assert!(fits, "{act}: {refusal:?}");
}

async fn create(ops: &Caller, client: &str, request: &str) -> Result<(), Refusal> {
    let (request_id, reason) = (format!("create {client} {request}"), "test".to_owned());
    let request = CreateKeysRequest { request_id, reason, client: client.to_owned(), alg: String::new() };
    Ok(ops.keys().create_keys(request).await.map(drop)?)
}

async fn revoke(ops: &Caller, kid: &str) {
    let (request_id, reason) = (format!("revoke {kid}"), "test".to_owned());
    ops.keys().revoke_key(RevokeKeyRequest { request_id, reason, kid: kid.to_owned() }).await.unwrap();
}

async fn destroy(ops: &Caller, kid: &str, request: &str) -> Result<(), Refusal> {
    let (request_id, reason) = (format!("destroy {kid} {request}"), "test".to_owned());
    let request = DestroyKeyRequest { request_id, reason, kid: kid.to_owned(), force: true };
    Ok(ops.keys().destroy_key(request).await.map(drop)?)
}

/// The active one first.
async fn keys(ops: &Caller, client: &str) -> Vec<Key> {
    let request = ListKeysRequest { client: client.to_owned(), ..Default::default() };
    let mut keys = ops.keys().list_keys(request).await.unwrap().into_inner().keys;
    keys.retain(|key| !key.kid.is_empty());
    keys.sort_by_key(|key| key.state() != KeyState::Active);
    keys
}
