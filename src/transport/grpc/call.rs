//! What every call brings beside its message: who calls, until when, and the id that log and audit know it by.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use hallmark_core::{
    error::{Error, Reason},
    policy::Caller,
};
use tonic::{Extensions, Request, Response, Status, metadata::MetadataMap};
use uuid::Uuid;

use super::status::to_status;
use crate::transport::listener::Peer;

/// For a caller that sets no deadline.
pub(super) const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);
/// Whatever a caller asks for, no job waits longer.
pub(super) const LONGEST_TIMEOUT: Duration = Duration::from_secs(60);
/// Response metadata with the id of the request, for support and for finding it in the audit log.
const REQUEST_ID: &str = "x-request-id";

pub(super) struct Scope {
    pub(super) caller: Caller,
    pub(super) deadline: Instant,
    pub(super) request_id: String,
}

impl Scope {
    pub(super) fn of<T>(request: &Request<T>) -> Result<Self, Status> {
        Ok(Self {
            caller: caller(request.extensions())?,
            deadline: Instant::now() + timeout(request.metadata())?,
            request_id: Uuid::new_v4().to_string(),
        })
    }

    /// Puts the request id on whatever goes back.
    pub(super) fn answer<T>(&self, result: Result<T, Error>) -> Result<Response<T>, Status> {
        let id = self.request_id.parse().ok();
        match result {
            Ok(message) => {
                let mut response = Response::new(message);
                id.map(|id| response.metadata_mut().insert(REQUEST_ID, id));
                Ok(response)
            }
            Err(error) => {
                let mut status = to_status(&error);
                id.map(|id| status.metadata_mut().insert(REQUEST_ID, id));
                Err(status)
            }
        }
    }
}

/// Who is on the other end of the connection.
pub(super) fn caller(extensions: &Extensions) -> Result<Caller, Status> {
    let peer = extensions.get::<Arc<Peer>>();
    let peer = peer.ok_or_else(|| to_status(&Error::internal("a connection without a peer")))?;
    peer.caller.clone().map_err(|error| to_status(&error))
}

/// `grpc-timeout`, within bounds. A deadline that has passed is one of zero.
fn timeout(metadata: &MetadataMap) -> Result<Duration, Status> {
    let Some(value) = metadata.get("grpc-timeout") else { return Ok(DEFAULT_TIMEOUT) };
    let parsed = value.to_str().ok().and_then(parse_timeout).ok_or_else(|| {
        to_status(&Error::new(Reason::InvalidRequest, "`grpc-timeout` is not 1 to 8 digits and a unit of HMSmun"))
    })?;
    if parsed.is_zero() {
        return Err(to_status(&Error::new(Reason::DeadlineExceeded, "the deadline has passed already")));
    }
    Ok(parsed.min(LONGEST_TIMEOUT))
}

/// The grammar of "gRPC over HTTP/2", `TimeoutValue TimeoutUnit`.
fn parse_timeout(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if !(1..=8).contains(&digits.len()) || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let value: u64 = digits.parse().ok()?;
    match unit {
        "H" => Some(Duration::from_secs(value * 3600)),
        "M" => Some(Duration::from_secs(value * 60)),
        "S" => Some(Duration::from_secs(value)),
        "m" => Some(Duration::from_millis(value)),
        "u" => Some(Duration::from_micros(value)),
        "n" => Some(Duration::from_nanos(value)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeouts_are_read_as_grpc_writes_them() {
        assert_eq!(parse_timeout("250m"), Some(Duration::from_millis(250)));
        assert_eq!(parse_timeout("99999999H"), Some(Duration::from_secs(99_999_999 * 3600)));
        for bad in ["", "m", "1", "-1S", "123456789S", "1s", "1 S", "é"] {
            assert_eq!(parse_timeout(bad), None, "{bad:?}");
        }
    }
}
