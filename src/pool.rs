//! The only door to an HSM: worker threads that own its sessions, behind a bounded queue that knows
//! deadlines, and that is fair between workloads.
//!
//! One pool serves one HSM, so that a slow one never holds up a fast one. These parts share [`state::Shared`], where the
//! [`job`]s wait:
//!
//! - the async side, here: puts jobs into the queue and awaits their replies;
//! - [`worker`]s: each owns a session, takes jobs, reacts to what a call returned, and verifies each signature;
//! - the [`keeper`]: connects, and brings a lost HSM back;
//! - the [`watchdog`]: notices calls that do not return.
//!
//! What is signed comes as a [`SigningInput`], which only the checks in `hallmark-core` can make. No method here signs
//! bytes.

mod busy;
mod job;
mod judge;
mod keeper;
mod key;
mod queue;
mod reaction;
mod refusal;
mod settings;
mod state;
#[cfg(test)]
mod tests;
mod trial;
mod watchdog;
mod worker;

use std::{
    hash::Hash,
    sync::{Arc, Mutex},
    thread,
    time::{Duration, Instant},
};

use hallmark_core::{
    assertion::{SigningInput, ToBeSigned},
    error::Error,
    key::{HsmName, KeyId, KeySpec},
    ports::{Clock, Evidence, Hsm, HsmFault, HsmObject, HsmSession, NewKey, TokenFacts},
    public_key::PublicKey,
};
use tokio::sync::oneshot;

use self::{
    job::{Caller, Job, SignJob, TaskJob},
    state::Shared,
};

pub use self::{key::PoolKey, queue::Flow, settings::Settings};

/// What waits before an HSM.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Waiting {
    pub jobs: usize,
    /// Workloads that they are of; Hallmark's own count as one.
    pub flows: usize,
}

/// Sees what happens in a pool; for metrics. Called from the pool's threads, so it must not block.
pub trait Observer: Send + Sync + 'static {
    /// A call to the HSM returned something other than success.
    fn fault(&self, hsm: &HsmName, fault: &HsmFault);
    /// So many sessions are open.
    fn sessions(&self, hsm: &HsmName, open: usize);
    /// The HSM came up, or went down.
    fn up(&self, hsm: &HsmName, up: bool);
    /// A key was set aside.
    fn quarantined(&self, hsm: &HsmName, key: KeyId);
    /// Nothing but a new process will bring the HSM back: exit with code 75 for the supervisor.
    fn gave_up(&self, hsm: &HsmName, why: &str);
}

/// A signature that verified, over what was signed.
#[derive(Debug)]
pub struct Signed {
    pub to_be_signed: ToBeSigned,
    pub signature: Vec<u8>,
    pub timing: Timing,
}

/// Where the answer to a caller goes.
pub type Answer<T> = oneshot::Sender<Result<T, Error>>;

/// Where the time of one job went.
#[derive(Clone, Copy, Debug, Default)]
pub struct Timing {
    pub queued: Duration,
    pub hsm: Duration,
    pub verify: Duration,
    /// When the call to the HSM had returned.
    pub done: Option<Instant>,
}

/// The threads of one HSM, and the way to them. Dropping it stops them.
pub struct Pool {
    shared: Arc<Shared>,
    threads: Mutex<Vec<thread::JoinHandle<()>>>,
}

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Pool({})", self.shared.settings.hsm)
    }
}

impl Pool {
    /// Starts the threads. The HSM is connected in the background; until then requests get `HSM_UNAVAILABLE`.
    pub fn start(
        hsm: Arc<dyn Hsm>,
        settings: Settings,
        clock: Arc<dyn Clock>,
        observer: Arc<dyn Observer>,
    ) -> std::io::Result<Self> {
        let name = settings.hsm.clone();
        let workers = settings.workers;
        let shared = Arc::new(Shared::new(settings, observer));
        let mut threads = Vec::with_capacity(workers + 2);
        for index in 0..workers {
            let worker = worker::Worker::new(index, hsm.clone(), shared.clone(), clock.clone());
            threads.push(thread::Builder::new().name(format!("{name}-{index}")).spawn(move || worker.run())?);
        }
        let keeper = keeper::Keeper::new(hsm, shared.clone());
        threads.push(thread::Builder::new().name(format!("{name}-keeper")).spawn(move || keeper.run())?);
        let watched = shared.clone();
        threads.push(thread::Builder::new().name(format!("{name}-watch")).spawn(move || watchdog::run(&watched))?);
        Ok(Self { shared, threads: Mutex::new(threads) })
    }

    /// The line in which what `who` asks for waits: the same for the same, as long as this pool lives.
    pub fn flow(&self, who: impl Hash) -> Flow {
        self.shared.flow(who)
    }

    /// Signs `input` with `key` for Hallmark itself, verifies the signature with the published public key, and gives
    /// both back.
    ///
    /// Refuses at once what can't be done by `deadline`, and what an HSM that is down can't do at all.
    pub async fn sign(&self, key: Arc<PoolKey>, input: SigningInput, deadline: Instant) -> Result<Signed, Error> {
        // Nobody waits any more where this fails.
        self.sign_then(Flow::HOUSE, key, input, deadline, |result, answer| drop(answer.send(result))).await
    }

