//! `hallmark.v1.JwksService`.

use std::sync::Arc;

use futures_util::{StreamExt, stream::BoxStream};
use hallmark_core::{
    error::{Error, Reason},
    key::ClientName,
    policy::Act,
    ports::Clock,
};
use hallmark_proto::v1::{
    GetJwksRequest, GetJwksResponse, WatchJwksRequest, WatchJwksResponse, jwks_service_server::JwksService,
};
use tonic::{Request, Response, Status, Streaming};

use super::{call::Call, convert};
use crate::{
    service::{followers::Followers, publish::Publisher, refusals::Refusals, registry::Registry},
    transport::listener::Peer,
};

mod watch;

use watch::Watch;

#[derive(Clone, Debug)]
pub(super) struct PublicKeys {
    pub(super) publisher: Arc<Publisher>,
    pub(super) followers: Arc<Followers>,
    pub(super) registry: Arc<Registry>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) refusals: Arc<Refusals>,
}

impl PublicKeys {
    fn get(&self, call: &Call, message: &GetJwksRequest) -> Result<GetJwksResponse, Error> {
        let name: ClientName = convert::name("client", &message.client)?;
        let registered = self.registry.load();
        registered.policy.may_view(&call.caller, &name, self.clock.now())?;
        let client = registered.clients.get(&name);
        let client = client.ok_or_else(|| Error::new(Reason::ClientNotPermitted, format!("no client `{name}`")))?;
        let published = self.publisher.document(client);
        Ok(GetJwksResponse {
            jwks_json: published.as_ref().map(|published| published.body.to_vec()).unwrap_or_default(),
            url: self.publisher.url(client),
            etag: published.map(|published| published.etag().to_owned()).unwrap_or_default(),
        })
    }

    fn may_follow(&self, call: &Call) -> Result<(), Error> {
        self.registry.load().policy.operator(&call.caller, Act::Follow.role(false), self.clock.now())
    }
}

#[tonic::async_trait]
impl JwksService for PublicKeys {
    async fn get_jwks(&self, request: Request<GetJwksRequest>) -> Result<Response<GetJwksResponse>, Status> {
        let call = Call::of(&self.refusals, &request)?;
        let message = request.into_inner();
        call.answer(&self.refusals, &message.client, self.get(&call, &message))
    }

    type WatchJwksStream = BoxStream<'static, Result<WatchJwksResponse, Status>>;

    async fn watch_jwks(
        &self,
        request: Request<Streaming<WatchJwksRequest>>,
    ) -> Result<Response<Self::WatchJwksStream>, Status> {
        let call = Call::of(&self.refusals, &request)?;
        if let Err(error) = self.may_follow(&call) {
            return call.answer(&self.refusals, "", Err(error));
        }
        let closing = request.extensions().get::<Arc<Peer>>().map(|peer| peer.closing().clone()).unwrap_or_default();
        let watch = Watch::new(self.clone(), call.clone(), request.into_inner(), closing);
        call.answer(&self.refusals, "", Ok(watch.messages().boxed()))
    }
}
