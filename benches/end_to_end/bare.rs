//! What the token can do alone: a `C_SignInit`/`C_Sign` loop in a process of its own, with as many threads as the
//! server has workers.
//!
//! The loop runs in a child of the benchmark, because SoftHSM takes its configuration from the environment. Each line
//! on its standard input asks for one measurement, each line on its standard output answers one.

use std::{
    error::Error,
    fs,
    io::{self, BufRead, BufReader, Write},
    path::{Path, PathBuf},
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use aws_lc_rs::digest;
use cryptoki::{
    context::{CInitializeArgs, CInitializeFlags, Pkcs11},
    mechanism::Mechanism,
    object::{Attribute, ObjectClass, ObjectHandle},
    session::{Session, UserType},
    types::AuthPin,
};
use hallmark_core::key::Alg;
use serde::{Deserialize, Serialize};

use crate::{cpu, sandbox::Sandbox, timing::Window};

/// The arguments of the child.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct BareArgs {
    #[arg(long, hide = true, requires = "pin", requires = "threads")]
    bare: Option<PathBuf>,
    #[arg(long, hide = true)]
    pin: Option<PathBuf>,
    #[arg(long, hide = true)]
    threads: Option<usize>,
}

/// The keys to sign with, in turn, and how long their messages are.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Task {
    pub(crate) alg: Alg,
    pub(crate) cka_ids: Vec<Vec<u8>>,
    pub(crate) message_len: usize,
}

/// What the loop reached.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Reached {
    pub(crate) signatures: u64,
    pub(crate) per_second: f64,
    /// CPU time for one signature, in microseconds.
    pub(crate) cpu_micros: f64,
}

#[derive(Serialize, Deserialize)]
struct Question {
    task: Task,
    window: Window,
}

/// The loop, seen from the benchmark.
pub(crate) struct Bare {
    child: Child,
    questions: ChildStdin,
    answers: BufReader<ChildStdout>,
}

impl Bare {
    /// Starts the child on the sandbox's token.
    pub(crate) fn start(sandbox: &Sandbox, threads: usize) -> Result<Self, Box<dyn Error>> {
        let mut command = Command::new(std::env::current_exe()?);
        command.arg("--bare").arg(sandbox.module()).arg("--pin").arg(sandbox.pin());
        command.arg("--threads").arg(threads.to_string());
        command.env("SOFTHSM2_CONF", sandbox.softhsm_conf()).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn()?;
        let (questions, answers) = (child.stdin.take(), child.stdout.take());
        let (Some(questions), Some(answers)) = (questions, answers) else { return Err("no pipes".into()) };
        Ok(Self { child, questions, answers: BufReader::new(answers) })
    }

