//! The fronts.
pub mod grpc;
#[derive(Debug)]
pub struct Peer { pub caller: Result<hallmark_core::policy::Caller, hallmark_core::error::Error> }
