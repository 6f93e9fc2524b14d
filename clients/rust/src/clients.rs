//! What Hallmark's configuration says of OAuth clients.

use hallmark_proto::v1::{self, client_service_client::ClientServiceClient};

use crate::{Client, Error, KeyChange, Order, client::timed};

/// An OAuth client as registered at one authorization server.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct OAuthClient {
    /// Hallmark's name of it.
    pub name: String,
    /// What the authorization server calls it, once it is registered there.
    pub client_id: Option<String>,
    /// What kind of authorization server it is: a name of `hallmark profiles list`.
    pub profile: String,
    /// Byte for byte.
    pub token_endpoint: String,
    /// The authorization server's issuer identifier, where it is configured.
    pub issuer: Option<String>,
    /// What `iss` of its assertions is, where that is not the `client_id`.
    pub iss: Option<String>,
    /// The `aud` of an assertion for which nobody asked for another.
    pub audience: String,
    /// Where authorization servers find its JWKS.
    pub jwks_url: String,
    /// Where they find its active key as PEM.
    pub public_key_url: String,
    /// The algorithms of its key lines, the preferred one first.
    pub algs: Vec<String>,
    /// The HSMs of its key lines, the preferred one first.
    pub hsms: Vec<String>,
    /// The `client_id` that was recorded when it was registered, whatever the configuration says.
    pub recorded_client_id: Option<String>,
    /// Where its registration is read and changed (RFC 7592), where that was recorded.
    pub registration_uri: Option<String>,
}

/// What an authorization server answered to the registration of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registration {
    /// Hallmark's name of the client.
    pub client: String,
    pub client_id: String,
    /// `registration_client_uri` (RFC 7592 §3).
    pub registration_uri: Option<String>,
}

/// What became of an order to record a registration.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Recorded {
    /// As it is now: as it was, while the change waits for a second operator.
    pub client: OAuthClient,
    /// What else there is to know, a sentence each.
    pub advice: Vec<String>,
    /// How far it has got; `None`, and done, at servers older than this.
    pub change: Option<KeyChange>,
}

impl Client {
    /// One client: one that this caller may sign for, or any one for an operator.
    pub async fn oauth_client(&self, name: &str) -> Result<OAuthClient, Error> {
        let deadline = self.deadline(None);
        let get = |channel| {
            let request = timed(v1::GetClientRequest { client: name.to_owned() }, deadline);
            async move { ClientServiceClient::new(channel).get_client(request).await }
        };
        let answer: v1::GetClientResponse = self.call(deadline, get).await?;
        answer.client.map(OAuthClient::from).ok_or_else(|| Error::unexpected("hallmark's answer lacks `client`"))
    }

    /// Writes down what registering a client gave, for an operator with the role `rotate`. Where another `client_id` is
    /// recorded, it takes force, and the role `destroy`; and perhaps a second operator, for whom [`Recorded::change`] waits.
    pub async fn record_registration(
        &self,
        registration: Registration,
        order: impl Into<Order>,
    ) -> Result<Recorded, Error> {
        let Order { request_id, reason, force } = order.into();
        let Registration { client, client_id, registration_uri } = registration;
        let registration_uri = registration_uri.unwrap_or_default();
        let message = v1::RecordRegistrationRequest { request_id, reason, client, client_id, registration_uri, force };
        let deadline = self.deadline(None);
        let record = |channel| {
            let request = timed(message.clone(), deadline);
            async move { ClientServiceClient::new(channel).record_registration(request).await }
        };
        let answer: v1::RecordRegistrationResponse = self.call(deadline, record).await?;
        let client = answer.client.ok_or_else(|| Error::unexpected("hallmark's answer lacks `client`"))?;
        Ok(Recorded { client: client.into(), advice: answer.advice, change: answer.change.map(KeyChange::from) })
    }

    /// All clients, for an operator.
    pub async fn oauth_clients(&self) -> Result<Vec<OAuthClient>, Error> {
        let (mut clients, mut page_token) = (Vec::new(), String::new());
        loop {
            let deadline = self.deadline(None);
            let message = v1::ListClientsRequest { page_size: 0, page_token };
            let list = |channel| {
                let request = timed(message.clone(), deadline);
                async move { ClientServiceClient::new(channel).list_clients(request).await }
            };
            let page: v1::ListClientsResponse = self.call(deadline, list).await?;
            clients.extend(page.clients.into_iter().map(OAuthClient::from));
            if page.next_page_token.is_empty() {
                return Ok(clients);
            }
            page_token = page.next_page_token;
        }
    }
}

impl From<v1::OAuthClient> for OAuthClient {
    fn from(client: v1::OAuthClient) -> Self {
        let some = |text: String| (!text.is_empty()).then_some(text);
        Self {
            name: client.name,
            client_id: some(client.client_id),
            profile: client.profile,
            token_endpoint: client.token_endpoint,
            issuer: some(client.issuer),
            iss: some(client.iss),
            audience: client.audience,
            jwks_url: client.jwks_url,
            public_key_url: client.public_key_url,
            algs: client.algs,
            hsms: client.hsms,
            recorded_client_id: some(client.recorded_client_id),
            registration_uri: some(client.registration_uri),
        }
    }
}
