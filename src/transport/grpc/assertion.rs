//! `hallmark.v1.AssertionService`.

use std::{sync::Arc, time::Instant};

use futures_util::{Stream, StreamExt, stream::BoxStream};
use hallmark_core::{
    error::{Error, Reason},
    policy::Caller,
};
use hallmark_proto::v1::{
    SignAssertionRequest, SignAssertionResponse, SignAssertionsRequest, SignAssertionsResponse,
    assertion_service_server::AssertionService, sign_assertions_response,
};
use tonic::{Request, Response, Status, Streaming};
use uuid::Uuid;

use super::{
    call::{Call, DEFAULT_TIMEOUT, LONGEST_TIMEOUT, refuse},
    convert,
};
use crate::{
    service::{refusals::Refusals, sign::Sign},
    transport::listener::Peer,
};

/// How many items of one stream are under way at once. Further ones stay with the caller until one is answered and
/// read, so that a caller that stops reading costs no more than these.
const IN_FLIGHT: usize = 128;
const MAX_CORRELATION_ID: usize = 128;

#[derive(Clone, Debug)]
pub(super) struct Assertions {
    sign: Sign,
    refusals: Arc<Refusals>,
}

impl Assertions {
    pub(super) fn new(sign: Sign, refusals: Arc<Refusals>) -> Self {
        Self { sign, refusals }
    }
}

#[tonic::async_trait]
impl AssertionService for Assertions {
    async fn sign_assertion(
        &self,
        request: Request<SignAssertionRequest>,
    ) -> Result<Response<SignAssertionResponse>, Status> {
        let call = Call::of(&self.refusals, &request)?;
        let message = request.into_inner();
        let client = message.client.clone();
        let result = sign_one(&self.sign, &call.caller, message, call.deadline, &call.id).await;
        call.answer(&self.refusals, &client, result)
    }

    type SignAssertionsStream = BoxStream<'static, Result<SignAssertionsResponse, Status>>;

    async fn sign_assertions(
        &self,
        request: Request<Streaming<SignAssertionsRequest>>,
    ) -> Result<Response<Self::SignAssertionsStream>, Status> {
        let call = Call::of(&self.refusals, &request)?;
        // When the connection has to go, what is under way is answered and the stream ends.
        let closing = request.extensions().get::<Arc<Peer>>().map(|peer| peer.closing().clone()).unwrap_or_default();
        let items = request.into_inner().take_until(closing.cancelled_owned());
        let answers = answers(self.clone(), call.caller.clone(), items).boxed();
        call.answer(&self.refusals, "", Ok(answers))
    }
}

/// The answers to `items`, in the order in which they are ready. Ends with the first item that can't be read.
fn answers(
    service: Assertions,
    caller: Caller,
    items: impl Stream<Item = Result<SignAssertionsRequest, Status>>,
) -> impl Stream<Item = Result<SignAssertionsResponse, Status>> {
    let answer = move |item: Result<SignAssertionsRequest, Status>| {
        let (service, caller) = (service.clone(), caller.clone());
        async move { Ok(sign_item(&service, &caller, item?).await) }
    };
    items.map(answer).buffer_unordered(IN_FLIGHT)
}

/// Each item has an id of its own.
async fn sign_item(service: &Assertions, caller: &Caller, item: SignAssertionsRequest) -> SignAssertionsResponse {
    let id = Uuid::new_v4().to_string();
    let checked = checked(&item);
    let message = item.request.unwrap_or_default();
    let client = message.client.clone();
    let result = match checked {
        Ok(deadline) => sign_one(&service.sign, caller, message, deadline, &id).await,
        Err(error) => Err(error),
    };
    let result = match result {
        Ok(response) => sign_assertions_response::Result::Assertion(response),
        Err(error) => {
            let status = refuse(&service.refusals, &id, caller, &client, &error);
            sign_assertions_response::Result::Error(as_message(&status))
        }
    };
    SignAssertionsResponse { correlation_id: item.correlation_id, result: Some(result) }
}

fn checked(item: &SignAssertionsRequest) -> Result<Instant, Error> {
    if item.correlation_id.len() > MAX_CORRELATION_ID {
        return Err(Error::new(Reason::InvalidRequest, "`correlation_id` is longer than 128 bytes"));
    }
    let timeout = item.timeout.as_ref().map(|timeout| convert::duration("timeout", timeout)).transpose()?;
    Ok(Instant::now() + timeout.unwrap_or(DEFAULT_TIMEOUT).min(LONGEST_TIMEOUT))
}

async fn sign_one(
    sign: &Sign,
    caller: &Caller,
    message: SignAssertionRequest,
    deadline: Instant,
    request_id: &str,
) -> Result<SignAssertionResponse, Error> {
    let request = convert::assertion_request(message)?;
    sign.sign(caller, request, deadline, request_id).await.map(convert::assertion_response)
}

/// `google.rpc.Status` as a message; its details are those that a unary call has in its trailers.
fn as_message(status: &Status) -> tonic_types::Status {
    prost::Message::decode(status.details()).unwrap_or_else(|_| tonic_types::Status {
        code: status.code().into(),
        message: status.message().to_owned(),
        details: Vec::new(),
    })
}
