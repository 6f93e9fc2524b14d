//! Proposals that nobody decided about in time.

use hallmark_core::{
    error::{Error, Reason},
    ports::{ChangeState, Proposed},
};

use super::{Keys, OWN_NAME, change::Author, store_error};

impl Keys {
    /// How many changes wait for a second operator. Those whose time is over end here where `ends`, each with its record
    /// in the audit log: one replica at a time should do that.
    pub(in crate::service) async fn look_after_proposals(&self, ends: bool) -> Result<usize, Error> {
        let Some(approvals) = &self.approvals else { return Ok(0) };
        let undecided = approvals.store.undecided().await.map_err(store_error)?;
        let (waiting, over): (Vec<_>, Vec<_>) =
            undecided.into_iter().partition(|proposed| proposed.change.state == ChangeState::AwaitingApproval);
        for proposed in over.iter().filter(|_| ends) {
            self.expire(proposed).await?;
        }
        Ok(waiting.len())
    }

    async fn expire(&self, proposed: &Proposed) -> Result<(), Error> {
        let Some(approvals) = &self.approvals else { return Ok(()) };
        let change = &proposed.change;
        let reason = format!("nobody decided within {} s", waited_secs(proposed));
        let author = Author { who: OWN_NAME, change: &change.id, reason: &reason };
        let subject = format!("{} of {}", change.request, change.operator);
        self.audited(&author, "expire", &subject, async {
            if approvals.store.expire(&change.id).await.map_err(store_error)? {
                return Ok(());
            }
            Err(Error::new(Reason::KeyChanged, "the change was decided, or ended by another replica, meanwhile"))
        })
        .await
    }
}

/// How long it waited, in whole seconds.
fn waited_secs(proposed: &Proposed) -> i64 {
    (proposed.expires.millis() - proposed.change.created.millis()) / 1000
}
