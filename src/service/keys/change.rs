//! What all changes share: they are recorded once, audited before and after, and written as one.

use hallmark_core::{
    audit::{EncodedEvent, Event, KeyEvent, Outcome},
    error::{Error, Reason},
    key::{ClientName, KeyRecord},
    lifecycle::{self, Change, Step},
    policy::Caller,
    ports::{BegunChange, ChangeState, KeyChange, RecordUpdate},
    time::Timestamp,
};

use uuid::Uuid;

use super::{super::sign::audit_unavailable, Changed, Keys, OWN_NAME, store_error};

/// Who is behind a change, for the audit log.
#[derive(Clone, Copy)]
pub(super) struct Author<'a> {
    pub(super) who: &'a str,
    pub(super) change: &'a str,
    pub(super) reason: &'a str,
}

pub(super) enum Begun {
    Go(KeyChange),
    Done(Changed),
}

impl Keys {
    /// A change that begins now.
    pub(super) fn new_change(
        &self,
        caller: &Caller,
        client: ClientName,
        request_id: &str,
        reason: &str,
        request: String,
    ) -> KeyChange {
        KeyChange {
            id: Uuid::new_v4().to_string(),
            request_id: request_id.to_owned(),
            request,
            client,
            operator: caller.identity.to_string(),
            reason: reason.to_owned(),
            state: ChangeState::Running,
            created: self.now(),
            keys: Vec::new(),
        }
    }

    pub(super) async fn begin(&self, change: KeyChange) -> Result<Begun, Error> {
        match self.context.keyring.store().begin_change(&change).await.map_err(store_error)? {
            BegunChange::New => Ok(Begun::Go(change)),
            BegunChange::Existing(before) if before.request != change.request => {
                let text = "this request_id came before with another request; use a new one";
                Err(Error::new(Reason::RequestIdReused, text))
            }
            // One that waits, or was not let through, is not begun by asking again.
            BegunChange::Existing(before)
                if matches!(
                    before.state,
                    ChangeState::Applied | ChangeState::AwaitingApproval | ChangeState::Denied | ChangeState::Expired
                ) =>
            {
                Ok(Begun::Done(self.changed(before)))
            }
            // It failed, or its process died half-way: what it left is taken up.
            BegunChange::Existing(before) => Ok(Begun::Go(before)),
        }
    }

    pub(super) fn changed(&self, change: KeyChange) -> Changed {
        let keys = self.context.keyring.keys();
        let keys = keys.records.iter().filter(|record| change.keys.contains(&record.id)).cloned().collect();
        Changed { change, keys, in_force_everywhere_at: None, advice: Vec::new(), approval: None }
    }

    /// Moves records in one transaction. A [`Keys::reload`] afterwards shows the result to signers and verifiers.
    pub(super) async fn apply(&self, moves: Vec<(KeyRecord, Change)>, author: &Author<'_>) -> Result<(), Error> {
        let updates = updates(&moves, self.now())?;
        let texts: Vec<_> = moves.iter().map(|(record, change)| describe(record, change)).collect();
        // Each reason once: those of one switch are the same.
        let mut reasons: Vec<_> = moves.iter().map(|(_, change)| change.reason.as_str()).collect();
        reasons.dedup();
        let reason = match author.reason {
            "" => reasons.join("; "),
            why if reasons == [why] => why.to_owned(),
            why => format!("{why}: {}", reasons.join("; ")),
        };
        let author = Author { reason: &reason, ..*author };
        self.audited(&author, "move", &texts.join(", "), async {
            self.context.keyring.store().apply(&[], &updates).await.map_err(store_error)
        })
        .await
    }

    /// As [`Self::apply`], by the sweep: the reasons are those of the changes.
    pub(in crate::service) async fn move_by_itself(&self, moves: Vec<(KeyRecord, Change)>) -> Result<(), Error> {
        let change = Uuid::new_v4().to_string();
        self.apply(moves, &Author { who: OWN_NAME, change: &change, reason: "" }).await
    }

    /// Log intent, then act, then outcome.
    pub(super) async fn audited<T>(
        &self,
        author: &Author<'_>,
        action: &str,
        subject: &str,
        act: impl Future<Output = Result<T, Error>>,
    ) -> Result<T, Error> {
        let event = KeyEvent { change: author.change, who: author.who, action, subject, reason: author.reason };
        self.record(&Event::KeyIntent(event.clone())).await?;
        let result = act.await;
        let outcome = if result.is_ok() { Outcome::Done } else { Outcome::Failed };
        self.record(&Event::KeyOutcome { key: event, outcome }).await?;
        result
    }

    pub(super) async fn record(&self, event: &Event<'_>) -> Result<(), Error> {
        let encoded = EncodedEvent::new(self.context.clock.now(), event);
        self.context.audit.append_synced(encoded).await.map_err(audit_unavailable)
    }
}

/// Refuses ids that the server keeps for itself.
pub(super) fn check_request_id(id: &str) -> Result<(), Error> {
    if id.starts_with(OWN_REQUESTS) {
        let text = format!("a `request_id` can't begin with `{OWN_REQUESTS}`: those are the server's own");
        return Err(Error::new(Reason::InvalidRequest, text));
    }
    Ok(())
}

/// How the request ids begin under which the server makes keys by itself.
const OWN_REQUESTS: &str = "hallmark:";

/// What `moves` make of their records.
pub(super) fn updates(moves: &[(KeyRecord, Change)], now: Timestamp) -> Result<Vec<RecordUpdate>, Error> {
    let update = |(record, change): &(KeyRecord, Change)| {
        Ok(RecordUpdate { from: record.state, record: lifecycle::apply(record, change, now)?, chain: None })
    };
    moves.iter().map(update).collect()
}

/// As the audit log has it.
pub(super) fn describe(record: &KeyRecord, change: &Change) -> String {
    match &change.step {
        Step::Move { to, .. } => format!("{} to {to}", record.id),
        step => format!("{}: {step:?}", record.id),
    }
}
