//! Errors that no server sent: the connection could not be made, or broke.

use std::{error::Error as StdError, fmt, io};

use tonic::{Code, Status};

use super::{Error, Remedy, reason};

/// Reads a status that the transport made.
pub(super) fn broken(status: &Status) -> Error {
    if certificate_failed(status) {
        let text = "hallmark and this side do not accept each other's certificates";
        return Error::new(Remedy::CallOperator, reason::TLS_FAILED, text).with_source(Cause::of(status));
    }
    if status.code() == Code::Cancelled && status.message() == TIMEOUT_EXPIRED {
        return Error::deadline("hallmark did not answer in time");
    }
    Error::new(Remedy::RetryLater, reason::UNREACHABLE, "hallmark can't be reached").with_source(Cause::of(status))
}

/// The causes of a status that the transport made, each once: its layers repeat one another.
#[derive(Debug)]
struct Cause {
    text: String,
    next: Option<Box<Cause>>,
}

impl Cause {
    fn of(status: &Status) -> Self {
        let mut texts = vec![status.message().to_owned()];
        let mut source = status.source();
        while let Some(cause) = source {
            let text = cause.to_string();
            if !texts.contains(&text) && text != "transport error" {
                texts.push(text);
            }
            source = cause.source();
        }
        let chain = texts.into_iter().rev().fold(None, |next, text| Some(Self { text, next: next.map(Box::new) }));
        chain.unwrap_or(Self { text: String::new(), next: None })
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl StdError for Cause {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        self.next.as_deref().map(|next| next as _)
    }
}

/// TLS reports a refused certificate as an I/O error of this kind; nothing else below gRPC uses it.
fn certificate_failed(status: &Status) -> bool {
    let mut source = status.source();
    while let Some(cause) = source {
        if cause.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::InvalidData) {
            return true;
        }
        source = cause.source();
    }
    false
}

/// How tonic words its own time-out, which comes as CANCELLED.
const TIMEOUT_EXPIRED: &str = "Timeout expired";
