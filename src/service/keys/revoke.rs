//! Revoking: wins against whatever is in the way. It waits for neither an HSM nor the audit log, and where the store can't be
//! written the key is out of use in this process at once, until the store says so too.

use std::{sync::Arc, time::Duration};

use hallmark_core::{
    audit::{EncodedEvent, Event, KeyEvent, Outcome},
    error::{Error, Reason},
    key::{KeyId, KeyRecord, KeyState, Kid},
    lifecycle::{Step, operator},
    ports::{BegunChange, ChangeState, KeyChange},
};

use super::{
    Changed, Keys, OWN_NAME,
    alteration::Alteration,
    change::{describe, updates},
    no_such_key, store_error,
};

impl Keys {
    pub(super) async fn revoke(&self, kid: &Kid, change: KeyChange) -> Result<Changed, Error> {
        let change = self.begin_anyhow(change).await?;
        self.revoke_begun(kid, change).await
    }

    /// Carries out what is on record as running, or could not be written down.
    pub(super) async fn revoke_begun(&self, kid: &Kid, change: KeyChange) -> Result<Changed, Error> {
        let what = Alteration::Revoke { kid: kid.clone() };
        let subject = self.id_of(kid)?;
        self.record_soon(&change, subject, None).await;
        let done = self.revoke_now(subject, &change).await;
        self.record_soon(&change, subject, Some(outcome(&done))).await;
        let state = if done.is_ok() { ChangeState::Applied } else { ChangeState::Failed };
        let mut keys = change.keys.clone();
        match &done {
            Ok(moved) => keys.extend(moved),
            Err(_) => keys.push(subject),
        }
        keys.sort_unstable();
        keys.dedup();
        // The key is revoked, whatever becomes of the note about it.
        if let Err(error) = self.context.keyring.store().end_change(&change.id, state, &keys).await {
            tracing::warn!(%error, change = change.id, "the end of a revocation could not be written down");
        }
        done?;
        Ok(self.explain(self.changed(KeyChange { state, keys, ..change }), &what))
    }

    /// Writes a revocation that could not be written when it was asked for.
    pub(in crate::service) async fn write_revocation(&self, key: KeyId) -> Result<(), Error> {
        let keys = self.context.keyring.keys().clone();
        let Some(client) = keys.find(key).and_then(|record| record.client.clone()) else { return Ok(()) };
        let change = KeyChange {
            id: key.to_string(),
            request_id: String::new(),
            request: String::new(),
            client,
            operator: OWN_NAME.into(),
            reason: "revoked while the key store could not be written".into(),
            state: ChangeState::Running,
            created: self.now(),
            keys: Vec::new(),
        };
        self.record_soon(&change, key, None).await;
        let done = self.revoke_now(key, &change).await;
        self.record_soon(&change, key, Some(outcome(&done))).await;
        done.map(drop)
    }

    /// A store that can't be written does not keep a key in use.
    async fn begin_anyhow(&self, change: KeyChange) -> Result<KeyChange, Error> {
        let begun = tokio::time::timeout(PATIENCE, self.context.keyring.store().begin_change(&change)).await;
        match begun {
            Ok(Ok(BegunChange::Existing(before))) if before.request != change.request => {
                let text = "this request_id came before with another request; use a new one";
                Err(Error::new(Reason::RequestIdReused, text))
            }
            // Done or not: to revoke twice does no harm.
            Ok(Ok(BegunChange::Existing(before))) => Ok(before),
            Ok(Ok(BegunChange::New)) => Ok(change),
            Ok(Err(error)) => {
                tracing::warn!(%error, "a revocation could not be written down; going on");
                Ok(change)
            }
            Err(_) => Ok(change),
        }
    }

    /// Gives the keys that it moved.
    async fn revoke_now(&self, key: KeyId, change: &KeyChange) -> Result<Vec<KeyId>, Error> {
        let mut last = None;
        for _ in 0..TRIES {
            // The records of before are good enough where there are no others.
            let read = tokio::time::timeout(PATIENCE, self.reload()).await;
            if let Ok(Err(error)) = &read {
                tracing::warn!(%error, "revoking by the records as they were last read");
            }
            match tokio::time::timeout(PATIENCE, self.write_compromised(key, change)).await {
                Ok(Ok(moved)) => {
                    self.context.keyring.unbar(key);
                    // What is written holds; the watch over the store shows it where this can't.
                    if let Err(error) = self.reload().await {
                        tracing::warn!(%error, "revoked, and the records can't be read again yet");
                        self.bar(key).await;
                    }
                    return Ok(moved);
                }
                Ok(Err(error)) if error.reason == Reason::KeyChanged => last = Some(error),
                Ok(Err(error)) if error.reason == Reason::KeyState => return Err(error),
                Ok(Err(error)) => {
                    last = Some(error);
                    break;
                }
                Err(_) => break,
            }
        }
        self.bar(key).await;
        let text = "the key is out of use on this replica from now on, but the key store could not be written: other replicas \
            may go on with it until their lease ends; it is tried again until it is written, and asking again does no harm";
        let detail = last.map(|error| error.to_string()).unwrap_or_default();
        Err(Error::new(Reason::StoreUnavailable, text).with_detail(detail).retry_after(Duration::from_secs(5)))
    }

