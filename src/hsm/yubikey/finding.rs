//! Finding a YubiKey by its serial, and saying what is there where it is not.

use std::{
    collections::HashSet,
    ffi::{CStr, CString},
    sync::{Arc, Mutex, mpsc},
    thread,
    time::Duration,
};

use hallmark_core::ports::{FaultClass, HsmFault};
use pcsc::{Context, Scope};

use super::{classify::pcsc_fault, lock, wire::Wire};

/// A YubiKey that was looked for, with a connection to it.
pub(super) struct Found {
    pub(super) reader: CString,
    pub(super) serial: u32,
    pub(super) wire: Wire,
}

/// Where a YubiKey was, and which readers keep silent. One for all searches of an HSM.
#[derive(Default)]
pub(super) struct Places {
    last: Mutex<Option<CString>>,
    silent: Arc<Mutex<HashSet<CString>>>,
}

impl Places {
    /// Asked first from now on, for as long as it takes.
    pub(super) fn found_in(&self, reader: CString) {
        *lock(&self.last) = Some(reader);
    }

    /// Looks into a reader in which another YubiKey may be busy for minutes: it is left alone until it has answered.
    fn look_into_other(&self, reader: &CStr) -> InReader {
        if !lock(&self.silent).insert(reader.to_owned()) {
            return Err("still does not answer".to_owned());
        }
        let (tell, told) = mpsc::sync_channel(1);
        let (silent, name) = (self.silent.clone(), reader.to_owned());
        let look = move || {
            let context = Context::establish(Scope::User).map_err(|error| no_service(error).to_string());
            let there = context.and_then(|context| look(&context, &name));
            lock(&silent).remove(&name);
            // Where nobody waits any more the connection ends with it.
            let _ = tell.send(there);
        };
        if let Err(error) = thread::Builder::new().name("yubikey-look".into()).spawn(look) {
            lock(&self.silent).remove(reader);
            return Err(format!("can't be asked: {error}"));
        }
        told.recv_timeout(PATIENCE).unwrap_or_else(|_| Err("does not answer".to_owned()))
    }
}

/// The YubiKey with `serial`, or the only one. Ends no PIN session of another.
pub(super) fn find(serial: Option<u32>, places: &Places) -> Result<Found, HsmFault> {
    let (context, mut readers) = readers()?;
    let last = lock(&places.last).clone().filter(|_| serial.is_some());
    readers.sort_by_key(|reader| Some(reader) != last.as_ref());
    let (mut found, mut others) = (Vec::new(), Vec::new());
    for reader in readers {
        let name = reader.to_string_lossy().into_owned();
        let there =
            if last.as_ref() == Some(&reader) { look(&context, &reader) } else { places.look_into_other(&reader) };
        match there {
            Ok(there) if serial == Some(there.0) => return Ok(Found { reader, serial: there.0, wire: there.1 }),
            Ok((other, wire)) => {
                others.push(format!("`{name}` has the YubiKey with serial {other}"));
                found.push(Found { reader, serial: other, wire });
            }
            Err(why) => others.push(format!("`{name}` {why}")),
        }
    }
    choose(serial, found, &others)
}

/// Whether that YubiKey is in that reader. Asks no other.
pub(super) fn is_in(reader: &CStr, serial: u32) -> bool {
    let there = Context::establish(Scope::User).map(|context| look(&context, reader));
    there.is_ok_and(|there| there.is_ok_and(|(found, _)| found == serial))
}

/// For a reader other than the own: a YubiKey that nobody keeps busy answers within milliseconds.
const PATIENCE: Duration = Duration::from_secs(2);

/// A YubiKey's serial and the connection to it, or what is the matter.
type InReader = Result<(u32, Wire), String>;

/// Every reader with the YubiKey in it, or what is the matter with it.
pub(super) fn all() -> Result<Vec<(String, InReader)>, HsmFault> {
    let (context, readers) = readers()?;
    Ok(readers.iter().map(|reader| (reader.to_string_lossy().into_owned(), look(&context, reader))).collect())
}

fn readers() -> Result<(Context, Vec<CString>), HsmFault> {
    let context = Context::establish(Scope::User).map_err(no_service)?;
    let readers = match context.list_readers_owned() {
        Err(pcsc::Error::NoReadersAvailable) => Vec::new(),
        readers => readers.map_err(|error| pcsc_fault("SCardListReaders", error))?,
    };
    Ok((context, readers))
}

fn choose(serial: Option<u32>, mut found: Vec<Found>, others: &[String]) -> Result<Found, HsmFault> {
    let there = if others.is_empty() { "there is no reader at all".to_owned() } else { others.join("; ") };
    let why = match (serial, found.pop()) {
        (None, Some(only)) if found.is_empty() => return Ok(only),
        (None, Some(_)) => {
            format!(
                "several YubiKeys are plugged in, and none is named: {there}\nhint: add `serial = NUMBER` to the [[hsm]]"
            )
        }
        (None, None) => {
            format!("no YubiKey is plugged in: {there}\nhint: plug it in; `ykman list` shows what is there")
        }
        (Some(serial), Some(_)) => format!(
            "the YubiKey with serial {serial} is not plugged in, and another is not used in its place: {there}\n\
             hint: plug in the one with serial {serial}, or correct `serial` in the [[hsm]]"
        ),
        (Some(serial), None) => format!(
            "the YubiKey with serial {serial} is not plugged in: {there}\nhint: plug it in; `ykman list` shows what is there"
        ),
    };
    Err(HsmFault::new(FaultClass::Gone, "find", why))
}

/// Serial and connection of the YubiKey in `reader`, or what is the matter with it.
fn look(context: &Context, reader: &CStr) -> InReader {
    // Selecting an application on a card of another kind would disturb whoever uses that one.
    if !reader.to_string_lossy().to_lowercase().contains("yubi") {
        return Err("is no YubiKey's reader".to_owned());
    }
    let mut wire = Wire::connect(context, reader).map_err(|fault| match fault.code.starts_with("NoSmartcard") {
        true => "is empty".to_owned(),
        false => format!("can't be used: {fault}"),
    })?;
    let said = |fault: HsmFault| format!("can't be used: {fault}");
    if let Some(serial) = wire.serial().map_err(said)? {
        return Ok((serial, wire));
    }
    wire.select().map_err(said)?;
    match wire.serial().map_err(said)? {
        Some(serial) => Ok((serial, wire)),
        None => Err("has a card that does not tell a serial: no YubiKey, or one with a firmware before 5.0".to_owned()),
    }
}

fn no_service(error: pcsc::Error) -> HsmFault {
    let fault = pcsc_fault("SCardEstablishContext", error);
    let hint = "the service for smart cards does not answer\nhint: systemctl start pcscd.socket";
    HsmFault { class: FaultClass::Gone, code: format!("{}; {hint}", fault.code), ..fault }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(serial: Option<u32>, others: &[&str]) -> String {
        let others: Vec<_> = others.iter().map(|text| (*text).to_owned()).collect();
        match choose(serial, Vec::new(), &others) {
            Ok(found) => panic!("found {}", found.serial),
            Err(fault) => fault.code,
        }
    }

    #[test]
    fn what_is_there_instead_is_named() {
        assert!(refusal(None, &[]).contains("no reader at all"));
        let text = refusal(Some(1234), &["`Acme Reader` is no YubiKey's reader", "`Yubico` is empty"]);
        for part in ["1234", "Acme Reader", "is empty", "hint: "] {
            assert!(text.contains(part), "{text}");
        }
    }
}
