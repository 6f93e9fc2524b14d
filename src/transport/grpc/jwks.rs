//! `hallmark.v1.JwksService`.

use std::sync::Arc;

use hallmark_core::{error::Error, key::ClientName, ports::Clock};
use hallmark_proto::v1::{GetJwksRequest, GetJwksResponse, jwks_service_server::JwksService};
use tonic::{Request, Response, Status};

use super::{call::Call, convert};
use crate::service::{publish::Publisher, refusals::Refusals, registry::Registry};

#[derive(Debug)]
pub(super) struct PublicKeys {
    publisher: Arc<Publisher>,
    registry: Arc<Registry>,
    clock: Arc<dyn Clock>,
    refusals: Arc<Refusals>,
}

impl PublicKeys {
    pub(super) fn new(
        publisher: Arc<Publisher>,
        registry: Arc<Registry>,
        clock: Arc<dyn Clock>,
        refusals: Arc<Refusals>,
    ) -> Self {
        Self { publisher, registry, clock, refusals }
    }

    fn get(&self, call: &Call, message: &GetJwksRequest) -> Result<GetJwksResponse, Error> {
        let name: ClientName = convert::name("client", &message.client)?;
        let registered = self.registry.load();
        registered.policy.may_view(&call.caller, &name, self.clock.now())?;
        let client = registered.clients.get(&name);
        let client = client.ok_or_else(|| {
            Error::new(hallmark_core::error::Reason::ClientNotPermitted, format!("no client `{name}`"))
        })?;
        let published = self.publisher.document(client);
        Ok(GetJwksResponse {
            jwks_json: published.as_ref().map(|published| published.body.to_vec()).unwrap_or_default(),
            url: self.publisher.url(client),
            etag: published.map(|published| published.etag().to_owned()).unwrap_or_default(),
        })
    }
}

#[tonic::async_trait]
impl JwksService for PublicKeys {
    async fn get_jwks(&self, request: Request<GetJwksRequest>) -> Result<Response<GetJwksResponse>, Status> {
        let call = Call::of(&self.refusals, &request)?;
        let message = request.into_inner();
        call.answer(&self.refusals, &message.client, self.get(&call, &message))
    }
}
