//! Values made from files, made anew when the files change: certificates and trust bundles.

use std::{
    fmt::Display,
    fs,
    os::unix::fs::MetadataExt,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use arc_swap::ArcSwap;
use tokio::{sync::watch, time};
use tokio_util::sync::CancellationToken;

use crate::telemetry::metrics::ReloadMetrics;

/// A value made from files. What is in force is never less than what was loaded last without an error.
pub struct Reloading<T> {
    what: String,
    files: Vec<PathBuf>,
    load: Box<dyn Fn() -> Result<T, String> + Send + Sync>,
    current: ArcSwap<T>,
    changed: watch::Sender<()>,
    /// How the files looked when they were last read, with or without success.
    seen: Mutex<Vec<Stamp>>,
    metrics: ReloadMetrics,
}

impl<T: Send + Sync + 'static> Reloading<T> {
    /// Loads for the first time; fails where `load` does. `what` is for the log.
    pub fn new<E: Display>(
        what: &str,
        files: Vec<PathBuf>,
        load: impl Fn() -> Result<T, E> + Send + Sync + 'static,
        metrics: ReloadMetrics,
    ) -> Result<Arc<Self>, E> {
        // Looked at before reading: what changes in between is read again.
        let seen = Mutex::new(stamps(&files));
        let current = ArcSwap::from_pointee(load()?);
        let load = Box::new(move || load().map_err(|error| error.to_string()));
        let changed = watch::Sender::new(());
        Ok(Arc::new(Self { what: what.to_owned(), files, load, current, changed, seen, metrics }))
    }

    /// The value in force.
    pub fn current(&self) -> Arc<T> {
        self.current.load_full()
    }

    /// Wakes after each change that came into force.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }
}

/// Something to look at from time to time.
pub trait Reload: Send + Sync + 'static {
    /// Reads the files again if they have changed. Blocks; logs and counts how it ended.
    fn check(&self);
}

impl<T: Send + Sync + 'static> Reload for Reloading<T> {
    fn check(&self) {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let stamps = stamps(&self.files);
        if *seen == stamps {
            return;
        }
        *seen = stamps;
        match (self.load)() {
            Ok(value) => {
                self.current.store(Arc::new(value));
                self.changed.send_replace(());
                self.metrics.done.inc();
                tracing::info!(what = self.what, "changed files were read again");
            }
            Err(error) => {
                self.metrics.failed.inc();
                tracing::error!(what = self.what, error, "changed files can't be used; the old ones stay in force");
            }
        }
    }
}

/// Checks all `sources` every `period` until `stop`.
pub async fn watch_files(sources: Vec<Arc<dyn Reload>>, period: Duration, stop: CancellationToken) {
    let sources: Arc<[_]> = sources.into();
    let mut ticks = time::interval(period);
    ticks.set_missed_tick_behavior(time::MissedTickBehavior::Delay);
    while stop.run_until_cancelled(ticks.tick()).await.is_some() {
        let sources = Arc::clone(&sources);
        // A file system may hang; the threads that serve must not.
        let checked = tokio::task::spawn_blocking(move || sources.iter().for_each(|source| source.check()));
        if let Some(Err(error)) = stop.run_until_cancelled(checked).await {
            tracing::error!(%error, "reading changed files panicked; please report it");
        }
    }
}

/// What tells one version of a file from another, also where a link was turned to another file.
type Stamp = Option<(u64, u64, u64, (i64, i64), (i64, i64))>;

fn stamps(files: &[PathBuf]) -> Vec<Stamp> {
    let stamp = |path| {
        let file = fs::metadata(path).ok()?;
        Some((
            file.dev(),
            file.ino(),
            file.size(),
            (file.mtime(), file.mtime_nsec()),
            (file.ctime(), file.ctime_nsec()),
        ))
    };
    files.iter().map(stamp).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::Metrics;

    #[test]
    fn a_bad_file_leaves_the_old_value_in_force() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("n");
        fs::write(&path, "1").unwrap();
        let metrics = Metrics::new().reload("n");
        let read = path.clone();
        let load = move || fs::read_to_string(&read).unwrap_or_default().parse::<u32>();
        let value = Reloading::new("n", vec![path.clone()], load, metrics.clone()).unwrap();
        let mut changes = value.changes();
        let count = || (metrics.done.get(), metrics.failed.get());

        value.check();
        assert_eq!((*value.current(), count()), (1, (0, 0)), "nothing changed, nothing is read");
        fs::write(&path, "rubbish").unwrap();
        value.check();
        value.check();
        assert_eq!((*value.current(), count()), (1, (0, 1)), "a bad file is read and logged once");
        fs::remove_file(&path).unwrap();
        value.check();
        assert_eq!((*value.current(), count()), (1, (0, 2)));
        assert!(!changes.has_changed().unwrap());

        fs::write(folder.path().join("new"), "2").unwrap();
        fs::rename(folder.path().join("new"), &path).unwrap();
        value.check();
        assert_eq!((*value.current(), count()), (2, (1, 2)));
        assert!(changes.has_changed().unwrap());
        changes.mark_unchanged();
    }

    #[test]
    fn the_first_load_must_succeed() {
        let metrics = Metrics::new().reload("n");
        assert!(Reloading::<u32>::new("n", vec![], || Err("bad"), metrics).is_err());
    }
}
