//! What is on the HSMs, held against the records: objects that no record knows, and records whose objects are not there.

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::{Duration, Instant},
};

use futures_util::future::join_all;
use hallmark_core::{
    error::{Error, Reason},
    key::{HsmName, KeyId, KeyRecord, KeyState, Kid, PublicPart},
    policy::{Act, Caller},
    ports::HsmObject,
    time::Timestamp,
};

use super::{
    Keys,
    looks::{Look, Seen, pause},
};

/// An object that no record knows. Hallmark leaves it alone, until an operator adopts it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stray {
    pub hsm: HsmName,
    pub cka_id: Vec<u8>,
    pub label: String,
    /// Of its public key, where it has one that Hallmark can use.
    pub kid: Option<Kid>,
}

/// What does not fit together, as of the last look at each HSM.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inventory {
    pub strays: Vec<Stray>,
    /// Keys whose objects are missing or incomplete.
    pub absent: BTreeSet<KeyId>,
    /// When each HSM was looked at, by name; those that never were are not among them.
    pub looked: Vec<(HsmName, Timestamp)>,
    /// HSMs that are down, or could not be looked at when that was last tried.
    pub unanswered: Vec<HsmName>,
}

impl Keys {
    /// What was seen at the last look at each HSM. `fresh` has all that answer looked at now, unless that was a moment ago.
    pub async fn inventory(&self, caller: &Caller, fresh: bool) -> Result<Inventory, Error> {
        self.authorise(caller, if fresh { Act::LookAtHsms } else { Act::ListKeys }.role(false))?;
        let pools = &self.context.pools;
        if fresh {
            join_all(pools.keys().map(|hsm| self.look_again(hsm))).await;
        }
        let mut inventory = Inventory::default();
        for (hsm, pool) in pools.iter() {
            let Some(look) = self.looks.of(hsm) else { continue };
            if let Some(seen) = look.seen.load_full() {
                self.add(&mut inventory, hsm, &seen);
            }
            if look.failed() || !pool.is_up() || look.seen.load().is_none() {
                inventory.unanswered.push(hsm.clone());
            }
        }
        inventory.looked.sort_unstable();
        inventory.unanswered.sort_unstable();
        Ok(inventory)
    }

    /// What was seen, but for what was taken in or destroyed since.
    fn add(&self, inventory: &mut Inventory, hsm: &HsmName, seen: &Seen) {
        inventory.looked.push((hsm.clone(), seen.at));
        if seen.strays.is_empty() && seen.absent.is_empty() {
            return;
        }
        let keys = self.context.keyring.keys().clone();
        let here = || keys.records.iter().filter(|record| record.hsm == *hsm && record.state != KeyState::Destroyed);
        let known: BTreeSet<_> = here().map(|record| &record.cka_id).collect();
        inventory.strays.extend(seen.strays.iter().filter(|stray| !known.contains(&stray.cka_id)).cloned());
        inventory.absent.extend(here().map(|record| record.id).filter(|key| seen.absent.contains(key)));
    }

    /// As [`Self::look_at`], but not where somebody else has just done it.
    async fn look_again(&self, hsm: &HsmName) {
        let Some(look) = self.looks.of(hsm) else { return };
        let waited = tokio::time::timeout(PATIENCE, async {
            let mut began = look.began.lock().await;
            if pause(*began, Instant::now()).is_zero() {
                *began = Some(Instant::now());
                _ = self.look_once(hsm, look).await;
            }
        });
        if waited.await.is_err() {
            tracing::info!(%hsm, "another look at the HSM takes too long");
        }
    }

    /// Looks at what is on `hsm` now; the rules are told of what is absent.
    pub(in crate::service) async fn look_at(&self, hsm: &HsmName) -> Result<Arc<Seen>, Error> {
        let look = self.looks.of(hsm).ok_or_else(|| Error::internal(format!("no pool for HSM `{hsm}`")))?;
        let mut began = look.began.lock().await;
        *began = Some(Instant::now());
        self.look_once(hsm, look).await
    }

    /// Resolves when a key was made, taken in or destroyed on `hsm` since it was last looked at.
    pub(in crate::service) async fn look_is_due(&self, hsm: &HsmName) {
        match self.looks.of(hsm) {
            Some(look) => look.due().await,
            None => std::future::pending().await,
        }
    }

    async fn look_once(&self, hsm: &HsmName, look: &Look) -> Result<Arc<Seen>, Error> {
        let looked = tokio::time::timeout(PATIENCE, self.compare(hsm)).await;
        let looked = looked.unwrap_or_else(|_| Err(Error::new(Reason::HsmUnavailable, "it takes too long")));
        let looked = look.end(looked.map(Arc::new));
        if let Err(error) = &looked {
            tracing::info!(%hsm, %error, "an HSM can't be looked at");
        }
        looked
    }

    async fn compare(&self, hsm: &HsmName) -> Result<Seen, Error> {
        // Records are written before their objects are made, and objects destroyed before their records say so: what is in
        // neither reading, or in one alone, is in between.
        let before = self.context.keyring.keys().clone();
        let objects = self.pool(hsm)?.list().await?;
        let after = self.context.keyring.keys().clone();
        let on_hsm = by_id(&objects);
        let here = |record: &&KeyRecord| record.hsm == *hsm && record.state != KeyState::Destroyed;
        let missing =
            |record: &&KeyRecord| record.public.as_ref().is_some_and(|key| !is_complete(&on_hsm, record, key));
        let absent: BTreeSet<_> = before.records.iter().filter(here).filter(missing).map(|record| record.id).collect();
        let known: BTreeSet<_> = [&before, &after]
            .into_iter()
            .flat_map(|reading| &reading.records)
            .filter(|record| record.hsm == *hsm && record.state != KeyState::Destroyed)
            .map(|record| &record.cka_id)
            .collect();
        let strays = objects.iter().filter(|object| !known.contains(&object.cka_id)).map(|object| Stray {
            hsm: hsm.clone(),
            cka_id: object.cka_id.clone(),
            label: object.label.clone(),
            kid: object.public.as_ref().map(|key| key.thumbprint()),
        });
        let strays = strays.collect();
        self.rules.set_absent(hsm, absent.clone());
        Ok(Seen { at: self.now(), strays, absent })
    }
}

type ById<'a> = HashMap<&'a [u8], Vec<&'a HsmObject>>;

fn by_id(objects: &[HsmObject]) -> ById<'_> {
    let mut by_id = ById::new();
    for object in objects {
        by_id.entry(&object.cka_id).or_default().push(object);
    }
    by_id
}

/// Whether both halves are there: what else may have the same `CKA_ID` says nothing.
fn is_complete(on_hsm: &ById<'_>, record: &KeyRecord, public: &PublicPart) -> bool {
    let found = on_hsm.get(record.cka_id.as_slice()).map_or(&[][..], Vec::as_slice);
    let is_its = |object: &&HsmObject| object.public.as_ref().is_some_and(|key| key.numbers() == public.key.numbers());
    found.iter().any(|object| object.has_private) && found.iter().any(is_its)
}

/// A bulk listing takes a second on a slow token.
const PATIENCE: Duration = Duration::from_secs(20);
