//! Keys of authorization servers that hold a certificate: none signs without one, and none that nobody registered.

use std::time::Duration;

use hallmark_core::{
    certificate::Certificate,
    error::{Error, Reason},
    key::{KeyRecord, KeyState, Kid},
    policy::Claims,
    ports::RecordUpdate,
    profile::{Binding, How, Profile, Registration},
    software_statement::Statement,
};
use serde_json::value::RawValue;

use super::{
    super::alarms::Alarm,
    rig::{EVERY, LEAD, Process, ROTATE, World},
};
use crate::service::{
    fixture::caller,
    keys::{
        AlterRequest, Alteration, Changed, CsrRequest, InstallRequest, KeyChoice, SelfSignRequest, StatementRequest,
        WantedNames,
    },
};

const DAY: Duration = Duration::from_secs(86_400);

/// Client `c`, whose authorization server has its certificate by hand.
async fn bound() -> World {
    let mut world = World::new(&["one"]).await;
    let c = &mut world.clients[0];
    let registration = Registration { how: How::SoftwareStatement, ..c.profile.registration };
    let profile = Profile { binding: Binding::RegisteredCert, registration, ..c.profile.clone() };
    c.profile = Box::leak(Box::new(profile));
    c.makes.x5t = true;
    world
}

async fn settled(world: &World) -> Process {
    let process = world.start().await;
    process.settle().await;
    process.live(LEAD + EVERY).await;
    process
}

fn key(kid: Option<&Kid>, standby: bool) -> KeyChoice {
    KeyChoice { client: "c".parse().unwrap(), kid: kid.cloned(), standby }
}

fn names() -> WantedNames {
    WantedNames { subject: None, san_uris: vec!["https://clinic.example/".into()], san_dns: Vec::new() }
}

fn self_sign(id: &str, key: KeyChoice, days: u32) -> SelfSignRequest {
    let (request_id, reason, lifetime) = (id.into(), "test".into(), DAY * days);
    SelfSignRequest { request_id, reason, key, names: names(), lifetime, force: false }
}

impl Process {
    async fn self_signed(&self, request: SelfSignRequest) -> Result<Changed, Error> {
        let who = if request.force { "dns:d.example" } else { "dns:o.example" };
        self.rig.keys.self_sign_certificate(&caller(who), request).await
    }

    fn standby(&self) -> KeyRecord {
        let [standby] = <[_; 1]>::try_from(self.in_state(KeyState::PreActive)).unwrap();
        standby
    }

    fn waits(&self, record: &KeyRecord) -> String {
        self.rotation.outlook().next_step(record).unwrap().blocked.unwrap_or_default()
    }
}

fn kid(record: &KeyRecord) -> Kid {
    record.public.as_ref().unwrap().kid.clone()
}

#[tokio::test]
async fn a_rotation_waits_for_a_certificate_and_then_for_a_confirmation() {
    let world = bound().await;
    let process = settled(&world).await;
    let (before, standby) = (process.active(), process.standby());
    assert_eq!(
        process.waits(&standby),
        "the key has no certificate that is valid now (`hallmark csr`, `hallmark cert install`); nobody has confirmed \
         that the authorization server has the new key"
    );
    assert!(process.rig.keys.lacks_certificate(&standby));
    let until = standby.times.created.plus(ROTATE * 2);
    let plan = process.rotation.plan(&caller("dns:o.example"), None, until).unwrap();
    let step = plan.iter().find(|step| step.key == Some(standby.id) && step.what == "activate").unwrap();
    assert!(step.blocked.as_ref().is_some_and(|blocked| blocked.contains("no certificate")), "{step:?}");
    let what = Alteration::ConfirmRegistered { kid: kid(&standby) };
    let early = AlterRequest { request_id: "r0".into(), reason: "done".into(), what, force: false };
    let early = process.rig.keys.alter(&caller("dns:o.example"), early).await.unwrap_err();
    assert_eq!(early.reason, Reason::KeyState, "what would have been registered?");
    process.skip(ROTATE).await;
    assert_eq!(process.active(), before);
    let why = process.rotation.0.alarms.of(Alarm::Overdue).remove("c").unwrap();
    assert!(why.contains("no certificate"), "{why}");

    let changed = process.self_signed(self_sign("r1", key(None, true), 30)).await.unwrap();
    assert!(changed.advice.iter().any(|line| line.contains("--registered")), "{:?}", changed.advice);
    process.round().await;
    assert!(!process.rig.keys.lacks_certificate(&process.standby()));
    assert_eq!(process.active(), before, "nobody has registered it");
    assert_eq!(process.waits(&standby), "nobody has confirmed that the authorization server has the new key");

    let what = Alteration::ConfirmRegistered { kid: kid(&standby) };
    let confirm = AlterRequest { request_id: "r2".into(), reason: "done".into(), what, force: false };
    process.rig.keys.alter(&caller("dns:o.example"), confirm.clone()).await.unwrap();
    // Another certificate is another registration.
    process.self_signed(self_sign("r3", key(None, true), 31)).await.unwrap();
    process.round().await;
    assert_eq!(process.active(), before);
    let confirm = AlterRequest { request_id: "r4".into(), ..confirm };
    process.rig.keys.alter(&caller("dns:o.example"), confirm).await.unwrap();
    process.settle().await;
    assert_eq!(process.active(), standby.id);
    assert_eq!(process.in_state(KeyState::Active)[0].certificate_chain.len(), 1, "it moved with its certificate");
}

