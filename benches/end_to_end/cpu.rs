//! What processes cost: CPU time by thread name, resident memory. Read from `/proc`.

use std::{fs, io, path::Path, time::Duration};

/// CPU time of the threads of a process since they started.
#[derive(Clone, Debug, Default)]
pub(crate) struct ThreadTimes(Vec<Thread>);

#[derive(Clone, Debug)]
struct Thread {
    id: u32,
    name: String,
    time: Duration,
}

impl ThreadTimes {
    /// A reading of all threads of `pid`. The name of its first thread is given as `main`.
    pub(crate) fn of(pid: u32) -> io::Result<Self> {
        let mut threads = Vec::new();
        for entry in fs::read_dir(format!("/proc/{pid}/task"))? {
            let path = entry?.path();
            let Some(id) = path.file_name().and_then(|name| name.to_str()?.parse().ok()) else { continue };
            // A thread that ended meanwhile is left out.
            let (Ok(name), Ok(time)) = (fs::read_to_string(path.join("comm")), time_of(&path)) else { continue };
            let name = if id == pid { "main".to_owned() } else { name.trim_end().to_owned() };
            threads.push(Thread { id, name, time });
        }
        Ok(Self(threads))
    }

    /// What was used since `earlier`, by the threads whose name fits.
    pub(crate) fn since(&self, earlier: &Self, fits: impl Fn(&str) -> bool) -> Duration {
        let before = |id| earlier.0.iter().find(|thread| thread.id == id).map_or(Duration::ZERO, |thread| thread.time);
        self.0
            .iter()
            .filter(|thread| fits(&thread.name))
            .map(|thread| thread.time.saturating_sub(before(thread.id)))
            .sum()
    }
}

/// CPU time of the thread that asks.
pub(crate) fn of_this_thread() -> io::Result<Duration> {
    time_of(Path::new("/proc/thread-self"))
}

/// Physical memory that a process holds (`VmRSS`), in bytes.
pub(crate) fn resident_memory(pid: u32) -> io::Result<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.map(|kib| kib * 1024).ok_or_else(|| io::Error::other("no VmRSS in /proc"))
}

/// From `schedstat`, which counts nanoseconds; a kernel without it has only the 10 ms ticks of `stat`.
fn time_of(task: &Path) -> io::Result<Duration> {
    if let Ok(text) = fs::read_to_string(task.join("schedstat"))
        && let Some(nanos) = text.split_whitespace().next().and_then(|field| field.parse().ok())
    {
        return Ok(Duration::from_nanos(nanos));
    }
    let stat = fs::read_to_string(task.join("stat"))?;
    // The name, in parentheses, may hold spaces; utime and stime are fields 14 and 15 (proc(5)).
    let fields = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace();
    let ticks: u64 = fields.skip(11).take(2).filter_map(|field| field.parse::<u64>().ok()).sum();
    Ok(Duration::from_millis(ticks * 10))
}
