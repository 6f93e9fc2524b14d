//! Starts the process that loads the module, reads along, and cuts it off where a call does not come back.

use std::{
    io::{BufRead, BufReader, Read},
    os::unix::process::ExitStatusExt,
    process::{Child, Command, ExitStatus, Stdio},
    sync::mpsc::{Receiver, RecvTimeoutError, channel},
    thread,
    time::{Duration, Instant},
};

use super::{super::Failure, inside::Inside};
use crate::hsm::pkcs11::survey::{self, End, Event, Step, Survey};

/// Asks the module all that can be asked, by as many processes as it takes. Gives what the module wrote by itself.
pub(super) fn ask(mut order: Inside, limit: Duration, survey: &mut Survey) -> Result<Vec<String>, Failure> {
    let mut said = Vec::new();
    for _ in 0..MOST_PROCESSES {
        let (step, end) = match ask_once(&order, limit, survey, &mut said)? {
            Asked::All => return Ok(said),
            Asked::Until(step, end) => (step, end),
        };
        survey.take(Event::Failed(survey::Failure { step: step.clone(), end }));
        let is_last = step.function == "C_Finalize";
        // Without these there is nothing more to ask; and a PIN is not tried twice, whatever came of it.
        let is_vain = ["dlopen", "C_Initialize", "C_Login"].contains(&step.function.as_str()) || survey.login.is_some();
        if is_last || is_vain {
            survey.complete = is_last;
            return Ok(said);
        }
        order.skip.push(step);
    }
    Ok(said)
}

enum Asked {
    All,
    /// This call did not come back.
    Until(Step, End),
}

fn ask_once(order: &Inside, limit: Duration, survey: &mut Survey, said: &mut Vec<String>) -> Result<Asked, Failure> {
    let mut child = start(order)?;
    let lines = child.stdout.take().map(read_lines);
    let words = child.stderr.take().map(read_lines);
    let asked = follow(lines.as_ref(), limit, survey);
    if matches!(asked, Followed::Silent(_)) {
        let _ = child.kill();
    }
    // Read to the end of the stream, which a process that the module left behind may hold open.
    while let Some(Ok(line)) = words.as_ref().map(|words| words.recv_timeout(LAST_WORDS)) {
        if said.len() < MOST_WORDS && !said.contains(&line) {
            said.push(line);
        }
    }
    let status = end(child);
    match asked {
        Followed::ToTheEnd => Ok(Asked::All),
        Followed::Silent(step) => {
            Ok(Asked::Until(step, End::Hung { millis: u64::try_from(limit.as_millis()).unwrap_or(u64::MAX) }))
        }
        Followed::Broken(Some(step)) => Ok(Asked::Until(step, End::Crashed { how: how(status) })),
        Followed::Broken(None) => Err(Failure::new("the process that was to load the module did not start")
            .because(how(status))
            .because(said.join("\n"))),
    }
}

fn start(order: &Inside) -> Result<Child, Failure> {
    let failed = |error: &dyn std::error::Error| Failure::new("can't start a process for the module").caused_by(error);
    let program = std::env::current_exe().map_err(|error| failed(&error))?;
    let json = serde_json::to_string(order).map_err(|error| failed(&error))?;
    let mut command = Command::new(program);
    command.args(["hsm", "probe"]).arg(&order.module).arg("--inside").arg(json);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().map_err(|error| failed(&error))
}

enum Followed {
    ToTheEnd,
    /// No word within the limit after this call was announced.
    Silent(Step),
    /// It ended; the call that was announced last.
    Broken(Option<Step>),
}

fn follow(lines: Option<&Receiver<String>>, limit: Duration, survey: &mut Survey) -> Followed {
    let mut under_way = None;
    let mut until = Instant::now() + limit.max(START);
    while let Some(lines) = lines {
        let line = match lines.recv_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(line) => line,
            Err(RecvTimeoutError::Timeout) => return under_way.map_or(Followed::Broken(None), Followed::Silent),
            Err(RecvTimeoutError::Disconnected) => break,
        };
        // A module that writes there by itself is not understood.
        let Ok(event) = serde_json::from_str::<Event>(&line) else { continue };
        match &event {
            Event::Begin(step) => {
                under_way = Some(step.clone());
                until = Instant::now() + limit;
            }
            Event::End => {
                survey.take(event);
                return Followed::ToTheEnd;
            }
            _ => {}
        }
        survey.take(event);
    }
    Followed::Broken(under_way)
}

/// Lines as they come, from a thread of their own: reading them has no time limit.
fn read_lines(stream: impl Read + Send + 'static) -> Receiver<String> {
    let (send, lines) = channel();
    thread::spawn(move || {
        let reader = BufReader::new(stream.take(MOST_BYTES)).split(b'\n');
        let lines = reader.map_while(Result::ok).map(|line| String::from_utf8_lossy(&line).into_owned());
        // Nobody listens any more once the process was given up.
        lines.into_iter().try_for_each(|line| send.send(line))
    });
    lines
}

/// Ends the process, and says how it ended. One that does not even die within a second is left to the system.
fn end(mut child: Child) -> Option<ExitStatus> {
    // One that is about to end by itself is past being killed: how it ended stays as it was.
    let _ = child.kill();
    let (send, status) = channel();
    thread::spawn(move || send.send(child.wait()));
    status.recv_timeout(ENDING).ok()?.ok()
}

fn how(status: Option<ExitStatus>) -> String {
    match status.map(|status| (status.signal(), status.code())) {
        Some((Some(signal), _)) => match SIGNALS.iter().find(|(number, _)| *number == signal) {
            Some((_, name)) => format!("signal {signal}, {name}"),
            None => format!("signal {signal}"),
        },
        Some((None, Some(code))) => format!("it ended the process with exit code {code}"),
        _ => "its process is gone".to_owned(),
    }
}

/// Those that a library dies of.
const SIGNALS: &[(i32, &str)] = &[
    (4, "illegal instruction"),
    (6, "abort"),
    (7, "bus error"),
    (8, "arithmetic"),
    (9, "killed"),
    (11, "segmentation fault"),
    (31, "forbidden system call"),
];

/// A module of which so many calls do not come back is not asked more.
const MOST_PROCESSES: usize = 8;
/// Until the first call is announced: starting a program on a busy machine, reading a configuration, asking a database.
const START: Duration = Duration::from_secs(30);
/// For a process that was told to end, or is about to.
const ENDING: Duration = Duration::from_secs(1);
const LAST_WORDS: Duration = Duration::from_millis(200);
const MOST_WORDS: usize = 20;
/// Of each stream; a module may write without end.
const MOST_BYTES: u64 = 16 << 20;