/// Another replica installs, at the worst moment.
#[tokio::test]
async fn what_nobody_registered_does_not_sign_whoever_installs_it_meanwhile() {
    let world = bound().await;
    let process = settled(&world).await;
    let install = async |id, days| {
        process.self_signed(self_sign(id, key(None, true), days)).await.unwrap();
        process.standby()
    };
    let (one, two) = (install("r1", 30).await, install("r2", 31).await);
    let installs = |chain: &KeyRecord, over: KeyRecord| {
        let mut record = over;
        record.times.registered = None;
        let update = RecordUpdate { from: record.state, record, chain: Some(chain.certificate_chain.clone()) };
        *world.store.cut_in.lock().unwrap() = Some(update);
    };
    let what = Alteration::ConfirmRegistered { kid: kid(&two) };
    let confirm =
        |id: &str| AlterRequest { request_id: id.into(), reason: "done".into(), what: what.clone(), force: false };

    installs(&one, two.clone());
    let refused = process.rig.keys.alter(&caller("dns:o.example"), confirm("r3")).await.unwrap_err();
    assert_eq!(refused.reason, Reason::KeyChanged, "it was another certificate that was registered");
    process.round().await;
    let stored = process.standby();
    assert_eq!((&stored.certificate_chain, stored.times.registered), (&one.certificate_chain, None));

    process.rig.keys.alter(&caller("dns:o.example"), confirm("r4")).await.unwrap();
    installs(&two, process.standby());
    process.skip(ROTATE).await;
    assert!(world.store.cut_in.lock().unwrap().is_none(), "the sweep must have tried");
    process.settle().await;
    let stored = process.records().into_iter().find(|record| record.id == two.id).unwrap();
    assert_eq!(stored.state, KeyState::PreActive, "nobody has registered the certificate that it has now");
    assert_eq!((&stored.certificate_chain, stored.times.registered), (&two.certificate_chain, None));
}

#[tokio::test]
async fn a_certificate_shows_in_the_set_and_is_known_to_every_process() {
    let world = bound().await;
    let (process, other) = (settled(&world).await, world.start_as("b").await);
    let changed = process.self_signed(self_sign("r1", key(None, false), 30)).await.unwrap();
    let leaf = changed.keys[0].certificate_chain[0].clone();
    let thumbprint = Certificate::parse(&leaf).unwrap().thumbprints.x5t_s256();
    assert!(process.jwks().contains(&format!("\"x5t#S256\":\"{thumbprint}\"")), "{}", process.jwks());
    other.round().await;
    assert!(other.jwks().contains(&thumbprint));
    let line = changed.keys[0].line().unwrap();
    for process in [&process, &other] {
        let reading = process.rig.context.keyring.keys().clone();
        assert!(reading.active(&line).unwrap().has_certificates(std::slice::from_ref(&leaf)));
    }
    // Once for each id.
    let again = process.self_signed(self_sign("r1", key(None, false), 30)).await.unwrap();
    assert_eq!((again.change.id, &again.keys[0].certificate_chain[0]), (changed.change.id, &leaf));
}

#[tokio::test]
async fn what_the_server_knows_is_not_replaced_by_what_it_can_not_know() {
    let world = bound().await;
    let process = settled(&world).await;
    process.self_signed(self_sign("r1", key(None, false), 30)).await.unwrap();
    let refused = process.self_signed(self_sign("r2", key(None, false), 30)).await.unwrap_err();
    assert_eq!(refused.reason, Reason::GateShut);
    let forced = SelfSignRequest { force: true, ..self_sign("r3", key(None, false), 30) };
    let not_by_any = process.rig.keys.self_sign_certificate(&caller("dns:o.example"), forced.clone()).await;
    assert_eq!(not_by_any.unwrap_err().reason, Reason::NotAnOperator);
    process.self_signed(forced).await.unwrap();
}

