//! From the handshake to the first request.

use std::{
    future,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio_util::sync::CancellationToken;

use super::addresses::HalfOpen;

/// Whether a connection has asked for something yet; until then it may be half-open.
#[derive(Debug)]
pub(super) struct Opening {
    over: AtomicBool,
    half_open: Mutex<Option<HalfOpen>>,
    pushed_out: Option<CancellationToken>,
}

impl Opening {
    /// `half_open`, where it counts as that.
    pub(super) fn new(half_open: Option<HalfOpen>) -> Self {
        let pushed_out = half_open.as_ref().map(|half_open| half_open.pushed_out().clone());
        Self { over: AtomicBool::new(false), half_open: Mutex::new(half_open), pushed_out }
    }

    /// A request is there; whether it is the first.
    pub(super) fn end(&self) -> bool {
        let first = !self.is_over() && !self.over.swap(true, Ordering::Relaxed);
        if first {
            drop(self.half_open.lock().unwrap_or_else(PoisonError::into_inner).take());
        }
        first
    }

    pub(super) fn is_over(&self) -> bool {
        self.over.load(Ordering::Relaxed)
    }

    /// Resolves when newer connections took its place.
    pub(super) async fn pushed_out(&self) {
        match &self.pushed_out {
            Some(pushed_out) => pushed_out.cancelled().await,
            None => future::pending().await,
        }
    }

    pub(super) fn was_pushed_out(&self) -> bool {
        !self.is_over() && self.pushed_out.as_ref().is_some_and(CancellationToken::is_cancelled)
    }
}
