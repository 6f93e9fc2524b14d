//! `hallmark.v1.ClientService`.

use std::sync::Arc;

use hallmark_core::{
    client::{Client, pem_path},
    error::{Error, Reason},
    key::ClientName,
    policy::OperatorRole,
    ports::Clock,
};
use hallmark_proto::v1::{
    GetClientRequest, GetClientResponse, ListClientsRequest, ListClientsResponse, OAuthClient,
    client_service_server::ClientService,
};
use tonic::{Request, Response, Status};

use super::{call::Call, convert};
use crate::service::{publish::Publisher, refusals::Refusals, registry::Registry};

/// The most clients in one answer.
const MOST: usize = 1000;

#[derive(Clone, Debug)]
pub(super) struct Clients {
    pub(super) publisher: Arc<Publisher>,
    pub(super) registry: Arc<Registry>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) refusals: Arc<Refusals>,
}

impl Clients {
    fn get(&self, call: &Call, message: &GetClientRequest) -> Result<GetClientResponse, Error> {
        let name: ClientName = convert::name("client", &message.client)?;
        let registered = self.registry.load();
        registered.policy.may_view(&call.caller, &name, self.clock.now())?;
        let client = registered.clients.get(&name);
        let client = client.ok_or_else(|| Error::new(Reason::ClientNotPermitted, format!("no client `{name}`")))?;
        Ok(GetClientResponse { client: Some(self.shown(client)) })
    }

    fn list(&self, call: &Call, message: &ListClientsRequest) -> Result<ListClientsResponse, Error> {
        let registered = self.registry.load();
        registered.policy.operator(&call.caller, OperatorRole::View, self.clock.now())?;
        let asked = usize::try_from(message.page_size).unwrap_or(MOST);
        let size = if asked == 0 { MOST } else { asked.min(MOST) };
        let mut clients: Vec<_> =
            registered.clients.values().filter(|client| client.name.as_str() > message.page_token.as_str()).collect();
        clients.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        let more = clients.len() > size;
        clients.truncate(size);
        let last = clients.last().filter(|_| more).map(|client| client.name.to_string());
        Ok(ListClientsResponse {
            clients: clients.into_iter().map(|client| self.shown(client)).collect(),
            next_page_token: last.unwrap_or_default(),
        })
    }

    fn shown(&self, client: &Client) -> OAuthClient {
        let jwks_url = self.publisher.url(client);
        OAuthClient {
            name: client.name.to_string(),
            client_id: client.client_id.clone().unwrap_or_default(),
            profile: client.profile.name.to_owned(),
            token_endpoint: client.token_endpoint.clone(),
            issuer: client.issuer.clone().unwrap_or_default(),
            iss: client.iss.clone().unwrap_or_default(),
            audience: client.audience().to_owned(),
            public_key_url: pem_path(&jwks_url),
            jwks_url,
            algs: client.keys.iter().map(|spec| spec.alg.to_string()).collect(),
            hsms: client.hsms.iter().map(ToString::to_string).collect(),
        }
    }
}

#[tonic::async_trait]
impl ClientService for Clients {
    async fn get_client(&self, request: Request<GetClientRequest>) -> Result<Response<GetClientResponse>, Status> {
        let call = Call::of(&self.refusals, &request)?;
        let message = request.into_inner();
        call.answer(&self.refusals, &message.client, self.get(&call, &message))
    }

    async fn list_clients(
        &self,
        request: Request<ListClientsRequest>,
    ) -> Result<Response<ListClientsResponse>, Status> {
        let call = Call::of(&self.refusals, &request)?;
        let message = request.into_inner();
        call.answer(&self.refusals, "", self.list(&call, &message))
    }
}
