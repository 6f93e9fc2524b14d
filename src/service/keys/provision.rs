//! What the server makes by itself: custody keys, and the first keys of clients with `provision = "auto"`.

use hallmark_core::{
    client::{Client, Custody, Provision},
    error::{Error, Reason},
    key::{Alg, HsmName, KeyLine, KeyRecord, KeySpec, KeyState, Purpose},
    lifecycle::{self, Bootstrap, Change, Step},
};

use super::{
    CreateRequest, Keys, OWN_NAME,
    birth::{check_custody, label_prefix},
    change::{Author, OWN_REQUESTS},
};

/// What `provision` did.
#[derive(Debug, Default)]
pub struct Provisioned {
    /// How many key lines got their first keys.
    pub made: usize,
    /// What could not be made yet, and why.
    pub failed: Vec<(KeyLine, Error)>,
}

impl Keys {
    /// Makes what clients with `provision = "auto"` still lack on `hsm`, as the server itself. A line in trouble holds up
    /// no other; those of one client that come out well are published as one.
    ///
    /// Never where a record or an object on the token already names the client.
    pub async fn provision(&self, hsm: &HsmName) -> Provisioned {
        let registered = self.context.registry.load_full();
        let mut provisioned = Provisioned::default();
        for client in registered.clients.values().filter(|client| client.provision == Provision::Auto) {
            let mut lacking = Vec::new();
            for (line, spec) in client.key_lines().into_iter().filter(|(line, _)| line.hsm == *hsm) {
                match self.may_provision(client, &line).await {
                    Ok(true) => lacking.push((line, spec)),
                    Ok(false) => {}
                    Err(error) => provisioned.failed.push((line, error)),
                }
            }
            let Some((first, _)) = lacking.first().cloned() else { continue };
            if let Err(error) = self.provision_lines(client, &lacking).await {
                provisioned.failed.push((first, error));
            }
            let keys = self.context.keyring.keys();
            let lives = |line| lifecycle::bootstrap(line, &keys.records).is_err();
            provisioned.made += lacking.iter().filter(|(line, _)| lives(line)).count();
        }
        provisioned
    }

    async fn provision_lines(&self, client: &Client, lines: &[(KeyLine, KeySpec)]) -> Result<(), Error> {
        let names: Vec<_> = lines.iter().map(|(line, _)| line.to_string()).collect();
        let request = CreateRequest {
            request_id: format!("{OWN_REQUESTS}provision/{}", names.join(",")),
            reason: "provision = \"auto\"".into(),
            client: client.name.clone(),
            alg: None,
        };
        self.change(client, lines.to_vec(), request, OWN_NAME.into()).await?;
        Ok(())
    }

    /// Makes the custody key of `hsm`, if there is none. Prefers ES256: its keys are quick to make and to use.
    pub async fn ensure_custody_key(&self, hsm: &HsmName) -> Result<(), Error> {
        let _one = self.changing.lock().await;
        // An attempt that failed may have left what was not read yet.
        self.reload().await?;
        let keys = self.context.keyring.keys().clone();
        if keys.custody(hsm).is_some() {
            return Ok(());
        }
        let pool = self.pool(hsm)?;
        let algs = pool.facts().map(|facts| facts.algs).unwrap_or_default();
        // What was reserved for an algorithm that the HSM has no more stays where it is, and another takes its place.
        let reserved = |record: &&KeyRecord| {
            record.purpose == Purpose::Custody
                && record.hsm == *hsm
                && record.state == KeyState::PreActive
                && algs.contains(&record.alg)
        };
        let record = match keys.records.iter().find(reserved) {
            Some(record) => record.clone(),
            None => {
                let alg = [Alg::ES256, Alg::RS256].into_iter().find(|alg| algs.contains(alg)).ok_or_else(|| {
                    Error::new(Reason::AlgUnsupported, "the HSM has neither ES256 nor RS256, for its custody key")
                })?;
                self.reserve(None, hsm, alg, Purpose::Custody).await?
            }
        };
        // The record's own: it may have been reserved when the HSM had other algorithms.
        let spec = KeySpec { alg: record.alg, rsa_bits: KeySpec::DEFAULT_RSA_BITS };
        let author = Author { who: OWN_NAME, change: &record.id.to_string(), reason: "an HSM needs a custody key" };
        let born = self.generate(pool, &record, spec, &author).await?;
        check_custody(pool, &born, Custody::Local).await?;
        let step = Step::Move { key: born.id, to: KeyState::Active };
        let change = Change { step, reason: "custody key".into() };
        self.apply(vec![(born, change)], &author).await
    }

    async fn may_provision(&self, client: &Client, line: &KeyLine) -> Result<bool, Error> {
        let keys = self.context.keyring.keys().clone();
        let records: Vec<_> = keys.of_client(client).cloned().collect();
        match lifecycle::bootstrap(line, &records) {
            Err(_) => Ok(false),
            Ok(Bootstrap::Resume(_)) => Ok(true),
            Ok(Bootstrap::Start) => {
                let prefix = label_prefix(Some(&client.name), line.alg);
                let objects = self.pool(&line.hsm)?.list().await?;
                let named: Vec<_> = objects.iter().filter(|object| object.label.starts_with(&prefix)).collect();
                if let Some(object) = named.first() {
                    tracing::error!(client = %client.name, label = object.label, "not provisioning: the HSM has an object \
                        that names this client, and there is no record of it");
                }
                Ok(named.is_empty())
            }
        }
    }
}
