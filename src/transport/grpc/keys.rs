//! `hallmark.v1.KeyService`.

use std::sync::Arc;

use hallmark_core::error::{Error, Reason};
use hallmark_proto::v1::{
    CreateKeysRequest, CreateKeysResponse, GetKeyRequest, GetKeyResponse, ListKeysRequest, ListKeysResponse,
    key_service_server::KeyService,
};
use tonic::{Request, Response, Status};

use super::{call::Call, convert};
use crate::service::{
    keys::{CreateRequest, Keys},
    refusals::Refusals,
};

const LARGEST_PAGE: usize = 1000;

#[derive(Debug)]
pub(super) struct KeyManagement {
    keys: Keys,
    refusals: Arc<Refusals>,
}

impl KeyManagement {
    pub(super) fn new(keys: Keys, refusals: Arc<Refusals>) -> Self {
        Self { keys, refusals }
    }
}

#[tonic::async_trait]
impl KeyService for KeyManagement {
    async fn list_keys(&self, request: Request<ListKeysRequest>) -> Result<Response<ListKeysResponse>, Status> {
        let call = Call::of(&self.refusals, &request)?;
        let message = request.into_inner();
        call.answer(&self.refusals, &message.client, self.list(&call, &message))
    }

    async fn get_key(&self, request: Request<GetKeyRequest>) -> Result<Response<GetKeyResponse>, Status> {
        let call = Call::of(&self.refusals, &request)?;
        let found = self.keys.get(&call.caller, &request.into_inner().kid);
        call.answer(&self.refusals, "", found.map(|record| GetKeyResponse { key: Some(convert::key(&record)) }))
    }

    async fn create_keys(&self, request: Request<CreateKeysRequest>) -> Result<Response<CreateKeysResponse>, Status> {
        let call = Call::of(&self.refusals, &request)?;
        let message = request.into_inner();
        let client = message.client.clone();
        let result = match create_request(message) {
            Ok(request) => self.keys.create(&call.caller, request).await,
            Err(error) => Err(error),
        };
        let result = result.map(|changed| CreateKeysResponse { change: Some(convert::key_change(&changed)) });
        call.answer(&self.refusals, &client, result)
    }
}

impl KeyManagement {
    fn list(&self, call: &Call, message: &ListKeysRequest) -> Result<ListKeysResponse, Error> {
        let client = convert::optional_name("client", &message.client)?;
        let records = self.keys.list(&call.caller, client.as_ref())?;
        let asked = usize::try_from(message.page_size).ok().filter(|size| (1..=LARGEST_PAGE).contains(size));
        let size = asked.unwrap_or(LARGEST_PAGE);
        // The token is the id of the last key before; ids stay, whatever is added meanwhile.
        let start = match message.page_token.as_str() {
            "" => 0,
            token => {
                let last = records.iter().position(|record| record.id.to_string() == token);
                last.ok_or_else(|| Error::new(Reason::InvalidRequest, "`page_token` is of no response before"))? + 1
            }
        };
        let page = &records[start..records.len().min(start + size)];
        let more = start + page.len() < records.len();
        let next_page_token = page.last().filter(|_| more).map(|last| last.id.to_string()).unwrap_or_default();
        Ok(ListKeysResponse { keys: page.iter().map(convert::key).collect(), next_page_token })
    }
}

fn create_request(message: CreateKeysRequest) -> Result<CreateRequest, Error> {
    Ok(CreateRequest {
        request_id: convert::required_text("request_id", message.request_id, 128)?,
        reason: convert::required_text("reason", message.reason, 1024)?,
        client: convert::name("client", &message.client)?,
        alg: convert::optional_name("alg", &message.alg)?,
    })
}
