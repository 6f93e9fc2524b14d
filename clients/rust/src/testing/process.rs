//! The child process: its first line, its last words, its end. Through std's channel: there may be no runtime here.

use std::{
    ffi::OsString,
    io::{self, BufRead, BufReader, Read},
    path::{Path, PathBuf},
    process::{Child, ChildStderr, ChildStdin, ChildStdout, Command, Stdio},
    sync::{
        Arc, Mutex, PoisonError,
        mpsc::{Receiver, RecvTimeoutError, Sender, channel},
    },
    thread,
    time::Duration,
};

use super::StartError;

/// The process, ended when this is dropped.
#[derive(Debug)]
pub(super) struct Process {
    binary: PathBuf,
    child: Child,
    stdin: Option<ChildStdin>,
    output: Receiver<Output>,
    stderr: Arc<Mutex<String>>,
    stderr_ended: Receiver<()>,
}

enum Output {
    Line(String),
    End,
}

impl Process {
    pub(super) fn start(binary: &Path, arguments: &[OsString]) -> Result<Self, StartError> {
        let fail = |source| StartError::Spawn { binary: binary.to_owned(), source };
        let mut command = Command::new(binary);
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().map_err(fail)?;
        let (send_output, output) = channel();
        let (send_stderr_end, stderr_ended) = channel();
        let stderr = Arc::new(Mutex::new(String::new()));
        if let Some(pipe) = child.stdout.take() {
            thread::spawn(move || read_output(pipe, &send_output));
        }
        if let Some(pipe) = child.stderr.take() {
            let kept = stderr.clone();
            thread::spawn(move || {
                keep_last_words(pipe, &kept);
                // Nobody may wait any more.
                let _ = send_stderr_end.send(());
            });
        }
        let stdin = child.stdin.take();
        Ok(Self { binary: binary.to_owned(), child, stdin, output, stderr, stderr_ended })
    }

    /// Waits until it says that it is ready.
    pub(super) fn first_line(&mut self, timeout: Duration) -> Result<String, StartError> {
        match self.output.recv_timeout(timeout) {
            Ok(Output::Line(line)) => Ok(line),
            Ok(Output::End) | Err(RecvTimeoutError::Disconnected) => Err(self.ended()),
            Err(RecvTimeoutError::Timeout) => Err(StartError::NotReady { waited: timeout, stderr: self.last_words() }),
        }
    }

    pub(super) fn id(&self) -> u32 {
        self.child.id()
    }

    fn ended(&mut self) -> StartError {
        match self.child.wait() {
            Ok(status) => StartError::Ended { status, stderr: self.last_words() },
            Err(source) => StartError::Spawn { binary: self.binary.clone(), source },
        }
    }

    fn last_words(&self) -> String {
        // Its end may still be on the way through the pipe.
        let _ = self.stderr_ended.recv_timeout(Duration::from_millis(500));
        self.stderr.lock().unwrap_or_else(PoisonError::into_inner).trim().to_owned()
    }
}

impl Drop for Process {
    /// Closing its standard input asks it to end, the end of its output says that it did; it is killed if it does not.
    fn drop(&mut self) {
        drop(self.stdin.take());
        loop {
            match self.output.recv_timeout(STOP_TIMEOUT) {
                Ok(Output::Line(_)) => {}
                Ok(Output::End) | Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {
                    // An error means that it ended meanwhile.
                    let _ = self.child.kill();
                    break;
                }
            }
        }
        // There is nobody to tell, and nothing left to do.
        let _ = self.child.wait();
    }
}

/// The first line, and the end. What comes between is thrown away, so that the pipe never fills.
fn read_output(pipe: ChildStdout, output: &Sender<Output>) {
    let mut reader = BufReader::new(pipe);
    let mut line = String::new();
    if reader.read_line(&mut line).is_ok_and(|length| length > 0) && output.send(Output::Line(line)).is_err() {
        return;
    }
    let _ = io::copy(&mut reader, &mut io::sink());
    let _ = output.send(Output::End);
}

fn keep_last_words(mut pipe: ChildStderr, kept: &Mutex<String>) {
    let mut chunk = [0; 4096];
    while let Ok(length @ 1..) = pipe.read(&mut chunk) {
        let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.push_str(&String::from_utf8_lossy(&chunk[..length]));
        let surplus = kept.len().saturating_sub(LAST_WORDS);
        let cut = (surplus..=kept.len()).find(|at| kept.is_char_boundary(*at)).unwrap_or(0);
        kept.drain(..cut);
    }
}

/// Longer than the server waits for requests under way.
const STOP_TIMEOUT: Duration = Duration::from_secs(30);
const LAST_WORDS: usize = 8 * 1024;
