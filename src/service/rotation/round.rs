//! One round of the sweep.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

use hallmark_core::{
    error::{Error, Reason},
    key::{ClientName, HsmName, KeyLine, KeyRecord},
    lifecycle::{Elapsed, SWAP_QUIET},
    ports::{ClientPolicy, HsmReport, Lead, MaxAge, PolicyDifference},
};

use super::{
    super::{keys::store_error, rules::Policies},
    Cause, Parts, Rotation,
    alarms::Alarm,
    clocks::{Moment, Watched},
    decide::{Decided, Due, View},
    looks,
};
use crate::pool::Pool;

/// What goes on from round to round.
#[derive(Default)]
pub(super) struct Sweeper {
    /// Held while this replica is the one that sweeps.
    pub(super) lead: Option<Box<dyn Lead>>,
    /// What was observed last under this lead.
    observed: Option<Moment>,
    announced: Option<Arc<Policies>>,
    /// Whether other replicas live.
    pub(super) has_others: bool,
    /// What the others were told of our HSMs.
    pub(super) reported: Option<Vec<HsmReport>>,
    down_since: HashMap<HsmName, Duration>,
    /// Clients for which signing pauses because of a sweep.
    paused: BTreeSet<ClientName>,
}

impl Rotation {
    /// Looks at everything once.
    pub(crate) async fn round(&self, cause: Cause) {
        let (began, mut sweeper) = (Instant::now(), self.0.sweeper.lock().await);
        if cause == Cause::Time {
            self.0.acts.forgive();
        }
        let result = self.try_round(&mut sweeper).await;
        let Parts { metrics, context, .. } = &self.0.parts;
        metrics.rotation().leads(sweeper.lead.is_some());
        self.0.sightings.lead(sweeper.lead.is_some());
        let trouble = result.as_ref().err().filter(|error| error.reason != Reason::KeyChanged);
        self.0.alarms.set(Alarm::Sweep, "sweep", trouble.map(ToString::to_string));
        match result {
            Ok(()) => metrics.rotation().swept(began.elapsed(), context.clock.now()),
            // Whether the lock is still held is not known.
            Err(error) if error.reason == Reason::StoreUnavailable => sweeper.lead = None,
            Err(_) => {}
        }
    }

    async fn try_round(&self, sweeper: &mut Sweeper) -> Result<(), Error> {
        let Parts { keys, context, rules, monotonic, metrics, .. } = &self.0.parts;
        keys.look().await?;
        let wall = context.keyring.store_time(context.clock.now());
        let moment = Moment { wall, monotonic: monotonic.elapsed() };
        self.check_clocks(moment);
        self.check_registrations();
        self.write_revocations().await;
        keys.recount().await?;
        self.check_certificates(wall);
        let policies = rules.policies(&context.registry);
        let disputed = self.meet_replicas(sweeper, &policies).await?;
        self.check_hsms(sweeper, moment);
        let leads = self.take_lead(sweeper).await?;
        self.tell_of_hsms(sweeper).await?;
        if leads {
            let policies = self.tell_high_water(sweeper, &policies, &disputed).await?;
            self.observe(sweeper, moment, &policies, &disputed).await?;
            self.sweep(sweeper, &disputed).await?;
        } else {
            self.act_for_the_sweeper(&policies, &disputed).await?;
        }
        metrics.rotation().changes_waiting(keys.look_after_proposals(leads).await?);
        Ok(())
    }

    fn check_clocks(&self, moment: Moment) {
        let Parts { rules, monotonic, metrics, .. } = &self.0.parts;
        let departed = rules.watch_clock(|| Watched::from(moment, monotonic.clone())).departed(moment.wall);
        metrics.rotation().held(departed.is_some());
        self.0.alarms.set(Alarm::Clock, "wall", departed);
    }

