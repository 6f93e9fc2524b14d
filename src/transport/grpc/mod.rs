//! The gRPC front: reads what callers send, says who they are, and turns answers and errors back.
//!
//! One file a service, as in `proto/hallmark/v1`; [`convert`] holds what messages and rules have in common, [`status`]
//! the one place where errors become gRPC status.

mod assertion;
mod call;
mod certificates;
mod clients;
mod convert;
mod jwks;
mod keys;
mod limited;
mod operation;
mod policy;
mod rotation;
mod status;
mod unframed;

use std::sync::Arc;

use hallmark_core::{error::Error, policy::OperatorRole, ports::Clock};
use hallmark_proto::v1::{
    assertion_service_server::AssertionServiceServer, client_service_server::ClientServiceServer,
    jwks_service_server::JwksServiceServer, key_service_server::KeyServiceServer,
    policy_service_server::PolicyServiceServer, rotation_service_server::RotationServiceServer,
};
use tonic::{Request, Status, service::Routes, service::interceptor::InterceptedService};
use uuid::Uuid;

use self::{
    call::{caller, refuse, refuse_unidentified},
    limited::Limiter,
};
use crate::service::{
    followers::Followers, keys::Keys, policy::PolicyDesk, publish::Publisher, refusals::Refusals, registry::Registry,
    rotation::Rotation, sign::Sign,
};

pub use self::{status::to_status, unframed::try_message};

/// A request larger than this is refused: a client_id of 8 KiB and claims of the same size fit well.
const MAX_MESSAGE: usize = 64 * 1024;

/// What the front needs of the use cases.
#[derive(Debug)]
pub struct Services {
    pub sign: Sign,
    pub refusals: Arc<Refusals>,
    pub keys: Keys,
    pub rotation: Rotation,
    pub publisher: Arc<Publisher>,
    pub followers: Arc<Followers>,
    pub registry: Arc<Registry>,
    pub clock: Arc<dyn Clock>,
    /// Whether reflection is open to all, as in `hallmark dev`, or to operators only.
    pub open_reflection: bool,
}

/// Sets what `grpc.health.v1.Health` answers, one entry a service.
#[derive(Clone, Debug)]
pub struct HealthReporter(tonic_health::server::HealthReporter);

impl HealthReporter {
    /// Keys are managed and read as long as the process runs; signing needs an HSM, and so does the server as a whole.
    pub async fn set_signing(&self, ready: bool) {
        use tonic_health::ServingStatus::{NotServing, Serving};
        let signing = if ready { Serving } else { NotServing };
        for name in ["", "hallmark.v1.AssertionService"] {
            self.0.set_service_status(name, signing).await;
        }
        for name in [
            "hallmark.v1.ClientService",
            "hallmark.v1.KeyService",
            "hallmark.v1.RotationService",
            "hallmark.v1.PolicyService",
            "hallmark.v1.JwksService",
        ] {
            self.0.set_service_status(name, Serving).await;
        }
    }
}

/// All services behind one HTTP/2 port, and the handle that sets their health.
pub fn routes(services: Services) -> Result<(Routes, HealthReporter), Error> {
    let (reporter, health) = tonic_health::server::health_reporter();
    let reflection = tonic_reflection::server::Builder::configure()
        .register_encoded_file_descriptor_set(hallmark_proto::FILE_DESCRIPTOR_SET)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .build_v1()
        .map_err(Error::internal)?;
    let assertions = assertion::Assertions::new(services.sign, services.refusals.clone());
    let plans = rotation::Plans::new(services.rotation.clone(), services.refusals.clone());
    let keys = keys::KeyManagement::new(services.keys.clone(), services.rotation, services.refusals.clone());
    let policy = policy::Explanations {
        desk: PolicyDesk::new(services.registry.clone(), services.clock.clone()),
        refusals: services.refusals.clone(),
    };
    let clients = clients::Clients {
        keys: services.keys.clone(),
        publisher: services.publisher.clone(),
        registry: services.registry.clone(),
        clock: services.clock.clone(),
        refusals: services.refusals.clone(),
    };
    let jwks = jwks::PublicKeys {
        publisher: services.publisher,
        followers: services.followers,
        registry: services.registry.clone(),
        clock: services.clock.clone(),
        refusals: services.refusals.clone(),
    };
    let limiter = Limiter::new(services.refusals.clone());
    let operators_only = ReflectionGuard {
        open: services.open_reflection,
        registry: services.registry,
        clock: services.clock,
        refusals: services.refusals,
    };
    let routes = Routes::new(AssertionServiceServer::new(assertions).max_decoding_message_size(MAX_MESSAGE))
        .add_service(limiter.all(ClientServiceServer::new(clients).max_decoding_message_size(MAX_MESSAGE)))
        .add_service(limiter.all(KeyServiceServer::new(keys).max_decoding_message_size(MAX_MESSAGE)))
        .add_service(limiter.all(RotationServiceServer::new(plans).max_decoding_message_size(MAX_MESSAGE)))
        .add_service(limiter.all(JwksServiceServer::new(jwks).max_decoding_message_size(MAX_MESSAGE)))
        .add_service(limiter.all(PolicyServiceServer::new(policy).max_decoding_message_size(MAX_MESSAGE)))
        .add_service(InterceptedService::new(limiter.all(reflection), operators_only))
        .add_service(limiter.strangers(health));
    Ok((routes, HealthReporter(reporter)))
}

#[derive(Clone)]
struct ReflectionGuard {
    open: bool,
    registry: Arc<Registry>,
    clock: Arc<dyn Clock>,
    refusals: Arc<Refusals>,
}

impl tonic::service::Interceptor for ReflectionGuard {
    fn call(&mut self, request: Request<()>) -> Result<Request<()>, Status> {
        if self.open {
            return Ok(request);
        }
        let id = Uuid::new_v4().to_string();
        let caller = caller(request.extensions())
            .map_err(|error| refuse_unidentified(&self.refusals, &id, request.extensions(), &error))?;
        let policy = &self.registry.load().policy;
        let allowed = policy.operator(&caller, OperatorRole::View, self.clock.now());
        allowed.map_err(|error| refuse(&self.refusals, &id, &caller, "", &error))?;
        Ok(request)
    }
}