    async fn write_compromised(&self, key: KeyId, change: &KeyChange) -> Result<Vec<KeyId>, Error> {
        let policies = self.rules.policies(&self.context.registry);
        let (policy, mut records) = (policies.of(&change.client), self.records_of(&change.client));
        self.show_stored_state(&mut records).await?;
        let wish = operator::Wish { reason: change.reason.clone(), force: false };
        let changes = operator::revoke(&policy, &records, &self.rules.now(&self.context), key, &wish)?;
        let find = |id: &KeyId| records.iter().find(|record| record.id == *id).cloned();
        let moves: Vec<_> = changes
            .into_iter()
            .filter_map(|change| match &change.step {
                Step::Move { key, .. } => Some((find(key)?, change)),
                _ => None,
            })
            .collect();
        for (record, change) in &moves {
            tracing::warn!(what = describe(record, change), "revoking");
        }
        let updates = updates(&moves, self.now())?;
        self.context.keyring.store().apply(&[], &updates).await.map_err(store_error)?;
        let moved: Vec<KeyId> = moves.iter().map(|(record, _)| record.id).collect();
        Ok(if moved.is_empty() { vec![key] } else { moved })
    }

    /// A key that is barred in this process alone has another state in the store.
    async fn show_stored_state(&self, records: &mut [KeyRecord]) -> Result<(), Error> {
        if self.context.keyring.barred_keys().is_empty() {
            return Ok(());
        }
        let stored = self.context.keyring.store().records().await.map_err(store_error)?.records;
        for record in records {
            if let Some(stored) = stored.iter().find(|stored| stored.id == record.id) {
                record.clone_from(stored);
            }
        }
        Ok(())
    }

    /// Out of use in this process from now on, signing and JWKS.
    async fn bar(&self, key: KeyId) {
        let registered = self.context.registry.load_full();
        self.context.keyring.bar(key, self.now(), &registered);
        if let Err(error) = self.publish(registered).await {
            tracing::error!(%error, "the JWKS can't be made anew");
        }
        self.rules.wake.notify_one();
    }

    fn id_of(&self, kid: &Kid) -> Result<KeyId, Error> {
        let keys = self.context.keyring.keys();
        keys.by_kid(kid.as_str()).map(|record| record.id).ok_or_else(|| no_such_key(kid.as_str()))
    }

    /// Tries to have it on the disk, for a moment; else it is recorded as soon as the log can be written.
    async fn record_soon(&self, change: &KeyChange, key: KeyId, outcome: Option<Outcome>) {
        let subject = format!("{key} to {}", KeyState::Compromised);
        let event = KeyEvent {
            change: &change.id,
            who: &change.operator,
            action: "revoke",
            subject: &subject,
            reason: &change.reason,
        };
        let event = match outcome {
            None => Event::KeyIntent(event),
            Some(outcome) => Event::KeyOutcome { key: event, outcome },
        };
        let event = EncodedEvent::new(self.context.clock.now(), &event);
        let audit = Arc::clone(&self.context.audit);
        let mut writing = tokio::spawn(async move {
            while let Err(error) = audit.append_synced(event.clone()).await {
                tracing::error!(%error, "a revocation is not in the audit log yet; trying on");
                tokio::time::sleep(RECORD_AGAIN).await;
            }
        });
        let _ = tokio::time::timeout(MOMENT, &mut writing).await;
    }
}

fn outcome<T>(done: &Result<T, Error>) -> Outcome {
    if done.is_ok() { Outcome::Done } else { Outcome::Failed }
}

/// How long a revocation waits for the audit log before it goes ahead.
const MOMENT: Duration = Duration::from_millis(500);
/// How long for one answer of the store.
const PATIENCE: Duration = Duration::from_secs(3);
const RECORD_AGAIN: Duration = Duration::from_secs(1);
/// How often others may come in between.
const TRIES: usize = 5;
