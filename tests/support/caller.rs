//! Callers that speak plain gRPC, without the thin client: what they send need not make sense.

use std::{path::Path, time::Duration};

use hallmark_proto::v1::{
    SignAssertionRequest, SignAssertionResponse, assertion_service_client::AssertionServiceClient,
    client_service_client::ClientServiceClient, jwks_service_client::JwksServiceClient,
    key_service_client::KeyServiceClient,
};
use tonic::{
    Code, IntoRequest, Request, Status,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};
use tonic_types::StatusExt;

use super::pki::Certified;

/// One connection.
#[derive(Clone)]
pub(crate) struct Caller {
    pub(crate) channel: Channel,
}

impl Caller {
    /// Over TLS; `who` is the certificate to show, if any.
    pub(crate) fn tls(url: &str, ca: &str, who: Option<&Certified>) -> Self {
        let mut tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(ca));
        if let Some(who) = who {
            tls = tls.identity(Identity::from_pem(&who.cert, &who.key));
        }
        let endpoint = Endpoint::from_shared(url.to_owned()).unwrap().tls_config(tls).unwrap();
        Self { channel: endpoint.connect_lazy() }
    }

    pub(crate) fn unix(path: &Path) -> Self {
        let endpoint = Endpoint::from_shared(format!("unix:{}", path.display())).unwrap();
        Self { channel: endpoint.connect_lazy() }
    }

    pub(crate) fn assertions(&self) -> AssertionServiceClient<Channel> {
        AssertionServiceClient::new(self.channel.clone())
    }

    pub(crate) fn keys(&self) -> KeyServiceClient<Channel> {
        KeyServiceClient::new(self.channel.clone())
    }

    pub(crate) fn clients(&self) -> ClientServiceClient<Channel> {
        ClientServiceClient::new(self.channel.clone())
    }

    pub(crate) fn jwks(&self) -> JwksServiceClient<Channel> {
        JwksServiceClient::new(self.channel.clone())
    }

    pub(crate) async fn sign(
        &self,
        request: impl IntoRequest<SignAssertionRequest>,
    ) -> Result<SignAssertionResponse, Refusal> {
        Ok(self.assertions().sign_assertion(request).await?.into_inner())
    }

    /// Signs for `client` with all defaults.
    pub(crate) async fn sign_for(&self, client: &str) -> Result<SignAssertionResponse, Refusal> {
        self.sign(for_client(client)).await
    }
}

/// A request with all defaults.
pub(crate) fn for_client(client: &str) -> SignAssertionRequest {
    SignAssertionRequest { client: client.to_owned(), ..Default::default() }
}

/// A request whose caller waits so long.
pub(crate) fn within(limit: Duration, message: SignAssertionRequest) -> Request<SignAssertionRequest> {
    let mut request = Request::new(message);
    request.set_timeout(limit);
    request
}

/// A status, taken apart as a caller's code would.
#[derive(Debug)]
pub(crate) struct Refusal {
    pub(crate) code: Code,
    /// `google.rpc.ErrorInfo.reason`; empty where there is none of ours.
    pub(crate) reason: String,
    pub(crate) message: String,
    pub(crate) retry_after: Option<Duration>,
}

impl From<Status> for Refusal {
    fn from(status: Status) -> Self {
        let info = status.get_details_error_info().filter(|info| info.domain == "hallmark");
        Self {
            code: status.code(),
            reason: info.map(|info| info.reason).unwrap_or_default(),
            message: status.message().to_owned(),
            retry_after: status.get_details_retry_info().and_then(|info| info.retry_delay),
        }
    }
}
