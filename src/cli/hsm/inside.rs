//! The process that loads the module. It tells what it does and finds, one JSON document a line.

use std::{
    fs::File,
    io::{self, Write},
    os::fd::AsFd,
    path::{Path, PathBuf},
    sync::Arc,
};

use hallmark_core::ports::PinLedger;
use rustix::process::{Resource, Rlimit, Signal, set_parent_process_death_signal, setrlimit};
use serde::{Deserialize, Serialize};
use tokio::task::spawn_blocking;

use super::super::Failure;
use crate::{
    app, config,
    hsm::{
        pin::PinSource,
        pkcs11::{
            TokenSelector,
            survey::{self, End, Event, LoginOrder, Only, Order, Step, Survey},
        },
    },
};

/// What the process is to do.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Inside {
    pub(super) module: PathBuf,
    pub(super) only: Option<Only>,
    /// Calls that an earlier process did not come back from.
    pub(super) skip: Vec<Step>,
    pub(super) login: Option<LoginWith>,
}

/// What to log in with, by reference.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct LoginWith {
    /// With an absolute path.
    pub(super) pin_source: String,
    pub(super) config: Option<PathBuf>,
}

pub(super) async fn run(order: Inside) -> Result<u8, Failure> {
    let mut out = set_up().map_err(|error| Failure::new("can't set up the process of the module").caused_by(&error))?;
    let ledger = match &order.login {
        Some(with) => Some(ledger(with).await),
        None => None,
    };
    let done = spawn_blocking(move || ask(&order, ledger, &mut out)).await;
    done.map_err(|error| Failure::new("the look at the module broke off").caused_by(&error))?;
    Ok(0)
}

/// The way out for what is found. Some modules print on standard output; from now on that goes to standard error.
fn set_up() -> io::Result<File> {
    let out = File::from(io::stdout().as_fd().try_clone_to_owned()?);
    rustix::stdio::dup2_stdout(io::stderr())?;
    // A crash is expected here, and its core file would hold a PIN.
    let none = Rlimit { current: Some(0), maximum: Some(0) };
    setrlimit(Resource::Core, none)?;
    set_parent_process_death_signal(Some(Signal::KILL))?;
    Ok(out)
}

async fn ledger(with: &LoginWith) -> Result<Arc<dyn PinLedger>, String> {
    let config = with.config.as_deref().map(config::load).transpose().map_err(|error| error.to_string())?;
    app::local_ledger(config.as_ref()).await.map_err(|error| error.to_string())
}

fn ask(order: &Inside, ledger: Option<Result<Arc<dyn PinLedger>, String>>, out: &mut File) {
    let mut survey = Survey::default();
    let Inside { module, only, skip, login } = order.clone();
    let found = survey::walk(&Order { module, only: only.clone(), skip: skip.clone() }, &mut |event| {
        emit(out, &mut survey, event)
    });
    let with = login.zip(ledger);
    if let Some(module) = found {
        let login = with.and_then(|(with, ledger)| match choose(&survey, only.as_ref(), &with, ledger) {
            Ok(login) => Some(login),
            Err(why) => {
                let failure = survey::Failure { step: Step::new("C_Login"), end: End::NotMade { why } };
                emit(out, &mut survey, Event::Failed(failure));
                None
            }
        });
        survey::log_in(module, login, &skip, &mut |event| emit(out, &mut survey, event));
    }
    emit(out, &mut survey, Event::End);
}

fn emit(out: &mut File, survey: &mut Survey, event: Event) {
    // Plain data can always be written as JSON, and whoever does not read any more has no use for the rest.
    if let Ok(mut line) = serde_json::to_vec(&event) {
        line.push(b'\n');
        let _ = out.write_all(&line);
    }
    survey.take(event);
}

/// The one token to log in to.
fn choose(
    survey: &Survey,
    only: Option<&Only>,
    with: &LoginWith,
    ledger: Result<Arc<dyn PinLedger>, String>,
) -> Result<LoginOrder, String> {
    let verdicts = survey::judge(survey);
    let wanted = |slot| {
        let token = survey.found_slots().find(|(id, _)| *id == slot).and_then(|(_, found)| found.token.as_ref());
        only.is_none_or(|only| only.wants(slot, token))
    };
    let named = verdicts.iter().filter(|verdict| wanted(verdict.slot)).filter_map(|verdict| {
        let section = verdict.section.as_ref().ok()?;
        let selector = match section.key {
            "token_serial" => TokenSelector::Serial(section.value.clone()),
            _ => TokenSelector::Label(section.value.clone()),
        };
        Some((verdict.slot, selector))
    });
    let (slot, selector) = match named.collect::<Vec<_>>().as_slice() {
        [one] => one.clone(),
        [] => return Err("no token that a PIN could be for".to_owned()),
        several => return Err(format!("there are {} tokens; name one with --token or --slot", several.len())),
    };
    let credentials = std::env::var_os("CREDENTIALS_DIRECTORY");
    let pin = PinSource::parse(&with.pin_source, credentials.as_deref().map(Path::new));
    Ok(LoginOrder { slot, selector, pin: pin.map_err(|error| error.to_string())?, ledger: ledger? })
}
