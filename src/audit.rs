//! The append-only audit log: one hash chain of JSON lines for each instance, and one sync for all who wait.
//!
//! ```text
//! append, append_synced ──▶ queue ──▶ writer thread: link the chain, write, sync, wake who waits
//!   (any thread)                        │ a write or sync fails: abandon the file, open the next one, go on there
//!                                       ▼
//!                               DIR/INSTANCE-00000001.jsonl, -00000002.jsonl, …
//! ```
//!
//! A file is written by one process from its first line on, and never opened for writing again: what a crash or a
//! failing disk left in it stays as it is, and the next file says so ([`Event::TornTail`], [`Event::FileAbandoned`]).
//! A file that is long enough is followed by the next one ([`Event::Rotated`]).
//! While no file can be written the log is unhealthy: every append fails at once, and the writer goes on trying.

use std::{
    fmt,
    path::Path,
    sync::{Arc, atomic::AtomicU64},
    time::Duration,
};

use hallmark_core::{
    audit::{EncodedEvent, Event, checkpoint::Head},
    ports::{AuditHead, AuditSink, AuditUnavailable, Clock, Synced, WhenSynced},
    time::Timestamp,
};
use tokio::{runtime::Handle, sync::oneshot};

mod batch;
mod disk;
mod files;
mod gather;
mod queue;
pub mod reading;
mod refusals;
mod writer;

#[cfg(test)]
mod tests;

pub use disk::{Disk, DiskFile, RealDisk};
use queue::Queue;

/// A handle to the log; clones share it. When the last one goes, what was queued is still written.
#[derive(Clone)]
pub struct AuditLog {
    inner: Arc<Inner>,
}

/// What the log needs to know beside its place.
pub struct AuditOptions {
    /// Stamps the log's own events.
    pub clock: Arc<dyn Clock>,
    pub disk: Box<dyn Disk>,
    /// Events that may wait for the disk; past it, appending fails at once.
    pub capacity: usize,
    /// Refusals that are recorded one by one in each second; the rest becomes one record with their number.
    pub refusals_per_second: u32,
    /// How many signatures are made at once: while no more are under way, a sync waits for no others.
    pub sessions: usize,
    /// How long a sync may wait for others to share it, where others are to be expected; zero: never.
    pub gather: Duration,
    /// A write with its sync that takes longer makes the log unhealthy, until it returns.
    pub hung_after: Duration,
    /// A file that has grown to so many bytes is followed by the next one.
    pub max_file: u64,
    /// How long to wait before a file is tried again, at first and at most.
    pub retry: (Duration, Duration),
    /// Where those who wait for a sync are told; without it, on the writer's thread.
    pub runtime: Option<Handle>,
}

impl AuditOptions {
    /// On the real disk, with the limits of production.
    pub fn new(clock: Arc<dyn Clock>) -> Self {
        Self {
            clock,
            disk: Box::new(RealDisk),
            // About 8 MiB of events, and a second of signatures at full speed.
            capacity: 16_384,
            refusals_per_second: 10,
            sessions: 1,
            // About what thirty RSA signatures take on two cores. Without it, callers served one by one sync one by one.
            gather: Duration::from_millis(10),
            // Far beyond any disk that works; callers gave up at their deadlines.
            hung_after: Duration::from_secs(10),
            max_file: 256 << 20,
            retry: (Duration::from_millis(100), Duration::from_secs(2)),
            runtime: None,
        }
    }
}

/// What the writer has done so far; for metrics.
#[derive(Debug, Default)]
pub struct AuditCounters {
    pub events: AtomicU64,
    pub bytes: AtomicU64,
    /// Batches written, each with one sync.
    pub batches: AtomicU64,
    /// Time spent in syncs.
    pub sync_nanos: AtomicU64,
    /// Writes, syncs and creations of files that failed.
    pub failures: AtomicU64,
    /// Refusals, recorded one by one or not.
    pub refusals: AtomicU64,
}

impl AuditLog {
    /// Takes up the chain of `instance` in `dir` after its last complete line, in a new file. Blocks.
    ///
    /// Fails where `dir` can't be written, or another process writes this chain.
    pub fn open(dir: &Path, instance: &str, options: AuditOptions) -> Result<Self, AuditUnavailable> {
        let queue = Queue::new(&options);
        let writer = writer::Writer::open(dir, instance, options, Arc::clone(&queue))?;
        writer.start()?;
        Ok(Self { inner: Arc::new(Inner { queue }) })
    }

    /// Queues an event, in order; does not wait for the disk. It gets there with the next event that is waited for,
    /// or within about 100 ms.
    pub fn append(&self, event: EncodedEvent) -> Result<(), AuditUnavailable> {
        self.inner.queue.push(event)
    }

    /// Queues an event, at once and in order; the future resolves when it and all before it are on the disk.
    ///
    /// After an error it may or may not be in the log. Dropping the future takes nothing back.
    pub fn append_synced(
        &self,
        event: EncodedEvent,
    ) -> impl Future<Output = Result<(), AuditUnavailable>> + Send + use<> {
        let (told, synced) = oneshot::channel();
        // Whoever no longer waits need not be told.
        self.append_then(event, Box::new(|outcome| drop(told.send(outcome))));
        async move { synced.await.unwrap_or_else(|_| Err(AuditUnavailable("the writer has ended".into()))) }
    }

    /// Queues an event, at once and in order, and has `then` called when it and all before it are on the disk.
    ///
    /// The writer's thread calls it, or this one where the event can't be queued: it must not block.
    pub fn append_then(&self, event: EncodedEvent, then: WhenSynced) {
        self.inner.queue.push_then(event, then);
    }

    /// Counts a refusal, and records it as far as the bounded rate goes. Never fails: what can't be recorded now is
    /// part of the next [`Event::RefusedMore`].
    pub fn refused(&self, time: Timestamp, refusal: &Event<'_>) {
        self.inner.queue.refused(time, refusal);
    }

    /// Whether events can be written, as far as is known: no file is being looked for, and no sync hangs.
    pub fn is_healthy(&self) -> bool {
        self.inner.queue.is_healthy()
    }

    /// What was written so far.
    pub fn counters(&self) -> &AuditCounters {
        self.inner.queue.counters()
    }

    /// Refuses further events, writes what was queued, and resolves when that is on the disk and the lock is free.
    pub fn close(&self) -> impl Future<Output = Result<(), AuditUnavailable>> + Send + use<> {
        self.inner.queue.close();
        let queue = Arc::clone(&self.inner.queue);
        async move { queue.ended().wait().await }
    }
}

impl AuditSink for AuditLog {
    fn append(&self, event: EncodedEvent) -> Result<(), AuditUnavailable> {
        Self::append(self, event)
    }

    fn append_synced(&self, event: EncodedEvent) -> Synced<'_> {
        Box::pin(Self::append_synced(self, event))
    }

    fn append_then(&self, event: EncodedEvent, then: WhenSynced) {
        Self::append_then(self, event, then);
    }

    fn refused(&self, time: Timestamp, refusal: &Event<'_>) {
        Self::refused(self, time, refusal);
    }

    fn is_healthy(&self) -> bool {
        Self::is_healthy(self)
    }
}

impl AuditHead for AuditLog {
    fn head(&self) -> Option<Head> {
        self.inner.queue.head()
    }
}

impl fmt::Debug for AuditLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuditLog").field("healthy", &self.is_healthy()).finish_non_exhaustive()
    }
}

struct Inner {
    queue: Arc<Queue>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.queue.close();
    }
}
