//! `hallmark keys import`: a key from a file, into an HSM, and from there into the records.
//!
//! - [`file`]: reading it; `pkcs12`, `pem`: what is in it;
//! - `material`: the one key that is to be imported, and its certificates;
//! - `passphrase`: asking for it;
//! - `place`: putting the key on the token;
//! - `follow_up`: what is to be done next.

mod file;
mod follow_up;
mod material;
mod passphrase;
mod pem;
mod pkcs12;
mod place;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

use hallmark_client::{Adoption, Client as Hallmark, Key, KeyChange, KeyChoice, KeyState, ObjectRef, Order};
use hallmark_core::{
    client::{Client, Custody},
    key::{Alg, Kid},
    public_key::PublicKey,
};

use self::{file::KeyFile, follow_up::FollowUp, material::Material, place::Placed};
use super::super::{
    Failure, Prepared,
    args::ImportArgs,
    connect::{As, connect, failure},
    consent::{Consent, ask, quoted},
    failure as exit,
    serve::{bad_config, environment, not_started},
};
use crate::{
    app,
    config::{self, Config, Hsm},
};

/// Reads the configuration: its HSM's module may want variables in the environment.
pub(in super::super) fn prepare(
    args: ImportArgs,
    connection: Option<PathBuf>,
    json: bool,
) -> Result<Prepared, Failure> {
    let config = config::load(&args.config).map_err(bad_config)?;
    let environment = environment(&config);
    let order = Import::new(config, args)?;
    Ok(Prepared::new(async move || order.run(connection, json).await).with_environment(environment))
}

/// Reads a PKCS#12 file as the command does, and keeps nothing of it: for whoever feeds it files that nobody made.
pub fn try_pkcs12(bytes: &[u8], passphrase: &str) -> Result<(), Failure> {
    Material::new(pkcs12::contents(bytes, passphrase)?).map(drop)
}

/// What was asked for, and can be done as far as the configuration says.
struct Import {
    config: Config,
    client: Client,
    hsm: Hsm,
    alg: Option<Alg>,
    kid: Option<Kid>,
    args: ImportArgs,
}

impl Import {
    fn new(config: Config, args: ImportArgs) -> Result<Self, Failure> {
        let client = config.clients.iter().find(|client| client.name.as_str() == args.client).cloned();
        let client = client.ok_or_else(|| {
            usage(format!("no client `{}` in `{}`", args.client, args.config.display()))
                .hint("name one of its [[client]] sections, or add one first")
        })?;
        let hsm = config.hsms.iter().find(|hsm| hsm.name.as_str() == args.hsm && client.hsms.contains(&hsm.name));
        let hsm = hsm.cloned().ok_or_else(|| {
            let names: Vec<_> = client.hsms.iter().map(|name| format!("--hsm {name}")).collect();
            usage(format!("client `{}` has no keys on an HSM `{}`", client.name, args.hsm)).hint(names.join(", or "))
        })?;
        if client.custody != Custody::Imported {
            return Err(usage(format!("client `{}` takes no key that existed outside an HSM", client.name)).hint(
                "set `custody = \"imported\"` in its [[client]] section and reload the server; it goes on to take keys \
                 that are born in the HSM",
            ));
        }
        let alg = args.alg.as_deref().map(|alg| alg.parse().map_err(|error| bad("--alg", &error))).transpose()?;
        let kid = args.kid.as_deref().map(|kid| kid.parse().map_err(|error| bad("--kid", &error))).transpose()?;
        Ok(Self { config, client, hsm, alg, kid, args })
    }

    async fn run(self, connection: Option<PathBuf>, json: bool) -> Result<u8, Failure> {
        let consent = Consent::find(self.args.yes, &self.typed())?;
        let key_file = KeyFile::read(self.args.pkcs12.as_deref(), self.args.pem.as_deref())?;
        let mut material = key_file.open(self.args.password_file.as_deref())?;
        let alg = material.alg(&self.client, self.alg)?;
        let kid = self.kid.clone().unwrap_or_else(|| material.public.thumbprint());
        warn(&material.warnings, json);
        let hallmark = connect(connection, As::Operator)?;
        self.refuse_what_the_server_would(&hallmark, &material.public, &kid).await?;
        if consent == Consent::ToAsk {
            ask(&self.told(&material, alg, &kid))?;
        }
        let placed = self.place(&material, alg).await?;
        let change = self.adopt(&hallmark, &placed, alg).await?;
        if let Some(warning) = self.certify(&hallmark, &kid, &material).await {
            warn(std::slice::from_ref(&warning), json);
            material.warnings.push(warning);
        }
        let follow_up = FollowUp::new(&self.client, alg, &kid);
        let rotation =
            if self.args.rotate { Some(follow_up.rotate(&hallmark, &self.args.reason).await?) } else { None };
        follow_up.output(&self.hsm, &placed, &change, &material, rotation.as_deref(), json).print()
    }

