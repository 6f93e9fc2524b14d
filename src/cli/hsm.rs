//! `hallmark hsm probe`: what a PKCS#11 module shows, what Hallmark would use of it, and how to configure it.
//!
//! The module is loaded by a process of its own, which announces each call: should it hang or die, that is a row of the
//! report, and another process asks the rest.
//!
//! - [`inside`]: that process;
//! - [`outside`]: starting it, reading along, cutting it off;
//! - `yubikey`: the same of YubiKeys, which need no module;
//! - `paste`: the sections of the configuration; `as_text`, `as_json`: the report.

mod as_json;
mod as_text;
mod inside;
mod outside;
mod paste;
mod yubikey;

use std::path::PathBuf;

use tokio::task::spawn_blocking;

use self::inside::{Inside, LoginWith};
use super::{
    Failure, Prepared, USAGE,
    args::{HsmCommand, ProbeArgs},
    output::Output,
    serve::{bad_config, environment},
};
use crate::{
    config,
    hsm::pkcs11::survey::{self, Only, Survey, TokenVerdict},
};

/// What is printed.
struct Report {
    module: PathBuf,
    survey: Survey,
    verdicts: Vec<TokenVerdict>,
    /// What the module wrote on its standard streams.
    said: Vec<String>,
    /// Why the file was not even loaded, and what to do.
    refused: Option<(String, String)>,
    /// That the slot or token that was named is not there, and what is.
    missing: Option<(String, String)>,
}

impl Report {
    /// Whether Hallmark could sign with something of it.
    fn is_usable(&self) -> bool {
        self.verdicts.iter().any(TokenVerdict::is_usable)
    }
}

pub(super) fn prepare(command: HsmCommand, json: bool) -> Result<Prepared, Failure> {
    let HsmCommand::Probe(mut args) = command;
    if let Some(order) = &args.inside {
        let order: Inside = serde_json::from_str(order)
            .map_err(|error| Failure::new("--inside is for hallmark itself").caused_by(&error).with_exit_code(USAGE))?;
        return Ok(Prepared::new(async move || inside::run(order).await));
    }
    if args.module.as_os_str() == "yubikey" {
        let serial = yubikey::serial(&args)?;
        return Ok(Prepared::new(async move || yubikey::run(serial, args.timeout, json).await));
    }
    args.pin_source = args.pin_source.as_deref().map(pin_source).transpose()?;
    let variables = match &args.config {
        Some(path) => environment(&config::load(path).map_err(bad_config)?),
        None => Vec::new(),
    };
    Ok(Prepared::new(async move || run(args, json).await).with_environment(variables))
}

/// As the configuration takes it. What is refused is not shown: it may be the PIN itself.
fn pin_source(typed: &str) -> Result<String, Failure> {
    config::typed_pin_source(typed).ok_or_else(|| {
        Failure::new("--pin-source is not a reference to a PIN")
            .hint("write `file:PATH`, `credential:NAME` (systemd) or `fd:NUMBER`; a PIN never stands here")
            .with_exit_code(USAGE)
    })
}

async fn run(args: ProbeArgs, json: bool) -> Result<u8, Failure> {
    let wants_login = args.login;
    let report = spawn_blocking(move || look(args)).await;
    let report = report.map_err(|error| Failure::new("the look at the module broke off").caused_by(&error))??;
    let output = if json {
        Output::json(&as_json::report(&report))
    } else {
        Output { stdout: as_text::report(&report), stderr: String::new() }
    };
    output.print()?;
    let is_done = report.is_usable() && (report.survey.login.is_some() || !wants_login);
    Ok(u8::from(!is_done))
}

fn look(args: ProbeArgs) -> Result<Report, Failure> {
    let ProbeArgs { module, slot, token, pin_source, config, timeout, .. } = args;
    let mut report = Report {
        module: module.clone(),
        survey: Survey::default(),
        verdicts: Vec::new(),
        said: Vec::new(),
        refused: survey::refuse_to_load(&module).err(),
        missing: None,
    };
    if report.refused.is_some() {
        return Ok(report);
    }
    let order = Inside {
        module,
        only: slot.map(Only::Slot).or(token.map(Only::Token)),
        skip: Vec::new(),
        login: pin_source.map(|pin_source| LoginWith { pin_source, config }),
    };
    let only = order.only.clone();
    report.said = outside::ask(order, timeout, &mut report.survey)?;
    report.verdicts = survey::judge(&report.survey);
    if let Some(only) = only {
        let survey = &report.survey;
        let token = |slot| survey.found_slots().find(|(id, _)| *id == slot).and_then(|(_, found)| found.token.as_ref());
        report.verdicts.retain(|verdict| only.wants(verdict.slot, token(verdict.slot)));
        report.missing = missing(&only, survey);
    }
    Ok(report)
}

/// Says that what was named is not there, where the module has told all that it has.
fn missing(only: &Only, survey: &Survey) -> Option<(String, String)> {
    let is_there = survey.found_slots().any(|(slot, found)| match only {
        Only::Slot(wanted) => *wanted == slot,
        Only::Token(_) => only.wants(slot, found.token.as_ref()),
    });
    if is_there || !survey.complete || !survey.failures.is_empty() || survey.slots.as_ref()?.is_empty() {
        return None;
    }
    let what = match only {
        Only::Slot(wanted) => format!("no such slot: {wanted}"),
        Only::Token(wanted) => format!("no such token: `{wanted}`"),
    };
    let there = survey.found_slots().map(|(slot, found)| match &found.token {
        Some(token) if token.has("TOKEN_INITIALIZED") => {
            format!("  slot {slot}, token `{}`, serial `{}`\n", token.label, token.serial)
        }
        Some(_) => format!("  slot {slot}, a token that is not initialised\n"),
        None => format!("  slot {slot}, no token\n"),
    });
    Some((what, there.collect()))
}
