//! Whether Hallmark can do what it is there for (`grpc.health.v1`); anyone may ask.

use tonic_health::pb::{HealthCheckRequest, HealthCheckResponse, health_client::HealthClient};

use crate::{Client, Error, client::timed};

impl Client {
    /// Whether the server signs. `false`: it is up, and its HSMs, its store or its audit log are not.
    pub async fn is_signing(&self) -> Result<bool, Error> {
        let deadline = self.deadline(None);
        let check = |channel| {
            let service = "hallmark.v1.AssertionService".to_owned();
            let request = timed(HealthCheckRequest { service }, deadline);
            async move { HealthClient::new(channel).check(request).await }
        };
        let answer: HealthCheckResponse = self.call(deadline, check).await?;
        Ok(answer.status == tonic_health::pb::health_check_response::ServingStatus::Serving as i32)
    }
}
