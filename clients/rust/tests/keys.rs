//! Operators' calls: pages, and changes that are asked for once however often they are sent.

use std::sync::{Arc, Mutex};

use hallmark_client::{ChangeState, Client, Connection, KeyState};
use hallmark_proto::v1::{
    self,
    key_service_server::{KeyService, KeyServiceServer},
};
use tokio::net::UnixListener;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::{Request, Response, Status, transport::Server};

/// Has a key on each of three pages, and is out of order when a change is asked for the first time.
#[derive(Clone, Default)]
struct FakeKeys {
    creations: Arc<Mutex<Vec<v1::CreateKeysRequest>>>,
}

#[tonic::async_trait]
impl KeyService for FakeKeys {
    async fn list_keys(&self, request: Request<v1::ListKeysRequest>) -> Result<Response<v1::ListKeysResponse>, Status> {
        let page: u8 = request.get_ref().page_token.parse().unwrap_or(0);
        let state = v1::KeyState::Active.into();
        let key =
            v1::Key { kid: format!("kid-{page}"), client: request.into_inner().client, state, ..v1::Key::default() };
        let next_page_token = if page < 2 { (page + 1).to_string() } else { String::new() };
        Ok(Response::new(v1::ListKeysResponse { keys: vec![key], next_page_token }))
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
        let state = v1::key_change::State::Applied.into();
        let change = v1::KeyChange { id: "change-1".to_owned(), state, keys: vec![v1::Key::default()] };
        Ok(Response::new(v1::CreateKeysResponse { change: Some(change) }))
    }
}

fn start(folder: &tempfile::TempDir) -> (FakeKeys, Client) {
    let path = folder.path().join("h.sock");
    let incoming = UnixListenerStream::new(UnixListener::bind(&path).expect("a socket"));
    let fake = FakeKeys::default();
    tokio::spawn(Server::builder().add_service(KeyServiceServer::new(fake.clone())).serve_with_incoming(incoming));
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
