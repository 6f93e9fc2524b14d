//! What a pool is asked to do, and where the result goes.

use std::{
    sync::{Arc, Mutex},
    time::Instant,
};

use hallmark_core::{
    assertion::SigningInput,
    error::Error,
    ports::{HsmFault, HsmSession},
};
use tokio::sync::oneshot;

use super::{Answer, PoolKey, Signed, queue::Flow, state::lock};

/// Not in a box: nearly every job is a signature, and it would cost each an allocation.
pub(super) enum Job {
    Sign(SignJob),
    Task(TaskJob),
}

pub(super) struct SignJob {
    pub(super) flow: Flow,
    pub(super) key: Arc<PoolKey>,
    pub(super) input: SigningInput,
    pub(super) deadline: Instant,
    pub(super) queued_at: Instant,
    pub(super) reply: Box<dyn Reply>,
}

/// Where the result of a signature goes.
pub(super) trait Reply: Send {
    /// Whether nobody waits for it any more.
    fn is_abandoned(&self) -> bool;

    fn finish(self: Box<Self>, result: Result<Signed, Error>);
}

/// A caller that waits, and what makes its answer of the result.
pub(super) struct Caller<T, F> {
    pub(super) answer: Answer<T>,
    pub(super) then: F,
}

impl<T: Send, F: FnOnce(Result<Signed, Error>, Answer<T>) + Send> Reply for Caller<T, F> {
    fn is_abandoned(&self) -> bool {
        self.answer.is_closed()
    }

    fn finish(self: Box<Self>, result: Result<Signed, Error>) {
        (self.then)(result, self.answer);
    }
}

type TaskRun = Box<dyn FnMut(&mut dyn HsmSession) -> Result<(), HsmFault> + Send>;

/// Anything but a signature. `run` may be called twice and keeps its own result.
pub(super) struct TaskJob {
    /// When nobody waits for it any more; orders it behind probes.
    pub(super) deadline: Instant,
    pub(super) run: TaskRun,
    pub(super) reply: Box<dyn TaskReply>,
}

/// Where the result of a task goes.
pub(super) trait TaskReply: Send {
    /// Whether nobody waits for it any more: what it was to do must not be done then, for it was said not to be.
    fn is_abandoned(&self) -> bool;

    fn finish(self: Box<Self>, result: Result<(), Error>);
}

/// Who asked for a task, and what it gave.
struct Asker<T> {
    reply: oneshot::Sender<Result<T, Error>>,
    slot: Arc<Mutex<Option<T>>>,
}

impl<T: Send> TaskReply for Asker<T> {
    fn is_abandoned(&self) -> bool {
        self.reply.is_closed()
    }

    fn finish(self: Box<Self>, result: Result<(), Error>) {
        let value = result.and_then(|()| lock(&self.slot).take().ok_or_else(|| Error::internal("task without value")));
        // Nobody waiting any more is no fault of ours.
        let _ = self.reply.send(value);
    }
}

impl TaskJob {
    pub(super) fn new<T: Send + 'static>(
        mut run: impl FnMut(&mut dyn HsmSession) -> Result<T, HsmFault> + Send + 'static,
        reply: oneshot::Sender<Result<T, Error>>,
        deadline: Instant,
    ) -> Self {
        let slot = Arc::new(Mutex::new(None));
        let filled = slot.clone();
        Self {
            deadline,
            run: Box::new(move |session| {
                let value = run(session)?;
                *lock(&filled) = Some(value);
                Ok(())
            }),
            reply: Box::new(Asker { reply, slot }),
        }
    }
}

impl Job {
    /// Whose line it waits in, and until when at most.
    pub(super) fn place(&self) -> (Flow, Instant) {
        match self {
            Self::Sign(job) => (job.flow, job.deadline),
            Self::Task(job) => (Flow::HOUSE, job.deadline),
        }
    }

    pub(super) fn fail(self, error: Error) {
        match self {
            Self::Sign(job) => job.reply.finish(Err(error)),
            Self::Task(job) => job.reply.finish(Err(error)),
        }
    }
}
