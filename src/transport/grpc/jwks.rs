//! `hallmark.v1.JwksService`.

use std::sync::Arc;

use hallmark_core::{error::Error, key::ClientName, ports::Clock};
use hallmark_proto::v1::{GetJwksRequest, GetJwksResponse, jwks_service_server::JwksService};
use tonic::{Request, Response, Status};

use super::{convert, scope::Scope};
use crate::service::{publish::Publisher, registry::Registry};

#[derive(Debug)]
pub(super) struct PublicKeys {
    publisher: Arc<Publisher>,
    registry: Arc<Registry>,
    clock: Arc<dyn Clock>,
}

impl PublicKeys {
    pub(super) fn new(publisher: Arc<Publisher>, registry: Arc<Registry>, clock: Arc<dyn Clock>) -> Self {
        Self { publisher, registry, clock }
    }

    fn get(&self, scope: &Scope, message: &GetJwksRequest) -> Result<GetJwksResponse, Error> {
        let name: ClientName = convert::name("client", &message.client)?;
        let registered = self.registry.load();
        registered.policy.may_view(&scope.caller, &name, self.clock.now())?;
        let client = registered.clients.get(&name);
        let client = client.ok_or_else(|| {
            Error::new(hallmark_core::error::Reason::ClientNotPermitted, format!("no client `{name}`"))
        })?;
        let published = self.publisher.document(client);
        Ok(GetJwksResponse {
            jwks_json: published.as_ref().map(|published| published.body.to_vec()).unwrap_or_default(),
            url: self.publisher.url(client),
            etag: published.map(|published| published.etag.clone()).unwrap_or_default(),
        })
    }
}

#[tonic::async_trait]
impl JwksService for PublicKeys {
    async fn get_jwks(&self, request: Request<GetJwksRequest>) -> Result<Response<GetJwksResponse>, Status> {
        let scope = Scope::of(&request)?;
        scope.answer(self.get(&scope, &request.into_inner()))
    }
}
