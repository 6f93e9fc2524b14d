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
use crate::{
    service::refusals::{Refusals, Refused},
    transport::{
        bearer::Bearer,
        listener::{Peer, PeerAddr},
    },
};

/// For a caller that sets no deadline.
pub(super) const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);
/// Whatever a caller asks for, no job waits longer.
pub(super) const LONGEST_TIMEOUT: Duration = Duration::from_secs(60);
/// Response metadata with the id of the request, for support and for finding it in the audit log.
const REQUEST_ID: &str = "x-request-id";

#[derive(Clone)]
pub(super) struct Call {
    pub(super) id: String,
    pub(super) caller: Caller,
    pub(super) deadline: Instant,
}

impl Call {
    /// The id comes first: what is refused here has one too.
    pub(super) fn of<T>(refusals: &Refusals, request: &Request<T>) -> Result<Self, Status> {
        let id = Uuid::new_v4().to_string();
        let (extensions, arrived) = (request.extensions(), Instant::now());
        let caller = match caller(extensions) {
            Ok(caller) => caller,
            Err(error) => return Err(refuse_unidentified(refusals, &id, extensions, &error)),
        };
        match timeout(request.metadata()) {
            Ok(timeout) => Ok(Self { id, caller, deadline: arrived + timeout }),
            Err(error) => Err(refuse(refusals, &id, &caller, "", &error)),
        }
    }

    /// Puts the request id on whatever goes back. `client` is the one that was asked for, if any.
    pub(super) fn answer<T>(
        &self,
        refusals: &Refusals,
        client: &str,
        result: Result<T, Error>,
    ) -> Result<Response<T>, Status> {
        let message = result.map_err(|error| refuse(refusals, &self.id, &self.caller, client, &error))?;
        let mut response = Response::new(message);
        insert_id(response.metadata_mut(), &self.id);
        Ok(response)
    }
}

/// Turns an error into what the caller gets, having told who keeps the books: the one way to refuse a caller.
pub(super) fn refuse(refusals: &Refusals, id: &str, caller: &Caller, client: &str, error: &Error) -> Status {
    refuse_as(refusals, id, &caller.identity.to_string(), client, error)
}

/// As [`refuse`], where it is not known who calls: then where from.
pub(super) fn refuse_unidentified(refusals: &Refusals, id: &str, extensions: &Extensions, error: &Error) -> Status {
    let from = match extensions.get::<Arc<Peer>>().map(|peer| peer.addr) {
        Some(PeerAddr::Tcp(addr)) => addr.to_string(),
        Some(PeerAddr::Unix { uid, .. }) => format!("uid:{uid}"),
        None => String::new(),
    };
    refuse_as(refusals, id, &from, "", error)
}

fn refuse_as(refusals: &Refusals, id: &str, who: &str, client: &str, error: &Error) -> Status {
    refusals.note(&Refused { request: id, who, client }, error);
    let mut status = to_status(error, id);
    insert_id(status.metadata_mut(), id);
    status
}

fn insert_id(metadata: &mut MetadataMap, id: &str) {
    if let Ok(id) = id.parse() {
        metadata.insert(REQUEST_ID, id);
    }
}

/// Who is on the other end of the connection.
pub(super) fn caller(extensions: &Extensions) -> Result<Caller, Error> {
    if let Some(Bearer(caller)) = extensions.get() {
        return caller.clone();
    }
    let peer = extensions.get::<Arc<Peer>>();
    peer.ok_or_else(|| Error::internal("a connection without a peer"))?.caller.clone()
}

/// `grpc-timeout`, within bounds. A deadline that has passed is one of zero.
fn timeout(metadata: &MetadataMap) -> Result<Duration, Error> {
    let Some(value) = metadata.get("grpc-timeout") else { return Ok(DEFAULT_TIMEOUT) };
    let parsed = value.to_str().ok().and_then(parse_timeout).ok_or_else(|| {
        Error::new(Reason::InvalidRequest, "`grpc-timeout` is not 1 to 8 digits and a unit of HMSmun")
    })?;
    if parsed.is_zero() {
        return Err(Error::new(Reason::DeadlineExceeded, "the deadline has passed already"));
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
