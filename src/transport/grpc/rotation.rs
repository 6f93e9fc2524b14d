//! `hallmark.v1.RotationService`.

use std::sync::Arc;

use hallmark_core::error::Error;
use hallmark_proto::v1::{PlanRotationRequest, PlanRotationResponse, rotation_service_server::RotationService};
use tonic::{Request, Response, Status};

use super::{call::Call, convert};
use crate::service::{refusals::Refusals, rotation::Rotation};

#[derive(Debug)]
pub(super) struct Plans {
    rotation: Rotation,
    refusals: Arc<Refusals>,
}

impl Plans {
    pub(super) fn new(rotation: Rotation, refusals: Arc<Refusals>) -> Self {
        Self { rotation, refusals }
    }

    fn plan(&self, call: &Call, message: &PlanRotationRequest) -> Result<PlanRotationResponse, Error> {
        let client = convert::optional_name("client", &message.client)?;
        let until = convert::required_time("until", message.until.as_ref())?;
        let steps = self.rotation.plan(&call.caller, client.as_ref(), until)?;
        Ok(PlanRotationResponse { steps: steps.into_iter().map(convert::upcoming).collect() })
    }
}

#[tonic::async_trait]
impl RotationService for Plans {
    async fn plan_rotation(
        &self,
        request: Request<PlanRotationRequest>,
    ) -> Result<Response<PlanRotationResponse>, Status> {
        let call = Call::of(&self.refusals, &request)?;
        let message = request.into_inner();
        call.answer(&self.refusals, &message.client, self.plan(&call, &message))
    }
}
