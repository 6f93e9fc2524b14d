//! A clock that runs fast, the same for every program of a soak: the wall clock, the monotonic one, and all timers.

use std::{
    ffi::OsString,
    path::PathBuf,
    process::Command,
    time::{Duration, Instant},
};

use rustix::process::geteuid;

use crate::support::{PATIENCE, Process, faketime::are_installed};

/// How many times as fast. More, and what the machine needs for a handshake looks like a fault.
pub(super) const SPEED: u32 = 20;

/// What the fast clock says, for the test itself, which lives by the real one.
#[derive(Clone, Copy)]
pub(super) struct Clock {
    began: Instant,
    began_ms: i64,
}

impl Clock {
    /// Milliseconds since 1970.
    pub(super) fn now_ms(self) -> i64 {
        self.began_ms + i64::try_from(faked(self.began.elapsed()).as_millis()).unwrap()
    }
}

/// How long that is by the fast clock.
pub(super) fn faked(real: Duration) -> Duration {
    real * SPEED
}

/// How long the fast clock takes for it.
pub(super) fn real(faked: Duration) -> Duration {
    faked / SPEED
}

/// One `faketime` wrapper, whose clock all programs share that [`FastClock::apply`] was told of.
pub(super) struct FastClock {
    wrapper: Process,
    pub(super) clock: Clock,
    env: Vec<(String, OsString)>,
    futex: PathBuf,
    _folder: tempfile::TempDir,
}

impl FastClock {
    /// `None`, saying why, where a part is missing; a failure where `CI=true`.
    pub(super) fn start() -> Option<Self> {
        if !are_installed(&["faketime", "cc"]) {
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let futex = compile(folder.path().join("futex.so"));
        let wrapper = Process::start("faketime", folder.path(), "env", |command| {
            // PostgreSQL, which runs as nobody where we are root, could not open what root owns.
            if geteuid().is_root() {
                command.args(["setpriv", "--reuid=65534", "--clear-groups", "--"]);
            }
            let speed = format!("+0 x{SPEED}");
            // It shows what programs under it need, and stays until its standard input ends.
            command.args(["faketime", "-f", &speed, "sh", "-c", "env; date +now=%s%3N; read _"]);
        });
        let mut env = Vec::new();
        let clock = loop {
            let line = wrapper.line();
            let Some((name, value)) = line.split_once('=') else { continue };
            match name {
                "now" => break Clock { began: Instant::now(), began_ms: value.parse().unwrap() },
                "FAKETIME" | "FAKETIME_SHARED" | "LD_PRELOAD" => env.push((name.to_owned(), value.into())),
                _ => {}
            }
        };
        // What a file says of its times is not to depend on who asks.
        env.push(("NO_FAKE_STAT".to_owned(), "1".into()));
        Some(Self { wrapper, clock, env, futex, _folder: folder })
    }

    /// Has the program live by this clock.
    pub(super) fn apply(&self, command: &mut Command) {
        for (name, value) in self.env() {
            let mut all = OsString::new();
            if name == "LD_PRELOAD" {
                all.push(&self.futex);
                all.push(":");
            }
            all.push(value);
            command.env(name, all);
        }
    }

    /// The same for a program that is not Rust's.
    pub(super) fn env(&self) -> &[(String, OsString)] {
        &self.env
    }
}

impl Drop for FastClock {
    /// In order, for the wrapper then removes what is shared.
    fn drop(&mut self) {
        self.wrapper.close_stdin();
        self.wrapper.wait(PATIENCE);
    }
}

fn compile(library: PathBuf) -> PathBuf {
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/soak/futex.c");
    let done = Command::new("cc").args(["-shared", "-fPIC", "-O2", "-o"]).arg(&library).arg(source).output().unwrap();
    assert!(done.status.success(), "cc: {}", String::from_utf8_lossy(&done.stderr));
    library
}
