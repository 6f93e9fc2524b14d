//! The process that has pcscd and the keys, and does what it is told.

use std::{
    fs::{self, File},
    io::{BufRead, BufReader, Write},
    path::Path,
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc::{Receiver, channel},
    thread,
    time::Duration,
};

use super::parts::Parts;

/// Ends with its standard input: when dropped, and when this process ends, however it does.
pub(super) struct Desk {
    child: Child,
    orders: Option<ChildStdin>,
    answers: Receiver<String>,
}

impl Desk {
    /// Starts it, with readers that are empty. Comes back when pcscd serves them.
    pub(super) fn start(parts: &Parts, folder: &Path, readers: usize) -> Self {
        let longest = folder.join("run/pcscd/pcscd.comm").as_os_str().len();
        assert!(longest < SOCKET_PATH, "a socket can't have so long a path: `{}`", folder.display());
        let log = File::create(folder.join("desk.log")).expect("a log file");
        // `unshare` becomes the desk, with the same process id.
        let mut command = Command::new("unshare");
        command.args([parts.namespace, "--"]).arg(&parts.program).arg("desk").arg(folder).arg(readers.to_string());
        command.arg(fs::read_link("/proc/self/ns/mnt").expect("this process' namespace"));
        command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(log);
        let mut child = command.spawn().expect("unshare (of util-linux)");
        let (send, answers) = channel();
        let stdout = BufReader::new(child.stdout.take().expect("a pipe"));
        thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|line| send.send(line)));
        let orders = child.stdin.take();
        let mut desk = Self { child, orders, answers };
        desk.expect_ok("start", folder);
        desk
    }

    /// Gives an order, and waits until it is done. Panics where it can't be.
    pub(super) fn order(&mut self, line: &str) {
        let orders = self.orders.as_mut().expect("a desk that was not ended");
        writeln!(orders, "{line}").unwrap_or_else(|error| panic!("the desk is gone, at `{line}`: {error}"));
        self.expect_ok(line, Path::new(""));
    }

    fn expect_ok(&mut self, order: &str, folder: &Path) {
        let answer = self.answers.recv_timeout(PATIENCE);
        if answer.as_deref() != Ok("ok") {
            let log = fs::read_to_string(folder.join("desk.log")).unwrap_or_default();
            panic!("the virtual YubiKey, at `{order}`: {answer:?}\n{log}");
        }
    }
}

impl Drop for Desk {
    fn drop(&mut self) {
        self.orders = None;
        let ended = std::iter::repeat_with(|| self.answers.recv_timeout(PATIENCE)).find(Result::is_err);
        // Its end closes the pipe; what hangs is killed, and the system kills what it had started.
        if ended != Some(Err(std::sync::mpsc::RecvTimeoutError::Disconnected)) {
            let _ = self.child.kill();
        }
        let _ = self.child.wait();
    }
}

/// Each order has bounds of its own, which are shorter.
const PATIENCE: Duration = Duration::from_secs(60);
/// `sun_path`, in bytes, with the zero at its end.
const SOCKET_PATH: usize = 108;