    /// Before anything is on the token that would only lie about there.
    async fn refuse_what_the_server_would(
        &self,
        hallmark: &Hallmark,
        public: &PublicKey,
        kid: &Kid,
    ) -> Result<(), Failure> {
        let keys = hallmark.list_keys(None).await.map_err(|error| failure(&error, &self.args.client))?;
        let taken = keys.iter().find(|key| {
            let same = PublicKey::from_spki(&key.spki).is_ok_and(|of| of.numbers() == public.numbers());
            if same { !self.may_go_on(key, kid) } else { key.kid.as_deref() == Some(kid.as_str()) }
        });
        let Some(key) = taken else { return Ok(()) };
        let of = key.client.as_deref().unwrap_or("Hallmark itself");
        let text = format!("this key or its kid `{kid}` is on record already: a key of `{of}`, {}", key.state.as_str());
        Err(refused(text).hint(format!("see it: hallmark keys show {}", key.kid.as_deref().unwrap_or_default())))
    }

    /// An import that was done before, to the end or nearly, is no obstacle.
    fn may_go_on(&self, key: &Key, kid: &Kid) -> bool {
        key.client.as_deref() == Some(self.client.name.as_str())
            && key.hsm == self.hsm.name.as_str()
            && key.kid.as_deref() == Some(kid.as_str())
            && matches!(key.state, KeyState::PreActive | KeyState::Active | KeyState::Deactivated)
    }

    async fn place(&self, material: &Material, alg: Alg) -> Result<Placed, Failure> {
        let token = app::local_token(&self.config, &self.hsm).await.map_err(not_started)?;
        let (client, pkcs8, public) = (self.client.name.clone(), material.pkcs8.clone(), material.public.clone());
        let place = tokio::task::spawn_blocking(move || place::place(&token, &client, alg, &pkcs8, &public));
        let placed = place.await.map_err(|error| refused("the import broke off").caused_by(&error))?;
        placed.map_err(|fault| place::failed(&self.hsm, fault))
    }

    async fn adopt(&self, hallmark: &Hallmark, placed: &Placed, alg: Alg) -> Result<KeyChange, Failure> {
        let adoption = Adoption {
            client: self.args.client.clone(),
            alg: Some(alg.as_str().to_owned()),
            hsm: Some(self.args.hsm.clone()),
            object: ObjectRef::CkaId(placed.cka_id.clone()),
            kid: self.kid.as_ref().map(|kid| kid.as_str().to_owned()),
        };
        let change = hallmark.adopt_key(adoption, Order::new(self.args.reason.clone())).await;
        change.map_err(|error| {
            failure(&error, &self.args.client).because(format!(
                "the key is on HSM `{}` by now, and `hallmark keys list --fresh` shows it as a stray, `{}`: once the cause is \
                 gone, type the same command again, which finds it there",
                self.hsm.name, placed.label
            ))
        })
    }

    /// Gives the record the certificates that came with the key. The key works without them, so that a refusal (one has
    /// expired, say) is told and no more.
    async fn certify(&self, hallmark: &Hallmark, kid: &Kid, material: &Material) -> Option<String> {
        if material.certificates.is_empty() {
            return None;
        }
        let key = KeyChoice { client: self.args.client.clone(), kid: Some(kid.to_string()), standby: false };
        let order = Order::new(self.args.reason.clone());
        let installed = hallmark.install_certificate(key, material.certificates.clone(), order).await;
        let error = installed.err()?;
        Some(format!(
            "its certificate was not installed: {}; once you have a good one: hallmark cert install {} FILE --reason TEXT",
            error.message(),
            quoted(&self.args.client)
        ))
    }

    fn told(&self, material: &Material, alg: Alg, kid: &Kid) -> String {
        format!(
            "{} goes into HSM `{}`, as a key of `{}` for {alg}, with the kid `{kid}`.\n\
             It existed outside an HSM: whoever had the file may have a copy, and the key is marked `imported` for ever.\n",
            material.title, self.hsm.name, self.client.name
        )
    }

    /// The command as it was typed, but for `--yes`.
    fn typed(&self) -> String {
        let ImportArgs { client, pkcs12, pem, password_file, config, hsm, alg, kid, reason, rotate, yes: _ } =
            &self.args;
        let path = |option: &str, path: &Option<PathBuf>| {
            path.as_ref().map(|path| format!(" {option} {}", quoted(&path.display().to_string()))).unwrap_or_default()
        };
        let text = |option: &str, text: &Option<String>| {
            text.as_ref().map(|text| format!(" {option} {}", quoted(text))).unwrap_or_default()
        };
        let options = [
            path("--pkcs12", pkcs12),
            path("--pem", pem),
            path("--password-file", password_file),
            path("--config", &Some(config.clone())),
            text("--hsm", &Some(hsm.clone())),
            text("--alg", alg),
            text("--kid", kid),
            text("--reason", &Some(reason.clone())),
            if *rotate { " --rotate".to_owned() } else { String::new() },
        ];
        format!("hallmark keys import {}{}", quoted(client), options.concat())
    }
}

/// Programs are told with the rest.
fn warn(warnings: &[String], json: bool) {
    for warning in warnings.iter().filter(|_| !json) {
        eprintln!("warning: {warning}");
    }
}

/// A refusal that leaves everything as it was.
fn refused(text: impl Into<String>) -> Failure {
    Failure::new(text).detail("reason", "IMPORT_REFUSED")
}

fn usage(text: String) -> Failure {
    refused(text).with_exit_code(exit::USAGE)
}

fn bad(option: &str, error: &dyn std::error::Error) -> Failure {
    usage(format!("{option}: {error}"))
}
