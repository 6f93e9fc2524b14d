//! A signature that is about to be made, in the audit log: no intent stays without an outcome while the process lives.

use std::sync::{Arc, Mutex, PoisonError};

use hallmark_core::{
    assertion::Stamp,
    audit::{EncodedEvent, Event, Outcome, Signing},
    error::Error,
};

use super::{Context, sign::audit_unavailable};

/// Recorded as about to be made. Where whoever asked hangs up before the outcome, that is the outcome.
pub(super) struct Intent {
    context: Context,
    request: String,
    open: bool,
}

impl Intent {
    /// Appends the intent; the sync of the outcome covers it.
    pub(super) fn record(context: &Context, signing: Signing<'_>) -> Result<Self, Error> {
        let request = signing.request.to_owned();
        let event = EncodedEvent::new(context.clock.now(), &Event::SignIntent(signing));
        context.audit.append(event).map_err(audit_unavailable)?;
        Ok(Self { context: context.clone(), request, open: true })
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
            request: &self.request,
            outcome,
            reason,
            jti: stamp.map(|stamp| stamp.jti.as_str()),
            iat: stamp.map(|stamp| stamp.issued_at.secs()),
            exp: stamp.map(|stamp| stamp.expires_at.secs()),
        };
        EncodedEvent::new(self.context.clock.now(), &event)
    }
}

/// An intent that two may end: the worker with the outcome, or whoever waited for it. The first one does.
#[derive(Clone)]
pub(super) struct SharedIntent(Arc<Mutex<Option<Intent>>>);

impl SharedIntent {
    pub(super) fn new(intent: Intent) -> Self {
        Self(Arc::new(Mutex::new(Some(intent))))
    }

    /// `None` where it has ended.
    pub(super) fn take(&self) -> Option<Intent> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// Held by whoever waits for the outcome. Dropped before there is one, it ends the intent.
pub(super) struct Waiting(pub(super) SharedIntent);

impl Drop for Waiting {
    fn drop(&mut self) {
        drop(self.0.take());
    }
}

impl Drop for Intent {
    fn drop(&mut self) {
        if self.open {
            // A log that can't be written can't have this either; signing has stopped then.
            let _ = self.context.audit.append(self.encode(Outcome::Failed, Some(CANCELLED), None));
        }
    }
}

/// No [`hallmark_core::error::Reason`]: nobody is there to get it.
const CANCELLED: &str = "CANCELLED";
