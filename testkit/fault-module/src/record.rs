//! What the module saw, in files that outlast the process: a test reads them while the program runs, or after its end.
//!
//! `calls.PID` holds two numbers of eight bytes for each function, in the order of [`Function::ALL`]: how often it was
//! called, and how often the plan changed what became of that. `logins` has a line for each `C_Login` that ended, with
//! what it returned, in hex.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::FileExt,
    path::Path,
    sync::{Mutex, PoisonError},
};

use cryptoki_sys::CK_RV;

use crate::functions::Function;

/// How often something happened at a function.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Calls of the program.
    pub calls: u64,
    /// Those in which a rule of the plan was used.
    pub faults: u64,
}

/// What all processes together called at `function`. Zero where there was none yet.
pub fn seen(folder: &Path, function: Function) -> io::Result<Seen> {
    let mut all = Seen::default();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        if path.file_stem().is_some_and(|stem| stem == "calls") {
            let bytes = fs::read(&path)?;
            let number = |which: usize| {
                let at = (function as usize * 2 + which) * 8;
                bytes.get(at..at + 8).and_then(|bytes| bytes.try_into().ok()).map_or(0, u64::from_le_bytes)
            };
            all.calls += number(0);
            all.faults += number(1);
        }
    }
    Ok(all)
}

/// What each `C_Login` returned, over all processes.
pub fn logins(folder: &Path) -> io::Result<Vec<CK_RV>> {
    match fs::read_to_string(folder.join("logins")) {
        Ok(text) => Ok(text.lines().filter_map(|line| CK_RV::from_str_radix(line, 16).ok()).collect()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(error),
    }
}

/// The writing side: of one process.
pub(crate) struct Recorder {
    file: File,
    counts: Mutex<Vec<u64>>,
    logins: File,
}

impl Recorder {
    pub(crate) fn new(folder: &Path) -> io::Result<Self> {
        let file = File::create(folder.join(format!("calls.{}", std::process::id())))?;
        let logins = OpenOptions::new().append(true).create(true).open(folder.join("logins"))?;
        Ok(Self { file, counts: Mutex::new(vec![0; Function::ALL.len() * 2]), logins })
    }

    pub(crate) fn called(&self, function: Function) {
        self.count(function as usize * 2);
    }

    pub(crate) fn faulted(&self, function: Function) {
        self.count(function as usize * 2 + 1);
    }

    pub(crate) fn login_ended(&self, answer: CK_RV) {
        // One write, so that lines of several threads do not mix. A test that misses a line fails.
        let _ = (&self.logins).write_all(format!("{answer:x}\n").as_bytes());
    }

    fn count(&self, index: usize) {
        let mut counts = self.counts.lock().unwrap_or_else(PoisonError::into_inner);
        counts[index] += 1;
        // Under the lock: a smaller number must not be written after a greater one.
        let _ = self.file.write_at(&counts[index].to_le_bytes(), index as u64 * 8);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_counted_is_read_while_the_process_lives() {
        let folder = tempfile::tempdir().unwrap();
        let recorder = Recorder::new(folder.path()).unwrap();
        (0..3).for_each(|_| recorder.called(Function::C_Sign));
        recorder.faulted(Function::C_Sign);
        recorder.login_ended(0xa0);
        assert_eq!(seen(folder.path(), Function::C_Sign).unwrap(), Seen { calls: 3, faults: 1 });
        assert_eq!(seen(folder.path(), Function::C_Login).unwrap(), Seen::default());
        assert_eq!(logins(folder.path()).unwrap(), [0xa0]);
    }
}
