//! Debian's `faketime`: programs that live by another clock than ours.

use std::{
    env, fs,
    path::PathBuf,
    process::{Command, Output},
};

/// Whether all of these can be run. Where one is missing it says so, and a test that needs it is not run; with `CI=true`
/// that is a failure.
pub(crate) fn are_installed(programs: &[&str]) -> bool {
    let missing = programs.iter().find(|program| !is_installed(program));
    if let Some(program) = missing {
        eprintln!("not run: `{program}` is not installed\nhint: make setup");
        assert_ne!(env::var("CI").as_deref(), Ok("true"), "`{program}` is not installed: make setup");
    }
    missing.is_none()
}

fn is_installed(program: &str) -> bool {
    env::split_paths(&env::var_os("PATH").unwrap_or_default()).any(|folder| folder.join(program).exists())
}

/// A wall clock that can be set while programs run by it. Their monotonic clock is the real one.
pub(crate) struct WallClock {
    library: String,
    /// What the library reads at each look at the clock.
    offset: PathBuf,
    folder: tempfile::TempDir,
}

impl WallClock {
    /// It is right at first. `None` where `faketime` is missing.
    pub(crate) fn new() -> Option<Self> {
        if !are_installed(&["faketime"]) {
            return None;
        }
        // It shows what programs under it need; `-m`: for programs with threads.
        let Output { stdout, .. } = Command::new("faketime").args(["-m", "-f", "+0", "env"]).output().unwrap();
        let shown = String::from_utf8(stdout).unwrap();
        let library = shown.lines().find_map(|line| line.strip_prefix("LD_PRELOAD=")).unwrap().to_owned();
        let folder = tempfile::tempdir().unwrap();
        let this = Self { library, offset: folder.path().join("offset"), folder };
        this.set(0);
        Some(this)
    }

    /// Has the program live by this clock.
    pub(crate) fn apply(&self, command: &mut Command) {
        command.env("LD_PRELOAD", &self.library).env("FAKETIME_TIMESTAMP_FILE", &self.offset);
        // Else it is read every ten seconds.
        command.env("FAKETIME_NO_CACHE", "1");
        command.env("FAKETIME_DONT_FAKE_MONOTONIC", "1").env("NO_FAKE_STAT", "1");
    }

    /// Sets it to so many seconds before or after the right time.
    pub(crate) fn set(&self, seconds: i64) {
        let fresh = self.folder.path().join("offset.new");
        fs::write(&fresh, format!("{seconds:+}\n")).unwrap();
        fs::rename(fresh, &self.offset).unwrap();
    }
}
