//! What replicas tell each other of their HSMs, so that one sweeps for all and each makes keys where it can.
//!
//! ```text
//! whoever sweeps reaches the HSM           it makes and destroys keys there, as with one replica
//! another one reaches it, and it does not  that one does, beside its own rounds, by the same rules
//! nobody does, for `line_timeout`          the line gives way
//! ```

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use hallmark_core::{
    error::Error,
    key::{ClientName, HsmName, KeyLine},
    ports::HsmReport,
};

use super::{
    super::{
        keys::store_error,
        rules::{Elsewhere, Policies},
    },
    Parts, Rotation,
    decide::Decided,
    round::Sweeper,
};

impl Rotation {
    /// Takes over what the other replicas say of HSMs; `others`: whether there are any.
    pub(super) async fn hear_of_hsms(&self, others: bool, within: Duration) -> Result<(), Error> {
        let Parts { replicas, instance, rules, .. } = &self.0.parts;
        let reports = match others {
            true => replicas.reports(instance, within).await.map_err(store_error)?,
            false => Vec::new(),
        };
        rules.set_elsewhere(Elsewhere::new(reports));
        Ok(())
    }

    /// Tells the others of the HSMs that are configured here, where anything is new.
    pub(super) async fn tell_of_hsms(&self, sweeper: &mut Sweeper) -> Result<(), Error> {
        let Parts { context, rules, replicas, instance, .. } = &self.0.parts;
        if !sweeper.has_others {
            // Whoever comes later is told then.
            sweeper.reported = None;
            return Ok(());
        }
        let (leads, failing) = (sweeper.lead.is_some(), self.0.acts.failing());
        let mut hsms: Vec<_> = context.pools.keys().collect();
        hsms.sort_unstable();
        let report = |hsm: &HsmName| HsmReport {
            hsm: hsm.clone(),
            up: context.pools[hsm].is_up(),
            leads,
            unusable: rules.unusable_on(context, hsm),
            failed: failing.iter().filter(|line| line.hsm == *hsm).map(KeyLine::to_string).collect(),
        };
        let now: Vec<_> = hsms.into_iter().map(report).collect();
        if sweeper.reported.as_ref() != Some(&now) {
            replicas.report(instance, &now).await.map_err(store_error)?;
            sweeper.reported = Some(now);
        }
        Ok(())
    }

    /// Another replica sweeps: has done what takes the HSMs that it does not reach, and this one does.
    pub(super) async fn act_for_the_sweeper(
        &self,
        policies: &Arc<Policies>,
        disputed: &BTreeSet<ClientName>,
    ) -> Result<(), Error> {
        let Parts { context, rules, instance, .. } = &self.0.parts;
        let elsewhere = rules.elsewhere();
        let mut up = context.pools.iter().filter(|(_, pool)| pool.is_up()).map(|(hsm, _)| hsm);
        if !up.any(|hsm| elsewhere.leaves_to(instance, hsm)) {
            return Ok(());
        }
        let (this, policies, disputed) = (self.clone(), policies.clone(), disputed.clone());
        let decide = move || {
            let Parts { context, rules, .. } = &this.0.parts;
            this.view(&policies, &disputed).decide(&rules.now(context), |line| this.0.acts.has_failed(line))
        };
        let Decided { due, .. } = tokio::task::spawn_blocking(decide).await.map_err(Error::internal)?;
        let acts = due.into_iter().flat_map(|due| due.acts);
        let ours: Vec<_> = acts.filter(|line| elsewhere.leaves_to(instance, &line.hsm)).collect();
        self.keep_failed(&ours);
        self.act(ours);
        Ok(())
    }
}