    fn check_hsms(&self, sweeper: &mut Sweeper, moment: Moment) {
        let Parts { context, rules, .. } = &self.0.parts;
        let mut gone = BTreeMap::new();
        let elsewhere = rules.elsewhere();
        for hsm in context.pools.keys().chain(&rules.settings.hsms_elsewhere) {
            let pool = context.pools.get(hsm);
            if pool.is_some_and(Pool::is_up) || elsewhere.reaches(hsm) {
                sweeper.down_since.remove(hsm);
                continue;
            }
            let since = *sweeper.down_since.entry(hsm.clone()).or_insert(moment.monotonic);
            if moment.monotonic.saturating_sub(since) >= rules.settings.line_timeout {
                let why = pool.map_or_else(|| Some("no replica that lives reaches it".into()), Pool::down_because);
                gone.insert(hsm.clone(), why.unwrap_or_default());
            }
        }
        rules.set_gone(gone.keys().cloned().collect());
        let texts = gone.into_iter().map(|(hsm, why)| (hsm.to_string(), why));
        self.0.alarms.replace(Alarm::HsmGone, texts.collect());
    }

    /// Where a client was registered anew and the configuration still names the old registration, or a wrong one.
    fn check_registrations(&self) {
        let Parts { context, .. } = &self.0.parts;
        let (registered, keys) = (context.registry.load(), context.keyring.keys());
        let shown = |id: &str| id.chars().take(80).collect::<String>();
        let differing = keys.registrations.values().filter_map(|result| {
            let configured = registered.clients.get(&result.client)?.client_id.as_deref()?;
            let (ours, recorded) = (shown(configured), shown(&result.client_id));
            let why = || format!("the configuration has client_id `{ours}` and wins; registering gave `{recorded}`");
            (configured != result.client_id).then(|| (result.client.to_string(), why()))
        });
        self.0.alarms.replace(Alarm::ClientId, differing.collect());
    }

    /// Revocations that could not be written when they were asked for.
    async fn write_revocations(&self) {
        let Parts { context, keys, .. } = &self.0.parts;
        let barred = context.keyring.barred_keys();
        let mut left = BTreeMap::new();
        for key in barred {
            if let Err(error) = keys.write_revocation(key).await {
                left.insert(key.to_string(), format!("the key is revoked in this process alone: {error}"));
            }
        }
        self.0.alarms.replace(Alarm::Revocation, left);
    }

    /// Says that this replica lives and what its policies are; gives the clients about which replicas differ.
    async fn meet_replicas(
        &self,
        sweeper: &mut Sweeper,
        policies: &Arc<Policies>,
    ) -> Result<BTreeSet<ClientName>, Error> {
        let Parts { context, replicas, instance, rules, every, metrics, .. } = &self.0.parts;
        let is_announced = sweeper.announced.as_ref().is_some_and(|announced| Arc::ptr_eq(announced, policies));
        let serving = context.keyring.keys().generation;
        if !is_announced || !replicas.heartbeat(instance, serving).await.map_err(store_error)? {
            let digests = policies.configured();
            let digests =
                digests.map(|policy| ClientPolicy { client: policy.client.clone(), digest: policy.digest.clone() });
            replicas.announce(instance, &digests.collect::<Vec<_>>()).await.map_err(store_error)?;
            replicas.heartbeat(instance, serving).await.map_err(store_error)?;
            (sweeper.announced, sweeper.reported) = (Some(policies.clone()), None);
        }
        let within = (rules.settings.store_lease * 2).max(*every * 3);
        let known = replicas.replicas(within).await.map_err(store_error)?;
        sweeper.has_others = known.live.iter().any(|replica| replica.instance != *instance);
        self.hear_of_hsms(sweeper.has_others, within).await?;
        metrics.rotation().replicas(known.live.len(), known.differing.len());
        let alarms = known.differing.iter().map(|differing| (differing.client.to_string(), show(differing)));
        self.0.alarms.replace(Alarm::Policies, alarms.collect());
        Ok(known.differing.into_iter().map(|differing| differing.client).collect())
    }

