//! `hallmark.v1.ClientService`.

use std::sync::Arc;

use hallmark_core::{
    client::{Client, pem_path},
    error::{Error, Reason},
    key::ClientName,
    policy::Act,
    ports::Clock,
};
use hallmark_proto::v1::{
    GetClientRequest, GetClientResponse, ListClientsRequest, ListClientsResponse, OAuthClient,
    RecordRegistrationRequest, RecordRegistrationResponse, client_service_server::ClientService,
};
use tonic::{Request, Response, Status};

use super::{call::Call, convert, operation::Operation};
use crate::service::{keys::Keys, publish::Publisher, refusals::Refusals, registry::Registry};

/// The most clients in one answer.
const MOST: usize = 1000;

#[derive(Clone, Debug)]
pub(super) struct Clients {
    pub(super) keys: Keys,
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
        registered.policy.operator(&call.caller, Act::ListClients.role(false), self.clock.now())?;
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

    async fn record(
        &self,
        call: &Call,
        message: RecordRegistrationRequest,
    ) -> Result<RecordRegistrationResponse, Error> {
        let request = message.read()?;
        let name = request.client.clone();
        let changed = self.keys.record_registration(&call.caller, request).await?;
        let client = self.registry.load().clients.get(&name).map(|client| self.shown(client));
        let change = Some(convert::key_change(&changed));
        Ok(RecordRegistrationResponse { client, advice: changed.advice, change })
    }

    fn shown(&self, client: &Client) -> OAuthClient {
        let jwks_url = self.publisher.url(client);
        let (recorded_client_id, registration_uri) = match self.keys.registration(&client.name) {
            Some(result) => (result.client_id, result.registration_uri.unwrap_or_default()),
            None => Default::default(),
        };
        OAuthClient {
            name: client.name.to_string(),
            client_id: client.client_id.as_ref().unwrap_or(&recorded_client_id).clone(),
            profile: client.profile.name.to_owned(),
            token_endpoint: client.token_endpoint.clone(),
            issuer: client.issuer.clone().unwrap_or_default(),
            iss: client.iss.clone().unwrap_or_default(),
            audience: client.audience().to_owned(),
            public_key_url: pem_path(&jwks_url),
            jwks_url,
            algs: client.keys.iter().map(|spec| spec.alg.to_string()).collect(),
            hsms: client.hsms.iter().map(ToString::to_string).collect(),
            recorded_client_id,
            registration_uri,
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

    async fn record_registration(
        &self,
        request: Request<RecordRegistrationRequest>,
    ) -> Result<Response<RecordRegistrationResponse>, Status> {
        let call = Call::of(&self.refusals, &request)?;
        let message = request.into_inner();
        let client = message.client.clone();
        call.answer(&self.refusals, &client, self.record(&call, message).await)
    }
}
