//! The one thread that writes.

use std::{
    fs::DirBuilder,
    io,
    os::unix::fs::DirBuilderExt,
    path::Path,
    sync::{Arc, atomic::Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

use hallmark_core::{
    audit::{Chain, EncodedEvent, Event, Mark, checkpoint::Head},
    ports::{AuditUnavailable, Clock},
};

use super::{
    AuditOptions, Disk, DiskFile,
    files::Files,
    queue::{Continue, Queue},
};
use tokio::runtime::Handle;

use crate::lock::{LockError, ProcessLock};

pub(super) struct Writer {
    queue: Arc<Queue>,
    disk: Box<dyn Disk>,
    clock: Arc<dyn Clock>,
    retry: (Duration, Duration),
    runtime: Option<Handle>,
    files: Files,
    /// The highest number of a file so far.
    number: u64,
    current: Current,
    /// A file that has grown to so many bytes is followed by the next one.
    max_file: u64,
    /// The batch being written; after a failure it goes into the next file.
    events: Vec<EncodedEvent>,
    _lock: ProcessLock,
}

/// The file being written, and the chain after its last synced line.
struct Current {
    name: String,
    file: Box<dyn DiskFile>,
    chain: Chain,
    buffer: Vec<u8>,
    len: u64,
    /// Of all files of this process.
    tally: Tally,
}

/// What asks for a checkpoint: see [`Head`].
#[derive(Clone, Copy, Default)]
struct Tally {
    key_changes: u64,
    rotations: u64,
}

impl Writer {
    /// Finds the end of the chain and opens the next file, with the records that start it synced.
    pub(super) fn open(
        dir: &Path,
        instance: &str,
        options: AuditOptions,
        queue: Arc<Queue>,
    ) -> Result<Self, AuditUnavailable> {
        check_instance(instance)?;
        let files = Files::new(dir, instance);
        let failed = |cause: io::Error| {
            let hint = "create it, let Hallmark's user write to it, or set `audit.dir` to another one";
            AuditUnavailable(format!("can't use the folder `{}`: {cause}\nhint: {hint}", dir.display()))
        };
        DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(failed)?;
        let lock = ProcessLock::acquire(&files.lock_path()).map_err(lock_refused)?;
        let end = files.end().map_err(failed)?;

        let AuditOptions { mut disk, clock, retry, runtime, max_file, .. } = options;
        let event = |event: &Event<'_>| EncodedEvent::new(clock.now(), event);
        // The start comes last: a file without one was cut short itself, and may not say all that is torn.
        let mut first: Vec<_> =
            end.torn.iter().map(|(file, bytes)| event(&Event::TornTail { file, bytes: *bytes })).collect();
        first.push(event(&Event::Start { version: env!("CARGO_PKG_VERSION") }));
        let (number, before) = (end.last + 1, (end.chain, Tally::default()));
        let current = Current::start(disk.as_mut(), &files, number, before, &first, &queue).map_err(failed)?;
        let events = Vec::new();
        Ok(Self { queue, disk, clock, retry, runtime, files, number, current, max_file, events, _lock: lock })
    }

    pub(super) fn start(self) -> Result<(), AuditUnavailable> {
        let queue = Arc::clone(&self.queue);
        let run = move || {
            // Also if the thread panics, nobody may wait for ever.
            let gone = Gone(queue);
            let outcome = self.run();
            gone.0.ended().complete(outcome);
        };
        let spawned = thread::Builder::new().name("audit".into()).spawn(run);
        spawned.map(drop).map_err(|e| AuditUnavailable(format!("can't start a thread: {e}")))
    }

    fn run(mut self) -> Result<(), AuditUnavailable> {
        loop {
            let work = self.queue.take(&mut self.events);
            if work.refused_more > 0 {
                self.events.push(EncodedEvent::new(self.clock.now(), &Event::RefusedMore { count: work.refused_more }));
            }
            let written = if self.events.is_empty() { Ok(()) } else { self.current.write(&self.events, &self.queue) };
            let failure = written.map_err(|cause| format!("writing `{}` failed: {cause}", self.current.name));
            work.waiting.finish_on(self.runtime.as_ref(), failure.clone().map_err(AuditUnavailable));
            match failure {
                Err(cause) => self.move_on(&cause)?,
                Ok(()) if self.current.len >= self.max_file => self.rotate(),
                Ok(()) => {}
            }
            self.events.clear();
            if work.closing {
                return Ok(());
            }
        }
    }

    /// Goes on in the next file, for this one is long enough. Where that fails it just grows on: nothing is lost by it.
    fn rotate(&mut self) {
        self.number += 1;
        let Current { name, chain, tally, len, .. } = &self.current;
        let event = Event::Rotated { file: name, after: chain.seq() };
        let first = [EncodedEvent::new(self.clock.now(), &event)];
        let before = (chain.clone(), Tally { rotations: tally.rotations + 1, ..*tally });
        match Current::start(self.disk.as_mut(), &self.files, self.number, before, &first, &self.queue) {
            Ok(next) => self.current = next,
            Err(error) => {
                tracing::warn!(%error, file = name, len, "no next audit file: the old one grows on");
                self.queue.counters().failures.fetch_add(1, Relaxed);
                self.max_file = len.saturating_add(self.max_file);
            }
        }
    }

    /// Gives up the current file and goes on in the next one, however long that takes.
    ///
    /// Fails only if the log is closed meanwhile.
    fn move_on(&mut self, cause: &str) -> Result<(), AuditUnavailable> {
        tracing::error!(cause, "audit file abandoned");
        let failures = &self.queue.counters().failures;
        failures.fetch_add(1, Relaxed);
        let abandoned = Event::FileAbandoned { file: &self.current.name, after: self.current.chain.seq(), cause };
        let mut first = vec![EncodedEvent::new(self.clock.now(), &abandoned)];
        first.append(&mut self.events);
        let (mut delay, longest) = self.retry;
        let mut state = Continue::Open;
        loop {
            self.number += 1;
            let before = (self.current.chain.clone(), self.current.tally);
            match Current::start(self.disk.as_mut(), &self.files, self.number, before, &first, &self.queue) {
                Ok(next) => {
                    self.current = next;
                    tracing::info!(file = self.current.name, "audit log goes on");
                    self.queue.resume();
                    return Ok(());
                }
                Err(error) => {
                    let text = format!("can't write `{}`: {error}", self.files.path(self.number).display());
                    tracing::error!(error = text, "audit log unavailable: nothing is signed until it can be written");
                    failures.fetch_add(1, Relaxed);
                    let reason = AuditUnavailable(text);
                    self.queue.stop(reason.clone());
                    // One last try when the log is closed: what was queued may still find its place.
                    if state == Continue::Closing {
                        return Err(reason);
                    }
                    state = self.queue.pause(delay);
                    delay = (delay * 2).min(longest);
                }
            }
        }
    }
}

impl Current {
    /// A new file with `first` in it, synced. Leaves no file behind if that fails.
    fn start(
        disk: &mut dyn Disk,
        files: &Files,
        number: u64,
        (chain, tally): (Chain, Tally),
        first: &[EncodedEvent],
        queue: &Queue,
    ) -> io::Result<Self> {
        let path = files.path(number);
        let file = disk.create(&path)?;
        let mut new = Self { name: files.name(number), file, chain, buffer: Vec::new(), len: 0, tally };
        match new.write(first, queue) {
            Ok(()) => Ok(new),
            Err(error) => {
                // If this fails too, the next number is free all the same.
                let _ = disk.remove(&path);
                Err(error)
            }
        }
    }

    /// Links, writes and syncs. After an error the chain is as it was, and the file must not be written again.
    fn write(&mut self, events: &[EncodedEvent], queue: &Queue) -> io::Result<()> {
        let mut chain = self.chain.clone();
        self.buffer.clear();
        self.buffer.shrink_to(BUFFER);
        for event in events {
            chain.link(event, &mut self.buffer);
        }
        let took = queue.at_disk(|| {
            self.file.append(&self.buffer)?;
            let started = Instant::now();
            self.file.sync()?;
            Ok::<_, io::Error>(started.elapsed())
        })?;
        self.chain = chain;
        self.len += self.buffer.len() as u64;
        self.tally.key_changes += events.iter().filter(|event| event.mark == Some(Mark::KeyChange)).count() as u64;
        let Tally { key_changes, rotations } = self.tally;
        queue.synced(Head { key_changes, rotations, ..Head::new(&self.chain, &self.name) });

        let counters = queue.counters();
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        counters.sync_nanos.fetch_add(nanos, Relaxed);
        counters.batches.fetch_add(1, Relaxed);
        counters.events.fetch_add(events.len() as u64, Relaxed);
        counters.bytes.fetch_add(self.buffer.len() as u64, Relaxed);
        Ok(())
    }
}

/// What a batch may leave allocated, in bytes.
const BUFFER: usize = 256 * 1024;

/// Tells the queue that there is no writer any more.
struct Gone(Arc<Queue>);

impl Drop for Gone {
    fn drop(&mut self) {
        let reason = AuditUnavailable("the writer has ended".into());
        self.0.stop(reason.clone());
        self.0.ended().complete(Err(reason));
    }
}

/// The instance is part of file names.
fn check_instance(instance: &str) -> Result<(), AuditUnavailable> {
    let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
    if (1..=64).contains(&instance.len()) && instance.bytes().all(fits) && !instance.starts_with('.') {
        return Ok(());
    }
    let hint = "set `instance.id` to 1 to 64 of a-z, A-Z, 0-9, -, _ and .";
    Err(AuditUnavailable(format!("the instance id can't name a file: `{instance}`\nhint: {hint}")))
}

fn lock_refused(error: LockError) -> AuditUnavailable {
    let hint = match &error {
        LockError::Held { .. } => "stop that process, or give this one its own `instance.id`",
        LockError::Io { .. } => "let Hallmark's user write to that folder, or set `audit.dir` to another one",
    };
    AuditUnavailable(format!("{error}\nhint: {hint}"))
}
