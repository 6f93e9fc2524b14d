//! A signature that is about to be made, in the audit log: no intent stays without an outcome while the process lives.

use hallmark_core::{
    assertion::Stamp,
    audit::{EncodedEvent, Event, Outcome, Signing},
    error::Error,
};

use super::{Context, sign::audit_unavailable};

/// Recorded as about to be made. Where whoever asked hangs up before the outcome, that is the outcome.
pub(super) struct Intent<'a> {
    context: &'a Context,
    request: &'a str,
    open: bool,
}

impl<'a> Intent<'a> {
    /// Appends the intent; the sync of the outcome covers it.
    pub(super) fn record(context: &'a Context, signing: Signing<'a>) -> Result<Self, Error> {
        let request = signing.request;
        let event = EncodedEvent::new(context.clock.now(), &Event::SignIntent(signing));
        context.audit.append(event).map_err(audit_unavailable)?;
        Ok(Self { context, request, open: true })
    }

    /// The outcome, to be appended at once.
    pub(super) fn outcome(mut self, result: Result<Option<&Stamp>, &Error>) -> EncodedEvent {
        self.open = false;
        match result {
            Ok(stamp) => self.encode(Outcome::Done, None, stamp),
            Err(error) => self.encode(Outcome::Failed, Some(error.reason.code()), None),
        }
    }

    fn encode(&self, outcome: Outcome, reason: Option<&str>, stamp: Option<&Stamp>) -> EncodedEvent {
        let event = Event::SignOutcome {
            request: self.request,
            outcome,
            reason,
            jti: stamp.map(|stamp| stamp.jti.as_str()),
            iat: stamp.map(|stamp| stamp.issued_at.secs()),
            exp: stamp.map(|stamp| stamp.expires_at.secs()),
        };
        EncodedEvent::new(self.context.clock.now(), &event)
    }
}

impl Drop for Intent<'_> {
    fn drop(&mut self) {
        if self.open {
            // A log that can't be written can't have this either; signing has stopped then.
            let _ = self.context.audit.append(self.encode(Outcome::Failed, Some(CANCELLED), None));
        }
    }
}

/// No [`hallmark_core::error::Reason`]: nobody is there to get it.
const CANCELLED: &str = "CANCELLED";
