//! The only place where concrete types meet: starts the server from a configuration, and stops it.

mod bearers;
mod build;
mod chores;
mod clock;
mod disk;
mod fronts;
mod hsms;
mod local;
mod observe;
mod outside;
mod peek;
mod role_jwks;
mod settings;

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use hallmark_core::client::Client;
use tokio::{sync::Notify, task::JoinSet};
use tokio_util::sync::CancellationToken;

use self::build::Built;
pub use self::{
    build::StartError,
    local::{local_ledger, local_token},
    peek::{CustodyKey, custody_keys, pin_is_marked},
    role_jwks::{ServingJwks, start_jwks},
};
use crate::config::{self, Config};

/// Where the server listens: as configured, or as the system chose for port 0.
#[derive(Clone, Debug)]
pub struct Addresses {
    pub grpc: Option<SocketAddr>,
    pub unix: Option<PathBuf>,
    pub jwks: SocketAddr,
    pub metrics: Option<SocketAddr>,
}

/// A server that runs.
#[derive(Debug)]
pub struct Running {
    built: Built,
    addresses: Addresses,
    /// Stops accepting and ends streams; what is under way is answered.
    draining: CancellationToken,
    /// Ends everything else.
    end: CancellationToken,
    fronts: JoinSet<()>,
    chores: JoinSet<()>,
    hopeless: Arc<Hopeless>,
    config_file: Option<PathBuf>,
}

/// An HSM that only a new process can bring back.
#[derive(Debug, Default)]
pub(crate) struct Hopeless {
    is: AtomicBool,
    woken: Notify,
}

impl Hopeless {
    fn declare(&self) {
        self.is.store(true, Ordering::SeqCst);
        self.woken.notify_one();
    }
}

/// How a server ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// As it was told to.
    Told,
    /// For an HSM that only a new process can bring back.
    Hopeless,
}

/// Starts everything. The HSMs are connected in the background: the server answers, and says so, while they are not.
pub async fn start(config: &Config) -> Result<Running, StartError> {
    let hopeless = Arc::new(Hopeless::default());
    let mut built = Built::new(config, &hopeless).await?;
    let (draining, end) = (CancellationToken::new(), CancellationToken::new());
    let (mut fronts, mut chores) = (JoinSet::new(), JoinSet::new());
    let fronts_started = match fronts::fronts(config, &mut built, &draining, &end, &mut fronts).await {
        Ok(started) => started,
        Err(error) => {
            // A login that is cut off with the process counts as a PIN tried and not accepted: let it end.
            end.cancel();
            built.close().await;
            return Err(error);
        }
    };
    let Built { keys, context, rotation, metrics, .. } = &built;
    let every = chores::look_every(config.store.lease);
    chores.spawn(chores::watch_store(keys.clone(), rotation.clone(), metrics.clone(), every, end.clone()));
    chores.spawn(chores::report_health(built.readiness.clone(), fronts_started.reporter, end.clone()));
    chores.spawn(chores::make_custody_keys(context.clone(), keys.clone(), end.clone()));
    chores.spawn(rotation.clone().run(end.clone()));
    chores.spawn(built.checkpoints(config).run(end.clone()));
    let Built { followers, publisher, store, .. } = &built;
    let (followers, publisher, instance) = (followers.clone(), publisher.clone(), config.instance.id.clone());
    let share = chores::share_followers(followers, publisher, store.clone(), instance, metrics.clone(), end.clone());
    chores.spawn(share);
    let addresses = fronts_started.addresses;
    tracing::info!(?addresses, instance = config.instance.id, "serving");
    Ok(Running { built, addresses, draining, end, fronts, chores, hopeless, config_file: None })
}

impl Running {
    /// Where it listens.
    pub fn addresses(&self) -> &Addresses {
        &self.addresses
    }

    /// The URL under which an authorization server finds the client's keys.
    pub fn jwks_url(&self, client: &Client) -> String {
        self.built.publisher.url(client)
    }