    /// As [`Pool::sign`], in the line of `flow`, and with `then` called on the worker's thread: it makes the answer of the result, then or later
    /// and wherever it likes, so that the caller is woken once. It is called for every input (on this thread where
    /// the HSM can't do it at all), and must not block.
    pub async fn sign_then<T: Send + 'static>(
        &self,
        flow: Flow,
        key: Arc<PoolKey>,
        input: SigningInput,
        deadline: Instant,
        then: impl FnOnce(Result<Signed, Error>, Answer<T>) + Send + 'static,
    ) -> Result<T, Error> {
        key.check_purpose(&input)?;
        let (answer, answered) = oneshot::channel();
        let reply = Box::new(Caller { answer, then });
        self.shared.submit(Job::Sign(SignJob { flow, key, input, deadline, queued_at: Instant::now(), reply }));
        tokio::select! {
            biased;
            answer = answered => answer.map_err(|_| Error::internal("a worker dropped its job"))?,
            () = tokio::time::sleep_until(deadline.into()) => Err(refusal::deadline_passed()),
            () = self.shared.ended() => Err(refusal::shutting_down()),
        }
    }

    /// Takes no more jobs, and answers those that wait or are under way: `SHUTTING_DOWN`.
    pub fn shut_down(&self) {
        self.shared.shut_down();
    }

    /// Refuses what [`Pool::sign`] would refuse at once, as far as can be known before. Changes nothing.
    pub fn check(&self, key: &PoolKey, deadline: Instant) -> Result<(), Error> {
        self.check_for(Flow::HOUSE, key, deadline)
    }

    /// The same for [`Pool::sign_then`].
    pub fn check_for(&self, flow: Flow, key: &PoolKey, deadline: Instant) -> Result<(), Error> {
        self.shared.check(flow, key.id, deadline)
    }

    /// What waits now.
    pub fn waiting(&self) -> Waiting {
        self.shared.waiting()
    }

    /// Makes a key pair on the HSM. RSA takes seconds.
    pub async fn generate(&self, cka_id: Vec<u8>, label: String, spec: KeySpec) -> Result<PublicKey, Error> {
        self.task(move |session| session.generate(&NewKey { cka_id: &cka_id, label: &label, spec })).await
    }

    /// Every key pair on the HSM.
    pub async fn list(&self) -> Result<Vec<HsmObject>, Error> {
        self.task(|session| session.list()).await
    }

    /// What the HSM says of the key's birth and protection.
    pub async fn evidence(&self, key: Arc<PoolKey>) -> Result<Evidence, Error> {
        self.task(move |session| session.evidence(&key.key_ref())).await
    }

    /// Destroys both objects of the pair, or what is left of it. `KEY_ABSENT` where nothing is.
    pub async fn destroy(&self, key: Arc<PoolKey>) -> Result<(), Error> {
        self.task(move |session| session.destroy(&key.key_ref())).await
    }

    /// Keys that are set aside, or were and have not signed since.
    pub fn quarantined(&self) -> Vec<KeyId> {
        self.shared.quarantined()
    }

    /// Says each time when the HSM comes up or goes down.
    pub fn watch_up(&self) -> tokio::sync::watch::Receiver<bool> {
        self.shared.watch_up()
    }

    /// Whether signatures may be asked for now: the breaker is closed.
    pub fn is_up(&self) -> bool {
        self.shared.is_up()
    }

    /// Resolves once it is known whether the HSM answers: the first try to connect has ended, well or not.
    pub async fn first_try(&self) {
        self.shared.tried().await;
    }

    /// When a signature was made and verified last.
    pub fn last_signed(&self) -> Option<Instant> {
        self.shared.last_signed()
    }

    /// What the token said of itself when it was connected last.
    pub fn facts(&self) -> Option<TokenFacts> {
        self.shared.facts()
    }

    /// Why the HSM is down, if it is.
    pub fn down_because(&self) -> Option<String> {
        self.shared.down_because()
    }

    /// Resolves once the HSM is up.
    pub async fn wait_until_up(&self) {
        let mut up = self.shared.watch_up();
        // An error means that the pool is gone; then nobody waits any more.
        let _ = up.wait_for(|up| *up).await;
    }

    /// Refuses what waits and ends the threads, whoever still holds the pool: at the end of the process none may be
    /// inside the HSM's library, which then takes itself apart. Blocks, for two seconds at most; `false` where a
    /// thread has not come back by then.
    pub fn stop(&self) -> bool {
        self.shared.shut_down();
        // Threads that are stuck inside the library can't be stopped; the process will end without them.
        let patience = Instant::now() + Duration::from_secs(2);
        let mut all = true;
        for thread in state::lock(&self.threads).drain(..) {
            while !thread.is_finished() && Instant::now() < patience {
                thread::park_timeout(Duration::from_millis(2));
            }
            match thread.is_finished() {
                true => drop(thread.join()),
                false => all = false,
            }
        }
        all
    }

    async fn task<T: Send + 'static>(
        &self,
        run: impl FnMut(&mut dyn HsmSession) -> Result<T, HsmFault> + Send + 'static,
    ) -> Result<T, Error> {
        let (reply, answer) = oneshot::channel();
        let deadline = Instant::now() + self.shared.settings.task_limit;
        self.shared.submit(Job::Task(TaskJob::new(run, reply, deadline)));
        tokio::select! {
            answer = answer => answer.map_err(|_| Error::internal("a worker dropped its task"))?,
            () = tokio::time::sleep(self.shared.settings.task_limit) => Err(refusal::task_overdue()),
            () = self.shared.ended() => Err(refusal::shutting_down()),
        }
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.stop();
    }
}
