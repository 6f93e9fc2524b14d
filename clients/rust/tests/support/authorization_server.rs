//! A token endpoint that answers as the test says and remembers what it was sent.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    body::Body,
    extract::State,
    http::{HeaderMap, Method, Response, StatusCode, Uri, header},
};
use tokio::{net::TcpListener, sync::Semaphore};

#[derive(Clone)]
pub(crate) struct AuthorizationServer {
    pub(crate) url: String,
    shared: Arc<Shared>,
}

struct Shared {
    answers: Mutex<VecDeque<(StatusCode, String)>>,
    requests: Mutex<Vec<Seen>>,
    /// One permit lets one answer go.
    gate: Semaphore,
    arrived: Semaphore,
}

/// A request as it came.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    pub(crate) method: Method,
    pub(crate) target: String,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
}

impl AuthorizationServer {
    /// Answers at once: what [`Self::answer`] queued, else an access token that lives an hour.
    pub(crate) async fn start() -> Self {
        let server = Self::held().await;
        server.release(Semaphore::MAX_PERMITS / 2);
        server
    }

    /// Answers only as [`Self::release`] lets it.
    pub(crate) async fn held() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let url = format!("http://{}/oauth//token?tenant=%7e", listener.local_addr().expect("an address"));
        let (gate, arrived) = (Semaphore::new(0), Semaphore::new(0));
        let shared = Arc::new(Shared { answers: Mutex::default(), requests: Mutex::default(), gate, arrived });
        let app = Router::new().fallback(answer).with_state(shared.clone());
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { url, shared }
    }

    pub(crate) fn answer(&self, status: u16, body: &str) {
        let status = StatusCode::from_u16(status).expect("a status");
        self.shared.answers.lock().expect("not poisoned").push_back((status, body.to_owned()));
    }

    pub(crate) fn release(&self, answers: usize) {
        self.shared.gate.add_permits(answers);
    }

    /// Waits until one more request is here.
    pub(crate) async fn arrival(&self) {
        self.shared.arrived.acquire().await.expect("open").forget();
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.shared.requests.lock().expect("not poisoned").clone()
    }

    /// The assertions of all requests.
    pub(crate) fn assertions(&self) -> Vec<String> {
        let bodies = self.seen().into_iter().map(|seen| seen.body);
        let assertion = |body: String| Some(body.split_once("client_assertion=")?.1.split('&').next()?.to_owned());
        bodies.filter_map(assertion).collect()
    }
}

async fn answer(
    State(shared): State<Arc<Shared>>,
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: String,
) -> Response<Body> {
    let number = {
        let mut requests = shared.requests.lock().expect("not poisoned");
        requests.push(Seen { method, target: uri.to_string(), headers, body });
        requests.len()
    };
    shared.arrived.add_permits(1);
    shared.gate.acquire().await.expect("open").forget();
    let queued = shared.answers.lock().expect("not poisoned").pop_front();
    let granted = format!(r#"{{"access_token":"token-{number}","token_type":"Bearer","expires_in":3600}}"#);
    let (status, body) = queued.unwrap_or((StatusCode::OK, granted));
    let answer = Response::builder().status(status).header(header::CONTENT_TYPE, "application/json");
    let answer = if status.is_redirection() { answer.header(header::LOCATION, "/elsewhere") } else { answer };
    answer.body(Body::from(body)).expect("an answer")
}