    /// Resolves once keys that are due are made and a signature has verified, or says why that took too long.
    pub async fn wait_until_ready(&self, patience: Duration) -> Result<(), String> {
        let ready = async {
            loop {
                match self.built.readiness.sign().await {
                    Ok(()) if self.built.rotation.is_provisioned() => return,
                    Ok(()) => tracing::debug!("keys are still being made"),
                    Err(why) => tracing::debug!(why, "not ready yet"),
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        match tokio::time::timeout(patience, ready).await {
            Ok(()) => Ok(()),
            Err(_) => {
                Err(self.built.readiness.sign().await.err().unwrap_or_else(|| "keys are still being made".into()))
            }
        }
    }

    /// Says which file [`Running::reload`] reads.
    pub fn reload_from(&mut self, config: PathBuf) {
        self.config_file = Some(config);
    }

    /// Takes clients, workloads and operators anew from the configuration, whole or not at all, and makes the keys that
    /// are due for them.
    pub async fn reload(&mut self) {
        let Some(file) = &self.config_file else { return };
        let config = match config::load(file) {
            Ok(config) => config,
            Err(error) => {
                tracing::error!(%error, "the configuration was not taken; the old one goes on");
                return;
            }
        };
        if let Some(what) = self.built.needs_restart(&config) {
            tracing::error!(what, "the configuration was not taken: this change needs a restart");
            return;
        }
        if let Err(error) = self.built.promise(&config.clients).await {
            tracing::error!(%error, "the configuration was not taken: the key store can't be written");
            return;
        }
        self.built.context.registry.replace(settings::registered(&config));
        match self.built.keys.reload().await {
            // A target of its own: `hallmark dev`, quiet otherwise, says this too.
            Ok(()) => tracing::info!(target: "hallmark::app::reload", "configuration taken"),
            Err(error) => tracing::error!(%error, "configuration taken, but the keys could not be read again"),
        }
        self.built.rotation.wake();
    }

    /// Resolves when an HSM needs a new process.
    pub async fn gave_up(&self) {
        while !self.hopeless.is.load(Ordering::SeqCst) {
            self.hopeless.woken.notified().await;
        }
    }

    /// Answers what is under way, for at most `grace`, then ends everything.
    ///
    /// What the HSM has not done shortly before the end of the grace is answered too: `SHUTTING_DOWN`.
    pub async fn stop(mut self, grace: Duration) -> Ended {
        self.draining.cancel();
        if !self.drained(grace.saturating_sub(LAST_ANSWERS)).await {
            self.built.refuse_the_rest();
            if !self.drained(LAST_ANSWERS).await {
                tracing::error!("requests were still under way at the end of the grace period");
            }
        }
        self.end.cancel();
        let closed = tokio::time::timeout(CLOSING, async {
            if !ended(&mut self.chores, CHORES).await {
                tracing::warn!("a chore did not end in time; it is left behind");
            }
            self.built.close().await
        });
        if closed.await.is_err() {
            tracing::error!("something did not end in time; the process ends without it");
        }
        let hopeless = self.hopeless.is.load(Ordering::SeqCst);
        tracing::info!("stopped");
        if hopeless { Ended::Hopeless } else { Ended::Told }
    }

    async fn drained(&mut self, patience: Duration) -> bool {
        let drained = async { while self.fronts.join_next().await.is_some() {} };
        tokio::time::timeout(patience, drained).await.is_ok()
    }
}

/// Whether all end by themselves; what does not is cut off. A PIN session must be ended on its HSM however a disk hangs.
async fn ended(chores: &mut JoinSet<()>, patience: Duration) -> bool {
    let all = async { while chores.join_next().await.is_some() {} };
    let ended = tokio::time::timeout(patience, all).await.is_ok();
    chores.abort_all();
    ended
}

/// What is left of the grace for answering requests that the HSM did not get to.
const LAST_ANSWERS: Duration = Duration::from_secs(1);
/// How long everything but the fronts may take to end: an HSM or a disk may hang.
const CLOSING: Duration = Duration::from_secs(5);
/// How long of that the chores may take: the last checkpoint may wait for two seconds, and so may the threads of HSMs.
const CHORES: Duration = Duration::from_millis(2_500);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_chore_that_hangs_is_left_behind_and_the_others_end() {
        let (told, ended_by_itself) = tokio::sync::oneshot::channel();
        let held = Arc::new(());
        let hangs = held.clone();
        let mut chores = JoinSet::new();
        chores.spawn(async move {
            std::future::pending::<()>().await;
            drop(hangs);
        });
        chores.spawn(async { told.send(()).unwrap() });
        let left = ended(&mut chores, Duration::from_millis(50));
        assert!(!tokio::time::timeout(Duration::from_secs(20), left).await.expect("it is not waited for"));
        ended_by_itself.await.unwrap();
        assert!(ended(&mut chores, Duration::from_secs(20)).await, "it was not cut off");
        assert_eq!(Arc::strong_count(&held), 1);
        assert!(ended(&mut JoinSet::new(), Duration::ZERO).await);
    }
}
