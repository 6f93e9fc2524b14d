//! What is on the HSMs, held against the records: objects that no record knows, and records whose objects are not there.

use std::{collections::BTreeSet, time::Duration};

use futures_util::future::join_all;
use hallmark_core::{
    error::{Error, Reason},
    key::{HsmName, KeyId, KeyState, Kid},
    policy::{Caller, OperatorRole},
};

use super::Keys;

/// An object that no record knows. Hallmark leaves it alone, until an operator adopts it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stray {
    pub hsm: HsmName,
    pub cka_id: Vec<u8>,
    pub label: String,
    /// Of its public key, where it has one that Hallmark can use.
    pub kid: Option<Kid>,
}

/// What does not fit together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inventory {
    pub strays: Vec<Stray>,
    /// Keys whose objects are missing or incomplete.
    pub absent: Vec<KeyId>,
    /// HSMs that could not be looked at.
    pub unanswered: Vec<HsmName>,
}

impl Keys {
    /// Looks at every HSM that answers.
    pub async fn inventory(&self, caller: &Caller) -> Result<Inventory, Error> {
        self.authorise(caller, OperatorRole::View)?;
        let looks = self.context.pools.keys().map(async |hsm| {
            let looked = tokio::time::timeout(PATIENCE, self.look_at(hsm)).await;
            (hsm.clone(), looked.unwrap_or_else(|_| Err(Error::new(Reason::HsmUnavailable, "it takes too long"))))
        });
        let mut inventory = Inventory::default();
        for (hsm, looked) in join_all(looks).await {
            match looked {
                Ok((strays, absent)) => {
                    inventory.strays.extend(strays);
                    inventory.absent.extend(absent);
                }
                Err(error) => {
                    tracing::info!(%hsm, %error, "an HSM can't be looked at");
                    inventory.unanswered.push(hsm);
                }
            }
        }
        inventory.unanswered.sort_unstable();
        Ok(inventory)
    }

    /// Looks at what is on `hsm`; the rules are told of what is absent.
    pub(in crate::service) async fn look_at(&self, hsm: &HsmName) -> Result<(Vec<Stray>, BTreeSet<KeyId>), Error> {
        // Records are written before their objects are made, and objects destroyed before their records say so: what is in
        // neither reading, or in one alone, is in between.
        let before = self.context.keyring.keys().clone();
        let objects = self.pool(hsm)?.list().await?;
        let after = self.context.keyring.keys().clone();
        let complete: BTreeSet<_> =
            objects.iter().filter(|object| object.has_private && object.public.is_some()).map(|o| &o.cka_id).collect();
        let expected = before
            .records
            .iter()
            .filter(|record| record.hsm == *hsm && record.public.is_some() && record.state != KeyState::Destroyed);
        let absent: BTreeSet<_> =
            expected.filter(|record| !complete.contains(&record.cka_id)).map(|record| record.id).collect();
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
        Ok((strays, absent))
    }
}

/// A bulk listing takes a second on a slow token.
const PATIENCE: Duration = Duration::from_secs(20);
