//! A Hallmark that signs nothing: each assertion is a number.

use std::{
    collections::VecDeque,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::{Duration, SystemTime},
};

use hallmark_client::{Client, Connection, Options};
use hallmark_proto::v1::{
    self,
    assertion_service_server::{AssertionService, AssertionServiceServer},
    sign_assertions_response,
};
use tokio::net::{TcpListener, UnixListener};
use tokio_stream::{
    Stream, StreamExt,
    wrappers::{TcpListenerStream, UnixListenerStream},
};
use tonic::{
    Code, Request, Response, Status, Streaming,
    transport::{Server, ServerTlsConfig},
};
use tonic_types::{ErrorDetails, StatusExt};

/// What the test says, and what it can look at afterwards.
#[derive(Clone, Default)]
pub(crate) struct FakeHallmark {
    pub(crate) state: Arc<Mutex<State>>,
}

#[derive(Default)]
pub(crate) struct State {
    /// Failures for the next calls; when there is none, it signs.
    pub(crate) failures: VecDeque<Status>,
    /// Client certificates (DER) that it does not accept.
    pub(crate) refused_certificates: Vec<Vec<u8>>,
    pub(crate) token_request: v1::TokenRequest,
    /// What comes before the signature; else `header.claims`.
    pub(crate) signing_input: Option<String>,
    pub(crate) requests: Vec<v1::SignAssertionRequest>,
    pub(crate) timeouts: Vec<Option<String>>,
    pub(crate) peers: Vec<Vec<u8>>,
}

/// A Unix socket in a folder of its own, with the client that talks to it.
pub(crate) struct OnSocket {
    pub(crate) fake: FakeHallmark,
    pub(crate) client: Client,
    _folder: tempfile::TempDir,
}

impl OnSocket {
    pub(crate) async fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("h.sock");
        let fake = FakeHallmark::default();
        fake.serve_on(path.clone());
        let client = Client::connect(Connection::unix(path)).expect("a client");
        Self { fake, client, _folder: folder }
    }

    /// With a token request that goes to `url`.
    pub(crate) async fn with_token_endpoint(url: &str) -> Self {
        let hallmark = Self::start().await;
        hallmark.fake.state().token_request = token_request(url);
        hallmark
    }
}

impl FakeHallmark {
    pub(crate) fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().expect("no test panicked in here")
    }

    pub(crate) fn serve_on(&self, path: PathBuf) {
        let listener = UnixListener::bind(path).expect("a socket");
        let service = AssertionServiceServer::new(self.clone());
        let incoming = UnixListenerStream::new(listener);
        tokio::spawn(Server::builder().add_service(service).serve_with_incoming(incoming));
    }

    /// Gives the URL.
    pub(crate) async fn serve_tls(&self, tls: ServerTlsConfig) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("https://{}", listener.local_addr().expect("an address"));
        let service = AssertionServiceServer::new(self.clone());
        let server = Server::builder().tls_config(tls).expect("a usable certificate").add_service(service);
        tokio::spawn(server.serve_with_incoming(TcpListenerStream::new(listener)));
        url
    }

    fn sign(&self, request: v1::SignAssertionRequest) -> Result<v1::SignAssertionResponse, Status> {
        let mut state = self.state();
        state.requests.push(request);
        if let Some(failure) = state.failures.pop_front() {
            return Err(failure);
        }
        let number = state.requests.len();
        let signing_input = state.signing_input.as_deref().unwrap_or("header.claims");
        let assertion = format!("{signing_input}.signature-{number}");
        let mut token_request = state.token_request.clone();
        for field in &mut token_request.form {
            if field.name == "client_assertion" {
                field.value.clone_from(&assertion);
            }
        }
        Ok(v1::SignAssertionResponse {
            assertion,
            kid: "kid".to_owned(),
            alg: "RS384".to_owned(),
            jti: number.to_string(),
            issued_at: Some(SystemTime::UNIX_EPOCH.into()),
            expires_at: Some((SystemTime::UNIX_EPOCH + Duration::from_secs(300)).into()),
            token_request: Some(token_request),
        })
    }
}

/// As Hallmark refuses.
pub(crate) fn refusal(code: Code, reason: &str, retry: Option<Duration>) -> Status {
    let mut details = ErrorDetails::new();
    details.set_error_info(reason, "hallmark", []);
    if retry.is_some() {
        details.set_retry_info(retry);
    }
    Status::with_error_details(code, format!("refused: {reason}"), details)
}

pub(crate) fn impatient() -> Options {
    let mut options = Options::default();
    options.wait_for_server = false;
    options
}

fn token_request(url: &str) -> v1::TokenRequest {
    let field = |name: &str, value: &str| v1::FormField { name: name.to_owned(), value: value.to_owned() };
    v1::TokenRequest {
        method: "POST".to_owned(),
        url: url.to_owned(),
        content_type: "application/x-www-form-urlencoded".to_owned(),
        form: vec![
            field("grant_type", "client_credentials"),
            field("resource", "https://a.example/?x=1&y"),
            field("client_assertion", ""),
            field("resource", "b c"),
        ],
        headers: vec![field("x-profile", "as told")],
    }
}

#[tonic::async_trait]
impl AssertionService for FakeHallmark {
    async fn sign_assertion(
        &self,
        request: Request<v1::SignAssertionRequest>,
    ) -> Result<Response<v1::SignAssertionResponse>, Status> {
        let timeout = request.metadata().get("grpc-timeout").and_then(|value| value.to_str().ok()).map(str::to_owned);
        let certificate = request.peer_certs().and_then(|chain| chain.first().map(|leaf| leaf.to_vec()));
        {
            let mut state = self.state();
            state.timeouts.push(timeout);
            if let Some(certificate) = certificate {
                if state.refused_certificates.contains(&certificate) {
                    return Err(refusal(Code::Unauthenticated, "CERTIFICATE_EXPIRED", None));
                }
                state.peers.push(certificate);
            }
        }
        self.sign(request.into_inner()).map(Response::new)
    }

    type SignAssertionsStream =
        std::pin::Pin<Box<dyn Stream<Item = Result<v1::SignAssertionsResponse, Status>> + Send + 'static>>;

    async fn sign_assertions(
        &self,
        request: Request<Streaming<v1::SignAssertionsRequest>>,
    ) -> Result<Response<Self::SignAssertionsStream>, Status> {
        let fake = self.clone();
        let answers = request.into_inner().map(move |item| {
            let item = item?;
            let result = match fake.sign(item.request.unwrap_or_default()) {
                Ok(signed) => sign_assertions_response::Result::Assertion(signed),
                Err(status) => sign_assertions_response::Result::Error(tonic_types::Status {
                    code: status.code() as i32,
                    message: status.message().to_owned(),
                    details: decode_details(&status),
                }),
            };
            Ok(v1::SignAssertionsResponse { correlation_id: item.correlation_id, result: Some(result) })
        });
        Ok(Response::new(Box::pin(answers)))
    }
}

/// `google.rpc.Status` travels in the details of a gRPC status; a stream's item holds it in the open.
fn decode_details(status: &Status) -> Vec<prost_types::Any> {
    let whole: tonic_types::Status = prost::Message::decode(status.details()).expect("a google.rpc.Status");
    whole.details
}
