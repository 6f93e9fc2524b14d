//! The metrics listener: `/metrics`, and health in words. For inside eyes only.

use std::{convert::Infallible, pin::Pin, sync::Arc};

use http::{HeaderValue, Method, Request, StatusCode, header};
use hyper::{body::Incoming, service::Service};
use tokio_util::sync::CancellationToken;

use super::{
    Answer, bare,
    health::{self, Health},
    not_allowed, reads, text, without_body,
};
use crate::{telemetry::Metrics, transport::listener::Listener};

/// Serves `/metrics`, `/livez`, `/readyz`, `/readyz/sign` and `/readyz/jwks` on `listener` until `drain`.
pub async fn serve(listener: Listener, observatory: Observatory, drain: CancellationToken) {
    listener.serve(move |_| observatory.clone(), drain).await;
}

/// The service.
#[derive(Clone)]
pub struct Observatory {
    pub metrics: Arc<Metrics>,
    pub health: Arc<dyn Health>,
}

impl Observatory {
    async fn answer(self, method: Method, path: String) -> Answer {
        if !reads(&method) {
            return not_allowed();
        }
        let response = match path.as_str() {
            "/metrics" => self.scrape(),
            path => health::answer(&*self.health, path).await.unwrap_or_else(|| bare(StatusCode::NOT_FOUND)),
        };
        if method == Method::HEAD { without_body(response) } else { response }
    }

    fn scrape(&self) -> Answer {
        let mut response = text(StatusCode::OK, self.metrics.encode());
        let open_metrics = HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
        response.headers_mut().insert(header::CONTENT_TYPE, open_metrics);
        response
    }
}

impl Service<Request<Incoming>> for Observatory {
    type Response = Answer;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Answer, Infallible>> + Send>>;

    fn call(&self, request: Request<Incoming>) -> Self::Future {
        let (service, method, path) = (self.clone(), request.method().clone(), request.uri().path().to_owned());
        Box::pin(async move { Ok(service.answer(method, path).await) })
    }
}
