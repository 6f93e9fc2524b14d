//! What is to be done once a key is imported: it is to give way to one that is born in the HSM.

use std::time::Duration;

use hallmark_client::{Client as Hallmark, Key, KeyChange, KeyState, Order};
use hallmark_core::{
    client::Client,
    key::{Alg, Kid},
    ports::Entry,
};
use serde_json::json;
use tokio::time::Instant;

use super::{
    super::{
        super::{
            Failure,
            connect::failure,
            output::{Output, now},
        },
        render,
    },
    Material, Placed, quoted,
};
use crate::config::Hsm;

/// For how long the standby is waited for: an RSA key takes a slow token some seconds.
const STANDBY: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// The imported key, and its line.
pub(super) struct FollowUp {
    client: String,
    alg: Alg,
    kid: Kid,
}

impl FollowUp {
    pub(super) fn new(client: &Client, alg: Alg, kid: &Kid) -> Self {
        Self { client: client.name.to_string(), alg, kid: kid.clone() }
    }

    /// Rotates to a key that was born in the HSM, if verifiers know one; says how it stands.
    pub(super) async fn rotate(&self, hallmark: &Hallmark, reason: &str) -> Result<String, Failure> {
        let keys = self.keys(hallmark).await?;
        let imported = keys.iter().find(|key| key.kid.as_deref() == Some(self.kid.as_str()));
        if imported.is_some_and(|key| key.state != KeyState::Active) {
            return Ok(format!("nothing to rotate: `{}` signs with another key", self.client));
        }
        if !self.has_standby(hallmark).await? {
            return Ok("not rotated yet: the HSM has not made the standby so far".to_owned());
        }
        let order = Order::new(format!("{reason}: rotated to a key born in the HSM"));
        match hallmark.rotate_keys(&self.client, Some(self.alg.as_str()), order).await {
            Ok(_) => Ok(format!("rotated: `{}` signs with a key that was born in the HSM", self.client)),
            Err(error) if error.reason() == "GATE_SHUT" => {
                Ok(format!("not rotated yet: verifiers must have seen the standby first ({})", error.message()))
            }
            Err(error) => Err(failure(&error, &self.client)
                .because("the key was imported and works; only the rotation was refused".to_owned())),
        }
    }

    async fn has_standby(&self, hallmark: &Hallmark) -> Result<bool, Failure> {
        let end = Instant::now() + STANDBY;
        loop {
            let is_standby =
                |key: &Key| key.state == KeyState::PreActive && key.origin == "generated" && key.published_at.is_some();
            if self.keys(hallmark).await?.iter().any(is_standby) {
                return Ok(true);
            }
            if Instant::now() >= end {
                return Ok(false);
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    async fn keys(&self, hallmark: &Hallmark) -> Result<Vec<Key>, Failure> {
        let keys = hallmark.list_keys(Some(&self.client)).await.map_err(|error| failure(&error, &self.client))?;
        Ok(keys.into_iter().filter(|key| key.alg == self.alg.as_str()).collect())
    }

    /// What was done, and what comes next.
    pub(super) fn output(
        &self,
        hsm: &Hsm,
        placed: &Placed,
        change: &KeyChange,
        material: &Material,
        rotation: Option<&str>,
        json: bool,
    ) -> Output {
        if json {
            let mut value = render::change_as_json(change);
            value["imported"] = json!({
                "kid": self.kid.as_str(),
                "hsm": hsm.name.as_str(),
                "cka_id": placed.cka_id.iter().map(|byte| format!("{byte:02x}")).collect::<String>(),
                "label": placed.label,
                "entry": entry(placed.entry).0,
                "certificates": material.certificates.len(),
                "warnings": material.warnings,
                "rotation": rotation,
            });
            return Output::json(&value);
        }
        let done = format!("`{}` has {}, {} HSM `{}`", self.client, material.title, entry(placed.entry).1, hsm.name);
        let mut output = render::change_as_text(change, &done, now());
        output.stderr += &rotation.map(|how| format!("{how}\n")).unwrap_or_default();
        output.stderr += &self.next();
        output
    }

    fn next(&self) -> String {
        let client = quoted(&self.client);
        format!(
            "next:\n  1. the HSM makes a standby by itself; see when verifiers will know it: hallmark rotation plan {client}\n  \
             2. let that one sign: hallmark keys rotate {client} --alg {} --reason 'born in the HSM'\n  \
             3. the imported key goes by itself once nobody needs it; hallmark keys list shows it as `imported` until then\n  \
             4. delete the file and every copy of it\n",
            self.alg
        )
    }
}

/// For programs, and for people.
fn entry(entry: Option<Entry>) -> (&'static str, &'static str) {
    match entry {
        Some(Entry::Unwrapped) => ("unwrapped", "sent encrypted into"),
        Some(Entry::Created) => ("created", "created in"),
        None => ("found", "which was found in"),
    }
}