    async fn take_lead(&self, sweeper: &mut Sweeper) -> Result<bool, Error> {
        if let Some(lead) = &mut sweeper.lead
            && lead.still_held().await.map_err(store_error)?
        {
            return Ok(true);
        }
        // What another one observed meanwhile is not ours to count.
        (sweeper.lead, sweeper.observed) = (None, None);
        sweeper.lead = self.0.parts.sweeps.try_lead().await.map_err(store_error)?;
        if sweeper.lead.is_some() {
            tracing::info!("this replica sweeps from now on");
            // Observed time does not move the generation: what is in force may be old.
            self.0.parts.keys.reload().await?;
        }
        Ok(sweeper.lead.is_some())
    }

    /// Lowers what verifiers may still go by where it has run out, and takes over what the store says of it.
    async fn tell_high_water(
        &self,
        sweeper: &mut Sweeper,
        policies: &Arc<Policies>,
        disputed: &BTreeSet<ClientName>,
    ) -> Result<Arc<Policies>, Error> {
        let Parts { rules, sweeps, context, .. } = &self.0.parts;
        // Seldom any: ten thousand clients need not be read and written in each round.
        let max_age = rules.settings.max_age;
        let mut states = sweeps.client_states(max_age).await.map_err(store_error)?;
        let agreed = |client: &ClientName| policies.has(client) && !disputed.contains(client);
        let higher: Vec<_> = states.iter().map(|state| &state.client).filter(|client| agreed(client)).collect();
        if let Some(lead) = sweeper.lead.as_mut().filter(|_| !higher.is_empty()) {
            let served = max_ages(higher.into_iter(), max_age);
            lead.lower_max_age(&served).await.map_err(store_error)?;
            states = sweeps.client_states(max_age).await.map_err(store_error)?;
        }
        rules.set_high_water(states.into_iter().map(|state| (state.client, state.max_age_high_water_ms)).collect());
        Ok(rules.policies(&context.registry))
    }

    async fn observe(
        &self,
        sweeper: &mut Sweeper,
        moment: Moment,
        policies: &Arc<Policies>,
        disputed: &BTreeSet<ClientName>,
    ) -> Result<(), Error> {
        let Parts { rules, served, every, .. } = &self.0.parts;
        let Some(before) = sweeper.observed.replace(moment) else { return Ok(()) };
        let (wall_ms, monotonic) = moment.since(&before);
        let elapsed = Elapsed { wall_ms, monotonic, interval: *every, served: served() };
        let (this, policies, disputed) = (self.clone(), policies.clone(), disputed.clone());
        let observe = move || {
            let view = this.view(&policies, &disputed);
            let within = looks::within(&this);
            let is_seen = |key: &KeyRecord| this.0.sightings.was_there(key, before.monotonic, moment.monotonic, within);
            let (seen, added) = view.observe(&elapsed, is_seen);
            (seen, added, view.reading)
        };
        let (seen, added, reading) = beside(observe).await?;
        let Some(lead) = sweeper.lead.as_mut().filter(|_| !seen.is_empty()) else { return Ok(()) };
        lead.observe(&added).await.map_err(store_error)?;
        let rules = rules.clone();
        beside(move || rules.note_observed(&reading, &seen)).await
    }

    /// Moves what is due, and has the HSMs do the rest.
    async fn sweep(&self, sweeper: &mut Sweeper, disputed: &BTreeSet<ClientName>) -> Result<(), Error> {
        let Parts { keys, context, rules, metrics, .. } = &self.0.parts;
        let (this, policies, disputed) = (self.clone(), rules.policies(&context.registry), disputed.clone());
        let elsewhere = rules.elsewhere();
        let decide = move || {
            let Parts { context, rules, .. } = &this.0.parts;
            let has_failed = |line: &KeyLine| this.0.acts.has_failed(line) || elsewhere.has_failed(&line.to_string());
            this.view(&policies, &disputed).decide(&rules.now(context), has_failed)
        };
        let Decided { due, overdue } = beside(decide).await?;
        metrics.rotation().overdue(overdue.keys());
        self.0.alarms.replace(Alarm::Overdue, overdue);
        let acts: Vec<_> = due.iter().flat_map(|due| due.acts.iter().cloned()).collect();
        self.keep_failed(&acts);
        self.pause(sweeper, &due);
        if self.make_moves(due).await? {
            keys.look().await?;
            self.end_pauses(sweeper);
        }
        self.act(acts);
        Ok(())
    }