#[tokio::test]
async fn the_end_of_a_certificate_is_told_ahead_of_time() {
    let world = bound().await;
    let process = settled(&world).await;
    process.self_signed(self_sign("r1", key(None, false), 40)).await.unwrap();
    let kid = kid(&process.in_state(KeyState::Active)[0]);
    process.round().await;
    let series = format!("hallmark_certificate_expires_timestamp_seconds{{client=\"c\",kid=\"{kid}\"}}");
    assert!((process.metric(&series) - (1_800_000_000.0 + 40.0 * 86_400.0)).abs() < 1.0);
    let alarm = |process: &Process| process.rotation.0.alarms.of(Alarm::Certificate).remove(&format!("c/{kid}"));
    assert_eq!(alarm(&process), None);
    process.skip(DAY * 10).await;
    assert!(alarm(&process).unwrap().contains("expires in 29 days"), "{:?}", alarm(&process));
    process.skip(DAY * 31).await;
    assert!(alarm(&process).unwrap().contains("has expired"), "{:?}", alarm(&process));
    let fresh = self_sign("r2", key(None, false), 400);
    process.self_signed(fresh).await.expect("one that has expired is no loss");
    process.round().await;
    assert_eq!(alarm(&process), None);
}

#[tokio::test]
async fn each_signature_is_audited_as_what_it_is() {
    let world = bound().await;
    let process = settled(&world).await;
    let keys = &process.rig.keys;
    let ask =
        |id: &str| CsrRequest { request_id: id.into(), reason: "why".into(), key: key(None, false), names: names() };
    let (der, record) = keys.request_certificate(&caller("dns:o.example"), ask("r1")).await.unwrap();
    assert!(!der.is_empty() && record.state == KeyState::Active);
    let refused = keys.request_certificate(&caller("dns:w.example"), ask("r2")).await.unwrap_err();
    assert_eq!(refused.reason, Reason::NotAnOperator);

    let statement = |endpoint: &str| {
        let name = RawValue::from_string("\"Clinic\"".to_owned()).unwrap();
        let claims = Claims(vec![("client_name".to_owned(), name)]);
        let statement = Statement { registration_endpoint: endpoint.into(), issuer: None, claims };
        StatementRequest { request_id: "r3".into(), reason: "why".into(), key: key(None, false), statement }
    };
    let endpoint = "https://as.example/register";
    let early = keys.sign_software_statement(&caller("dns:o.example"), statement(endpoint)).await.unwrap_err();
    assert_eq!(early.reason, Reason::NoCertificate);
    process.self_signed(self_sign("r4", key(None, false), 30)).await.unwrap();
    let as_assertion = statement("https://as.example/token");
    let refused = keys.sign_software_statement(&caller("dns:o.example"), as_assertion).await.unwrap_err();
    assert_eq!(refused.reason, Reason::InvalidRequest);
    let signed = keys.sign_software_statement(&caller("dns:o.example"), statement(endpoint)).await.unwrap();
    assert_eq!(signed.compact.split('.').count(), 3);

    let kinds = process.rig.audit.all("sign-intent", "kind");
    let kinds: Vec<_> = kinds.iter().filter(|kind| *kind != "probe").collect();
    assert_eq!(kinds, ["certificate-request", "certificate", "software-statement"]);
    let whys = process.rig.audit.all("key-intent", "action");
    for action in ["sign-certificate-request", "sign-certificate", "install-certificate", "sign-software-statement"] {
        assert!(whys.iter().any(|known| known == action), "{action}: {whys:?}");
    }
}

#[tokio::test]
async fn a_chain_finds_its_key_and_no_ended_key_gets_one() {
    let world = bound().await;
    let process = settled(&world).await;
    let standby = process.standby();
    let chain = process.self_signed(self_sign("r1", key(Some(&kid(&standby)), false), 30)).await.unwrap();
    let chain = chain.keys[0].certificate_chain.clone();
    let install = |id: &str, kid: Option<&Kid>| InstallRequest {
        request_id: id.into(),
        reason: "test".into(),
        key: key(kid, false),
        chain: chain.clone(),
        force: false,
    };
    let operator = caller("dns:o.example");
    let changed = process.rig.keys.install_certificate(&operator, install("r2", None)).await.unwrap();
    assert_eq!(changed.keys[0].id, standby.id, "the key that it is for");
    let active = kid(&process.in_state(KeyState::Active)[0]);
    let wrong = process.rig.keys.install_certificate(&operator, install("r3", Some(&active))).await.unwrap_err();
    assert_eq!(wrong.reason, Reason::InvalidCertificate);

    let what = Alteration::Revoke { kid: kid(&standby) };
    let revoke = AlterRequest { request_id: "r4".into(), reason: "lost".into(), what, force: false };
    process.rig.keys.alter(&operator, revoke).await.unwrap();
    let ended = process.rig.keys.install_certificate(&operator, install("r5", Some(&kid(&standby)))).await.unwrap_err();
    assert_eq!(ended.reason, Reason::KeyState);
}
