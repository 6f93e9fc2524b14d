//! A YubiKey in software, for tests: see the README beside.

#![allow(clippy::expect_used, reason = "of tests only")]

mod attestation;
mod card;
mod cipher;
mod desk;
mod keys;
mod model;
mod reader;
mod state;
mod status;
mod tlv;

use std::{env, path::Path, process::ExitCode, sync::Arc};

use crate::{
    card::Card,
    model::{Model, Touch},
    reader::Faults,
};

fn main() -> ExitCode {
    let arguments: Vec<_> = env::args().skip(1).collect();
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    let outcome = match arguments[..] {
        ["desk", folder, readers, outside] => desk::run(Path::new(folder), readers, outside),
        ["card", address, folder, serial, firmware, touch] => card(address, folder, serial, firmware, touch),
        ["root"] => attestation::root_pem().map(|pem| print!("{pem}")).ok_or_else(|| "no root".into()),
        _ => Err(USAGE.into()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => {
            eprintln!("error: {message}");
            ExitCode::FAILURE
        }
    }
}

/// Is one card, until the reader is gone.
fn card(address: &str, folder: &str, serial: &str, firmware: &str, touch: &str) -> Result<(), String> {
    let serial = serial.parse().map_err(|_| format!("not a serial number: `{serial}`"))?;
    let model = Model { firmware: firmware.parse()?, serial, touch: touch.parse::<Touch>()? };
    let folder = Path::new(folder);
    let faults = Arc::new(Faults::default());
    faults.clone().obey();
    let served = keys::with_keys(folder, |keys| {
        let card = Card::new(model, keys, folder)?;
        reader::serve(card, address, faults)
    });
    served.and_then(|served| served).map_err(|error| format!("the card in `{}`: {error}", folder.display()))
}

const USAGE: &str = "bad usage
usage: unshare -rmn virtual-yubikey desk FOLDER READERS \"$(readlink /proc/self/ns/mnt)\"
       virtual-yubikey card HOST:PORT FOLDER SERIAL FIRMWARE TOUCH     (TOUCH: `never`, or after so many ms)
       virtual-yubikey root                                            (the attestation root's certificate)";