    /// Whether anything was moved.
    async fn make_moves(&self, due: Vec<Due>) -> Result<bool, Error> {
        let Parts { keys, metrics, .. } = &self.0.parts;
        let (mut moved, mut failed, mut shown) = (false, BTreeMap::new(), Instant::now());
        for Due { client, moves, .. } in due {
            if moves.is_empty() {
                continue;
            }
            let count = moves.len();
            let result = keys.move_by_itself(moves).await;
            metrics.rotation().moved(count, result.is_ok());
            match result {
                Ok(()) => moved = true,
                // Somebody was faster: the next round sees what there is then.
                Err(error) if error.reason == Reason::KeyChanged => self.0.parts.rules.wake.notify_one(),
                Err(error) => {
                    let ends_round = error.reason == Reason::StoreUnavailable;
                    failed.insert(client.to_string(), error.to_string());
                    if ends_round {
                        self.0.alarms.replace(Alarm::Moves, failed);
                        return Err(error);
                    }
                }
            }
            if moved && shown.elapsed() > SHOW_EVERY {
                keys.reload().await?;
                shown = Instant::now();
            }
        }
        self.0.alarms.replace(Alarm::Moves, failed);
        Ok(moved)
    }

    /// Signing pauses where a swap needs it, and goes on where none is due any more.
    fn pause(&self, sweeper: &mut Sweeper, due: &[Due]) {
        let pauses = self.0.parts.context.keyring.pauses();
        let swaps = due.iter().filter(|due| due.pause || !due.moves.is_empty());
        let swaps: BTreeSet<_> = swaps.map(|due| due.client.clone()).collect();
        sweeper.paused.difference(&swaps).for_each(|client| pauses.end(client));
        sweeper.paused.retain(|client| swaps.contains(client));
        for due in due.iter().filter(|due| due.pause) {
            pauses.begin(&due.client);
            sweeper.paused.insert(due.client.clone());
        }
    }

    /// The new keys are in force: signing goes on where it had paused long enough for the swap to be made.
    fn end_pauses(&self, sweeper: &mut Sweeper) {
        let pauses = self.0.parts.context.keyring.pauses();
        for (client, quiet) in pauses.all() {
            if quiet >= SWAP_QUIET && sweeper.paused.remove(&client) {
                pauses.end(&client);
            }
        }
    }

    pub(super) fn view(&self, policies: &Arc<Policies>, disputed: &BTreeSet<ClientName>) -> View {
        let Parts { context, rules, .. } = &self.0.parts;
        View {
            rules: rules.clone(),
            reading: context.keyring.keys().clone(),
            policies: policies.clone(),
            disputed: disputed.clone(),
        }
    }
}

/// Ten thousand clients take a while, which signing need not wait for.
async fn beside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Result<T, Error> {
    tokio::task::spawn_blocking(work).await.map_err(Error::internal)
}

/// What verifiers of each client are told at most.
pub fn max_ages<'a>(clients: impl Iterator<Item = &'a ClientName>, max_age: Duration) -> Vec<MaxAge> {
    let max_age_ms = u64::try_from(max_age.as_millis()).unwrap_or(u64::MAX);
    clients.map(|client| MaxAge { client: client.clone(), max_age_ms }).collect()
}

fn show(differing: &PolicyDifference) -> String {
    let replicas = differing.replicas.iter().map(|(name, digest)| match digest {
        Some(digest) => format!("`{name}` has {digest}"),
        None => format!("`{name}` does not have it"),
    });
    format!("replicas have different policies, and it is not swept: {}", replicas.collect::<Vec<_>>().join(", "))
}

/// Where many clients are due at once, signers and verifiers see what was moved so far.
const SHOW_EVERY: Duration = Duration::from_secs(2);