    pub(crate) fn measure(&mut self, task: &Task, window: Window) -> Result<Reached, Box<dyn Error>> {
        let question = Question { task: task.clone(), window };
        writeln!(self.questions, "{}", serde_json::to_string(&question)?)?;
        let mut answer = String::new();
        self.answers.read_line(&mut answer)?;
        serde_json::from_str(&answer).map_err(|error| format!("the bare loop failed: {error}: {answer}").into())
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl BareArgs {
    /// Whether this process is the child.
    pub(crate) fn is_child(&self) -> bool {
        self.bare.is_some()
    }

    /// The child's life: answers until its standard input ends.
    pub(crate) fn serve(&self) -> Result<(), Box<dyn Error>> {
        let (Some(module), Some(pin), Some(threads)) = (&self.bare, &self.pin, self.threads) else {
            return Err("--bare needs --pin and --threads".into());
        };
        let mut sessions = open_sessions(module, fs::read_to_string(pin)?.trim_end(), threads)?;
        for line in io::stdin().lock().lines() {
            let Question { task, window } = serde_json::from_str(&line?)?;
            let reached = measure(&mut sessions, &task, window)?;
            println!("{}", serde_json::to_string(&reached)?);
        }
        Ok(())
    }
}

fn open_sessions(module: &Path, pin: &str, count: usize) -> Result<Vec<Session>, Box<dyn Error>> {
    let library = Pkcs11::new(module)?;
    library.initialize(CInitializeArgs::new(CInitializeFlags::OS_LOCKING_OK))?;
    let slot = library.get_slots_with_initialized_token()?.into_iter().next().ok_or("no token")?;
    let sessions: Vec<_> = (0..count).map(|_| library.open_ro_session(slot)).collect::<Result<_, _>>()?;
    // Login is of the application: one session is enough.
    sessions.first().ok_or("no thread")?.login(UserType::User, Some(&AuthPin::new(pin.into())))?;
    Ok(sessions)
}

fn measure(sessions: &mut [Session], task: &Task, window: Window) -> Result<Reached, Box<dyn Error>> {
    let session = sessions.first().ok_or("no session")?;
    let keys = task.cka_ids.iter().map(|cka_id| find(session, cka_id)).collect::<Result<Vec<_>, _>>()?;
    let keys = keys.as_slice();
    let start = Instant::now();
    let outcomes: Vec<_> = thread::scope(|scope| {
        let loops: Vec<_> = sessions
            .iter_mut()
            .map(|session| scope.spawn(move || sign_for(session, keys, task, start, window)))
            .collect();
        loops.into_iter().map(|thread| thread.join().map_err(|_| "a thread panicked".to_owned())?).collect()
    });
    let done: Vec<(u64, Duration)> = outcomes.into_iter().collect::<Result<_, String>>()?;
    let signatures = done.iter().map(|(count, _)| count).sum();
    let cpu: Duration = done.iter().map(|(_, cpu)| cpu).sum();
    Ok(Reached {
        signatures,
        per_second: signatures as f64 / window.length.as_secs_f64(),
        cpu_micros: cpu.as_secs_f64() * 1e6 / signatures as f64,
    })
}

/// Signs until the window closes; counts what falls into it.
fn sign_for(
    session: &Session,
    keys: &[ObjectHandle],
    task: &Task,
    start: Instant,
    window: Window,
) -> Result<(u64, Duration), String> {
    let (mechanism, hash) = recipe(task.alg).ok_or_else(|| format!("no bare loop for {}", task.alg))?;
    let mut message = vec![b'a'; task.message_len];
    let (opens, closes) = (start + window.warm_up, start + window.warm_up + window.length);
    let (mut signatures, mut made) = (0_u64, 0_u64);
    let mut before = None;
    let cpu = || cpu::of_this_thread().map_err(|error| error.to_string());
    for key in keys.iter().cycle() {
        let now = Instant::now();
        if now >= closes {
            break;
        }
        if now >= opens && before.is_none() {
            before = Some(cpu()?);
        }
        made += 1;
        message[..8].copy_from_slice(&made.to_le_bytes());
        let signed = match hash {
            Some(hash) => session.sign(&mechanism, *key, digest::digest(hash, &message).as_ref()),
            None => session.sign(&mechanism, *key, &message),
        };
        signed.map_err(|error| error.to_string())?;
        signatures += u64::from(before.is_some());
    }
    Ok((signatures, cpu()?.saturating_sub(before.unwrap_or_default())))
}

fn find(session: &Session, cka_id: &[u8]) -> Result<ObjectHandle, Box<dyn Error>> {
    let template = [Attribute::Class(ObjectClass::PRIVATE_KEY), Attribute::Id(cka_id.to_vec())];
    match session.find_objects(&template)?.as_slice() {
        [key] => Ok(*key),
        found => Err(format!("{} private keys match", found.len()).into()),
    }
}

/// How SoftHSM 2.6 signs with `alg`: it hashes for RSA, and for ECDSA it wants the hash.
fn recipe(alg: Alg) -> Option<(Mechanism<'static>, Option<&'static digest::Algorithm>)> {
    match alg {
        Alg::RS384 => Some((Mechanism::Sha384RsaPkcs, None)),
        Alg::ES256 => Some((Mechanism::Ecdsa, Some(&digest::SHA256))),
        Alg::ES384 => Some((Mechanism::Ecdsa, Some(&digest::SHA384))),
        _ => None,
    }
}
