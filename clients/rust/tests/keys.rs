//! Operators' calls: pages, and changes that are asked for once however often they are sent.

use std::{
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use hallmark_client::{
    Adoption, CertificateNames, ChangeState, Client, Confirmation, Connection, HsmLook, KeyAction, KeyChoice, KeyState,
    ObjectRef, Order,
};
use hallmark_proto::v1::{
    self,
    key_service_server::{KeyService, KeyServiceServer},
    rotation_service_server::{RotationService, RotationServiceServer},
};
use tokio::net::UnixListener;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::{Request, Response, Status, transport::Server};

/// Has a key on each of three pages, and is out of order when a change is asked for the first time.
#[derive(Clone, Default)]
struct FakeKeys {
    creations: Arc<Mutex<Vec<v1::CreateKeysRequest>>>,
}

macro_rules! fake {
    ($($call:ident($request:ident) -> $response:ident;)*) => {
#[tonic::async_trait]
impl KeyService for FakeKeys {
    async fn list_keys(&self, request: Request<v1::ListKeysRequest>) -> Result<Response<v1::ListKeysResponse>, Status> {
        let fresh = request.get_ref().fresh;
        let page: u8 = request.get_ref().page_token.parse().unwrap_or(0);
        let state = v1::KeyState::Active.into();
        let key =
            v1::Key { kid: format!("kid-{page}"), client: request.into_inner().client, state, ..v1::Key::default() };
        let next_page_token = if page < 2 { (page + 1).to_string() } else { String::new() };
        let stray = v1::Stray { label: format!("stray-{page}"), ..v1::Stray::default() };
        let (strays, unanswered_hsms) = (vec![stray], vec!["yubi".to_owned()]);
        let at = Some(SystemTime::UNIX_EPOCH.into());
        let looks = vec![v1::HsmLook { hsm: if fresh { "now" } else { "before" }.to_owned(), at }];
        Ok(Response::new(v1::ListKeysResponse { keys: vec![key], next_page_token, strays, unanswered_hsms, looks }))
    }

    async fn get_key(&self, _: Request<v1::GetKeyRequest>) -> Result<Response<v1::GetKeyResponse>, Status> {
        Ok(Response::new(v1::GetKeyResponse { key: None }))
    }

    async fn create_keys(
        &self,
        request: Request<v1::CreateKeysRequest>,
    ) -> Result<Response<v1::CreateKeysResponse>, Status> {
        let mut creations = self.creations.lock().expect("not poisoned");
        creations.push(request.into_inner());
        if creations.len() == 1 {
            return Err(Status::unavailable("the proxy lost the server"));
        }
        Ok(Response::new(v1::CreateKeysResponse { change: Some(applied("create_keys", &"")) }))
    }

    async fn list_changes(
        &self,
        _: Request<v1::ListChangesRequest>,
    ) -> Result<Response<v1::ListChangesResponse>, Status> {
        Ok(Response::new(v1::ListChangesResponse { changes: vec![applied("waits", &"")] }))
    }

    async fn create_certificate_request(
        &self,
        request: Request<v1::CreateCertificateRequestRequest>,
    ) -> Result<Response<v1::CreateCertificateRequestResponse>, Status> {
        let request = format!("{:?}", request.into_inner()).into_bytes();
        let key = Some(v1::Key::default());
        Ok(Response::new(v1::CreateCertificateRequestResponse { request, key }))
    }

    async fn get_key_evidence(
        &self,
        _: Request<v1::GetKeyEvidenceRequest>,
    ) -> Result<Response<v1::GetKeyEvidenceResponse>, Status> {
        Err(Status::unimplemented("not asked for here"))
    }

    async fn sign_software_statement(
        &self,
        request: Request<v1::SignSoftwareStatementRequest>,
    ) -> Result<Response<v1::SignSoftwareStatementResponse>, Status> {
        let software_statement = format!("{:?}", request.into_inner());
        Ok(Response::new(v1::SignSoftwareStatementResponse { software_statement, ..Default::default() }))
    }

    $(async fn $call(&self, request: Request<v1::$request>) -> Result<Response<v1::$response>, Status> {
        let change = Some(applied(stringify!($call), request.get_ref()));
        Ok(Response::new(v1::$response { change }))
    })*
}
    };
}

fake! {
    rotate_keys(RotateKeysRequest) -> RotateKeysResponse;
    activate_key(ActivateKeyRequest) -> ActivateKeyResponse;
    deactivate_key(DeactivateKeyRequest) -> DeactivateKeyResponse;
    revoke_key(RevokeKeyRequest) -> RevokeKeyResponse;
    retire_key(RetireKeyRequest) -> RetireKeyResponse;
    destroy_key(DestroyKeyRequest) -> DestroyKeyResponse;
    adopt_key(AdoptKeyRequest) -> AdoptKeyResponse;
    confirm_key(ConfirmKeyRequest) -> ConfirmKeyResponse;
    approve_change(ApproveChangeRequest) -> ApproveChangeResponse;
    deny_change(DenyChangeRequest) -> DenyChangeResponse;
    install_certificate(InstallCertificateRequest) -> InstallCertificateResponse;
    self_sign_certificate(SelfSignCertificateRequest) -> SelfSignCertificateResponse;
}

#[tonic::async_trait]
impl RotationService for FakeKeys {
    async fn plan_rotation(
        &self,
        request: Request<v1::PlanRotationRequest>,
    ) -> Result<Response<v1::PlanRotationResponse>, Status> {
        let v1::PlanRotationRequest { client, until } = request.into_inner();
        let what = "activate".to_owned();
        let step = v1::UpcomingStep { at: until, client, what, ..v1::UpcomingStep::default() };
        Ok(Response::new(v1::PlanRotationResponse { steps: vec![step] }))
    }
}

/// Says back what was asked for.
fn applied(call: &str, message: &impl std::fmt::Debug) -> v1::KeyChange {
    v1::KeyChange {
        id: call.to_owned(),
        state: v1::key_change::State::Applied.into(),
        keys: vec![v1::Key::default()],
        in_force_everywhere_at: Some((SystemTime::UNIX_EPOCH + Duration::from_secs(390)).into()),
        advice: vec![format!("{message:?}")],
        approval: None,
    }
}

fn start(folder: &tempfile::TempDir) -> (FakeKeys, Client) {
    let path = folder.path().join("h.sock");
    let incoming = UnixListenerStream::new(UnixListener::bind(&path).expect("a socket"));
    let fake = FakeKeys::default();
    let server = Server::builder().add_service(KeyServiceServer::new(fake.clone()));
    tokio::spawn(server.add_service(RotationServiceServer::new(fake.clone())).serve_with_incoming(incoming));
    (fake, Client::connect(Connection::unix(path)).expect("a client"))
}

#[tokio::test]
async fn a_list_is_read_to_its_end() {
    let folder = tempfile::tempdir().expect("a folder");
    let (_, client) = start(&folder);
    let keys = client.list_keys(Some("clinic")).await.expect("keys");
    let kids: Vec<_> = keys.iter().filter_map(|key| key.kid.as_deref()).collect();
    assert_eq!(kids, ["kid-0", "kid-1", "kid-2"]);
    assert!(keys.iter().all(|key| key.client.as_deref() == Some("clinic") && key.state == KeyState::Active));
    assert_eq!(client.get_key("none").await.expect_err("nothing in it").reason(), "UNEXPECTED_ANSWER");
}

#[tokio::test]
async fn a_change_keeps_its_id_when_it_is_sent_again() {
    let folder = tempfile::tempdir().expect("a folder");
    let (fake, client) = start(&folder);
    let change = client.create_keys("clinic", Some("RS384"), "first keys").await.expect("made");
    assert_eq!((change.state, change.keys.len()), (ChangeState::Applied, 1));
    client.create_keys("clinic", Some("RS384"), "first keys").await.expect("made");
    let creations = fake.creations.lock().expect("not poisoned");
    assert_eq!(creations[0], creations[1]);
    assert_ne!(creations[1].request_id, creations[2].request_id, "another change is another request");
}

#[tokio::test]
async fn a_list_has_what_is_on_the_hsms_too() {
    let folder = tempfile::tempdir().expect("a folder");
    let (_, client) = start(&folder);
    let list = client.compare_keys(None).await.expect("keys");
    let labels: Vec<_> = list.strays.iter().map(|stray| stray.label.as_str()).collect();
    assert_eq!((labels, list.unanswered_hsms), (vec!["stray-0", "stray-1", "stray-2"], vec!["yubi".to_owned()]));
    let look = |hsm: &str| HsmLook { hsm: hsm.to_owned(), at: SystemTime::UNIX_EPOCH };
    assert_eq!(list.looks, [look("before")]);
    assert_eq!(client.compare_keys_now(None).await.expect("keys").looks, [look("now")]);
}

/// A mix-up here would destroy what was to be retired.
#[tokio::test]
async fn each_action_is_its_own_call() {
    let folder = tempfile::tempdir().expect("a folder");
    let (_, client) = start(&folder);
    let order = || Order { request_id: "r1".to_owned(), reason: "why".to_owned(), force: true };
    let actions = [
        (KeyAction::Activate, "activate_key", "force: true"),
        (KeyAction::Deactivate, "deactivate_key", "force: true"),
        (KeyAction::Revoke, "revoke_key", "kid: \"k1\""),
        (KeyAction::Retire, "retire_key", "force: true"),
        (KeyAction::Destroy, "destroy_key", "force: true"),
        (KeyAction::Confirm(Confirmation::Registered), "confirm_key", "confirmation: Registered"),
        (KeyAction::Confirm(Confirmation::Rehearsed), "confirm_key", "confirmation: Rehearsed"),
    ];
    for (action, call, said) in actions {
        let change = client.alter_key(action, "k1", order()).await.expect("done");
        assert_eq!((change.id.as_str(), change.state), (call, ChangeState::Applied));
        for said in [said, "kid: \"k1\"", "request_id: \"r1\"", "reason: \"why\""] {
            assert!(change.advice[0].contains(said), "{said}: {}", change.advice[0]);
        }
    }
    let change = client.rotate_keys("clinic", None, order()).await.expect("done");
    assert_eq!(change.id, "rotate_keys");
    assert_eq!(change.in_force_everywhere_at, Some(SystemTime::UNIX_EPOCH + Duration::from_secs(390)));
    let object = ObjectRef::Label("old".to_owned());
    let adoption = Adoption { client: "clinic".to_owned(), alg: None, hsm: None, object, kid: Some("k0".to_owned()) };
    let change = client.adopt_key(adoption, "moved here").await.expect("done");
    assert!(
        change.advice[0].contains("Label(\"old\")") && change.advice[0].contains("moved here"),
        "{}",
        change.advice[0]
    );
}

#[tokio::test]
async fn certificates_are_asked_for_and_installed() {
    let folder = tempfile::tempdir().expect("a folder");
    let (_, client) = start(&folder);
    let key = || KeyChoice { client: "clinic".to_owned(), kid: None, standby: true };
    let names = || CertificateNames { san_uris: vec!["urn:a".to_owned()], ..CertificateNames::default() };
    let request = client.request_certificate(key(), names(), "renewal").await.expect("a request");
    let said = String::from_utf8(request.der).expect("what was asked for");
    for part in ["client: \"clinic\"", "standby: true", "san_uris: [\"urn:a\"]", "reason: \"renewal\""] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let change = client.install_certificate(KeyChoice::active("clinic"), vec![vec![1], vec![2]], "issued").await;
    let change = change.expect("installed");
    assert_eq!(change.id, "install_certificate");
    assert!(change.advice[0].contains("certificate_chain: [[1], [2]]"), "{}", change.advice[0]);
    let year = Duration::from_secs(365 * 86_400);
    let order = Order::new("sandbox").force();
    let change = client.self_sign_certificate(key(), names(), year, order).await.expect("made");
    assert_eq!(change.id, "self_sign_certificate");
    for part in ["seconds: 31536000", "force: true"] {
        assert!(change.advice[0].contains(part), "{part}: {}", change.advice[0]);
    }
    let statement =
        client.sign_software_statement(key(), "https://as.example/register", Some("urn:a"), b"{}", "registration");
    let said = statement.await.expect("signed").jwt;
    for part in ["registration_endpoint: \"https://as.example/register\"", "issuer: \"urn:a\""] {
        assert!(said.contains(part), "{part}: {said}");
    }
}

#[tokio::test]
async fn a_plan_is_read() {
    let folder = tempfile::tempdir().expect("a folder");
    let (_, client) = start(&folder);
    let until = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
    let steps = client.plan_rotation(Some("clinic"), until).await.expect("a plan");
    let [step] = steps.as_slice() else { panic!("one step: {steps:?}") };
    assert_eq!((step.at, step.client.as_str(), step.what.as_str()), (until, "clinic", "activate"));
    assert_eq!((&step.kid, &step.blocked), (&None, &None), "what is empty is not there");
}
