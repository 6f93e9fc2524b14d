//! A child process: its log, its lines, its end.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, ExitStatus, Stdio},
    sync::{
        Mutex,
        mpsc::{Receiver, channel},
    },
    thread,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};

use super::{PATIENCE, eventually_blocking};

/// Killed when dropped, and by the system should this process die first. Its standard error goes to a file, which is
/// shown when the test fails.
pub(crate) struct Process {
    child: Child,
    log: PathBuf,
    lines: Mutex<Receiver<String>>,
    stdin: Option<ChildStdin>,
}

impl Process {
    /// Starts `program` with a log of that `name` in `folder`.
    pub(crate) fn start(
        name: &str,
        folder: &Path,
        program: impl AsRef<Path>,
        set_up: impl FnOnce(&mut Command),
    ) -> Self {
        let log = (0..).map(|n| folder.join(format!("{name}.{n}.log"))).find(|path| !path.exists()).unwrap();
        // `setpriv` becomes the program itself, with the same process id.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).arg(program.as_ref());
        // Tests mostly run as root in a container.
        command.env("HALLMARK_ALLOW_ROOT", "true");
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(File::create(&log).unwrap());
        set_up(&mut command);
        let mut child = command.spawn().expect("setpriv (of util-linux) starts programs");
        let (send, lines) = channel();
        let stdout = BufReader::new(child.stdout.take().unwrap());
        thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|line| send.send(line)));
        let stdin = child.stdin.take();
        Self { child, log, lines: Mutex::new(lines), stdin }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The next line of standard output.
    pub(crate) fn line(&self) -> String {
        self.lines
            .lock()
            .unwrap()
            .recv_timeout(PATIENCE)
            .unwrap_or_else(|error| panic!("no line ({error}):\n{}", self.log()))
    }

    /// All lines from now on, for whoever reads them beside this thread.
    pub(crate) fn take_lines(&mut self) -> Receiver<String> {
        std::mem::replace(self.lines.get_mut().unwrap(), channel().1)
    }

    /// What it wrote to standard error so far.
    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// The first line of the log that holds `text`, once it is there. Panics where the process ends before.
    pub(crate) fn wait_for_log(&mut self, text: &str) -> String {
        eventually_blocking(&format!("`{text}` in the log"), PATIENCE, || {
            let ended = self.child.try_wait().unwrap();
            let log = self.log();
            let found = log.lines().find(|line| line.contains(text)).map(str::to_owned);
            assert!(found.is_some() || ended.is_none(), "it ended ({ended:?}) without `{text}`:\n{log}");
            found
        })
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_raw(i32::try_from(self.pid()).unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
    }

    pub(crate) fn close_stdin(&mut self) {
        self.stdin = None;
    }

    /// Waits for its end.
    pub(crate) fn wait(&mut self, limit: Duration) -> ExitStatus {
        eventually_blocking("the process ends", limit, || self.child.try_wait().unwrap())
    }

    /// SIGTERM, and its end.
    pub(crate) fn stop(&mut self) -> ExitStatus {
        self.signal(Signal::TERM);
        self.wait(PATIENCE)
    }

    /// As `kill -9`.
    pub(crate) fn kill(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if thread::panicking() {
            let log = self.log();
            let lines: Vec<_> = log.lines().collect();
            let tail = &lines[lines.len().saturating_sub(LINES_SHOWN)..];
            eprintln!("--- {} (the last lines)\n{}\n---", self.log.display(), tail.join("\n"));
        }
    }
}

const LINES_SHOWN: usize = 30;
