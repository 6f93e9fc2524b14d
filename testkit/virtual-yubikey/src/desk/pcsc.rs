//! What pcscd says of its readers: a card is in when a client would find it.

use std::{
    ffi::CString,
    thread,
    time::{Duration, Instant},
};

use pcsc::{Context, ReaderState, Scope, State};

/// One for each reader, as keys with different applications switched on have them: pcscd can't tell readers of one name
/// apart where each has its own driver.
pub(super) const NAMES: [&str; 2] = ["Yubico YubiKey OTP+FIDO+CCID", "Yubico YubiKey FIDO+CCID"];

/// Waits until pcscd serves so many readers.
pub(super) fn wait_for_readers(count: usize) -> Result<(), String> {
    let end = Instant::now() + PATIENCE;
    loop {
        match Context::establish(Scope::User).and_then(|context| context.list_readers_owned()) {
            Ok(slots) if slots.len() == count * SLOTS => return Ok(()),
            other if Instant::now() > end => return Err(format!("pcscd has not {count} readers: {other:?}")),
            _ => pause(),
        }
    }
}

/// How often a card came or went in the reader with that number. pcscd looks some times in a second, and would take a
/// card that comes before it saw the last one go for the same: whoever changes something waits for it to be counted.
pub(super) fn changes(number: usize) -> Result<u32, String> {
    let mut states = [unaware(number)?];
    connect()?.get_status_change(None, &mut states).map_err(said)?;
    Ok(states[0].event_count())
}

/// Waits until pcscd has counted more than so many [`changes`], and there is a card, or none.
pub(super) fn wait_for(number: usize, card: bool, changes: u32) -> Result<(), String> {
    let end = Instant::now() + PATIENCE;
    let wanted = if card { State::PRESENT } else { State::EMPTY };
    let (context, mut states) = (connect()?, [unaware(number)?]);
    while Instant::now() < end {
        match context.get_status_change(Duration::from_secs(1), &mut states) {
            Ok(()) if is_there(&states[0], wanted) && states[0].event_count() > changes => return Ok(()),
            Ok(()) | Err(pcsc::Error::Timeout) => states[0].sync_current_state(),
            Err(error) => return Err(said(error)),
        }
    }
    Err(format!("reader {number}: pcscd sees {:?} where {wanted:?} should be", states[0].event_state()))
}

/// A card that doesn't answer is there for nobody.
fn is_there(state: &ReaderState, wanted: State) -> bool {
    state.event_state().contains(wanted) && !state.event_state().contains(State::MUTE)
}

fn connect() -> Result<Context, String> {
    Context::establish(Scope::User).map_err(said)
}

fn unaware(number: usize) -> Result<ReaderState, String> {
    let slot = CString::new(format!("{} 00 00", NAMES[number])).map_err(|error| error.to_string())?;
    Ok(ReaderState::new(slot, State::UNAWARE))
}

fn said(error: pcsc::Error) -> String {
    format!("pcscd: {error}")
}

#[expect(clippy::disallowed_methods, reason = "a server that starts tells nobody when it listens")]
fn pause() {
    thread::sleep(Duration::from_millis(5));
}

/// Of each reader.
const SLOTS: usize = 2;
const PATIENCE: Duration = Duration::from_secs(20);
