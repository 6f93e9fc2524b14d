//! All that the YubiKeys of this machine show without a PIN, for those who are about to configure one. Changes nothing.

use hallmark_core::{
    key::{Alg, KeySpec},
    ports::HsmFault,
    public_key::{Numbers, PublicKey},
};
use yubikey::{Context, PinPolicy, TouchPolicy, Version};

use super::{
    card::{OLDEST, WITH_DELETE},
    classify::fault,
    finding,
    inventory::{Held, Owner},
    look::PinTries,
    making,
    names::Object,
    slot::Slot,
    wire::{PinStatus, Wire},
};

/// What is told, in its order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Told {
    /// This is about to be asked.
    Begin(String),
    /// What was asked did not come: the question, the answer.
    Failed(String, String),
    /// A reader in which no YubiKey can be used, and why.
    Reader(String, String),
    Yubikey(SurveyedYubikey),
    /// A slot of the YubiKey with that serial.
    Slot(u32, SurveyedSlot),
    End,
}

/// A YubiKey.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct SurveyedYubikey {
    pub serial: u32,
    pub firmware: String,
    pub reader: String,
    /// `None` while another program has a PIN session: the count is not told then.
    pub tries_left: Option<u8>,
    /// What keeps Hallmark from using it.
    pub obstacles: Vec<String>,
    /// Each algorithm with the RSA lengths that can be made, or why not.
    pub algs: Vec<(String, Result<String, String>)>,
    /// How a key is destroyed.
    pub destroys: &'static str,
}

/// A slot that holds something.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct SurveyedSlot {
    /// In hexadecimal, such as `9a`.
    pub slot: String,
    /// Whose it is, in words.
    pub holds: String,
    /// Such as `RSA-2048`; `None` where there is no key, or one of another kind.
    pub kind: Option<String>,
    pub generated: Option<bool>,
    pub pin_policy: Option<String>,
    pub touch_policy: Option<String>,
    /// Why its key could not sign for a service.
    pub blocked: Option<String>,
}

/// Looks at every reader, or at the YubiKey with `serial` alone. Tries no PIN; where another program has a PIN session, which
/// a look into the slots would end, that look is left out.
pub fn survey(serial: Option<u32>, tell: &mut dyn FnMut(Told)) {
    tell(Told::Begin("readers".to_owned()));
    match finding::all() {
        Err(why) => tell(Told::Failed("readers".to_owned(), why.to_string())),
        Ok(readers) => {
            for (reader, found) in readers {
                match found {
                    Err(why) => tell(Told::Reader(reader, why)),
                    Ok((there, _)) if serial.is_some_and(|serial| serial != there) => {
                        tell(Told::Reader(
                            reader,
                            format!("has the YubiKey with serial {there}, which was not asked for"),
                        ));
                    }
                    Ok((there, wire)) => one(&reader, there, wire, tell),
                }
            }
        }
    }
    tell(Told::End);
}

fn one(reader: &str, serial: u32, mut wire: Wire, tell: &mut dyn FnMut(Told)) {
    let asked = format!("firmware and PIN of {serial}");
    tell(Told::Begin(asked.clone()));
    let read = wire.version().and_then(|version| Ok((version, wire.pin_status()?)));
    let ([major, minor, patch], pin) = match read {
        Ok(read) => read,
        Err(why) => return tell(Told::Failed(asked, why.to_string())),
    };
    let firmware = Version { major, minor, patch };
    let tries = match pin {
        PinStatus::Verified => PinTries::InUse,
        PinStatus::Tries(left) => PinTries::Left(left),
    };
    tell(Told::Yubikey(judge(serial, firmware, reader, tries)));
    drop(wire);
    let asked = format!("slots of {serial}");
    if tries == PinTries::InUse {
        let why = "not asked: a program has a PIN session, which this would end; it may be Hallmark's server";
        return tell(Told::Failed(asked, why.to_owned()));
    }
    tell(Told::Begin(asked.clone()));
    if let Err(why) = slots(reader, serial, tell) {
        tell(Told::Failed(asked, why.to_string()));
    }
}

/// What Hallmark would make of it; asks nothing.
fn judge(serial: u32, firmware: Version, reader: &str, tries: PinTries) -> SurveyedYubikey {
    let mut obstacles = Vec::new();
    if firmware < OLDEST {
        obstacles.push(format!(
            "firmware {firmware} does not tell what is in its slots: {OLDEST} or later is needed, and it can't be updated"
        ));
    }
    match tries {
        PinTries::Left(0) => obstacles.push("its PIN is blocked: ykman piv access unblock-pin, with the PUK".to_owned()),
        PinTries::Left(1) => obstacles.push(
            "one try is left before its PIN is blocked, and Hallmark leaves it to you: verify it once with Yubico's tools"
                .to_owned(),
        ),
        PinTries::Left(_) | PinTries::InUse => {}
    }
    SurveyedYubikey {
        serial,
        firmware: firmware.to_string(),
        reader: reader.to_owned(),
        tries_left: match tries {
            PinTries::InUse => None,
            PinTries::Left(left) => Some(left),
        },
        obstacles,
        algs: Alg::ALL.into_iter().map(|alg| (alg.to_string(), makes(serial, firmware, alg))).collect(),
        destroys: if firmware >= WITH_DELETE {
            "DELETE KEY"
        } else {
            "overwritten by a new key that nobody needs: this firmware has no DELETE KEY"
        },
    }
}

/// What keys can be made for `alg`.
fn makes(serial: u32, firmware: Version, alg: Alg) -> Result<String, String> {
    let can = |rsa_bits| making::algorithm(serial, firmware, KeySpec { alg, rsa_bits });
    if !alg.is_rsa() {
        return can(2048).map(|_| "yes".to_owned()).map_err(first_line);
    }
    let lengths: Vec<_> =
        [2048, 3072, 4096].into_iter().filter(|bits| can(*bits).is_ok()).map(|bits| bits.to_string()).collect();
    Ok(format!("{} bits", lengths.join(", ")))
}

fn first_line(fault: HsmFault) -> String {
    fault.code.lines().next().unwrap_or_default().to_owned()
}

fn slots(reader: &str, serial: u32, tell: &mut dyn FnMut(Told)) -> Result<(), HsmFault> {
    let mut context = Context::open().map_err(|error| fault("SCardEstablishContext", error))?;
    let mut readers = context.iter().map_err(|error| fault("SCardListReaders", error))?;
    let Some(found) = readers.find(|other| other.name() == reader) else { return Ok(()) };
    let mut yubikey = found.open().map_err(|error| fault("SELECT", error))?;
    for slot in Slot::all() {
        let asked = format!("slot {slot} of {serial}");
        tell(Told::Begin(asked.clone()));
        match Held::read(&mut yubikey, slot) {
            Ok(held) => held_by(&held).into_iter().for_each(|slot| tell(Told::Slot(serial, slot))),
            Err(why) => tell(Told::Failed(asked, why.to_string())),
        }
    }
    // Dropped as it is it would reset the card, under other programs too.
    let _ = yubikey.disconnect(pcsc::Disposition::LeaveCard);
    Ok(())
}

fn held_by(held: &Held) -> Option<SurveyedSlot> {
    let holds = match held.owner() {
        Owner::Nobody if held.key.is_none() && held.object == Object::Nothing => return None,
        Owner::Nobody => "nothing that is in use (what a key of Hallmark's left)".to_owned(),
        Owner::Pair { label, is_ours: true, .. } => format!("Hallmark's `{label}`"),
        Owner::Pair { label, .. } => format!("a key of another program; Hallmark would call it `{label}`"),
        Owner::Certificate(what) => format!("no key, but {what}; it is left alone unless `overwrite` names the slot"),
    };
    let key = held.key.as_ref();
    let policy = key.and_then(|key| key.policy);
    Some(SurveyedSlot {
        slot: held.slot.to_string(),
        holds,
        kind: key.and_then(|key| key.public.as_ref()).map(kind),
        generated: key.map(|key| key.generated),
        pin_policy: policy.map(|(pin, _)| pin_policy(pin).to_owned()),
        touch_policy: policy.map(|(_, touch)| touch_policy(touch).to_owned()),
        blocked: held.check_policy().err().map(first_line),
    })
}

fn pin_policy(policy: PinPolicy) -> &'static str {
    match policy {
        PinPolicy::Default => "default",
        PinPolicy::Never => "never",
        PinPolicy::Once => "once",
        PinPolicy::Always => "always",
    }
}

fn touch_policy(policy: TouchPolicy) -> &'static str {
    match policy {
        TouchPolicy::Default => "default",
        TouchPolicy::Never => "never",
        TouchPolicy::Always => "always",
        TouchPolicy::Cached => "cached",
    }
}

fn kind(key: &PublicKey) -> String {
    match key.numbers() {
        Numbers::Rsa { n, .. } => format!("RSA-{}", n.len() * 8),
        Numbers::Ec { curve, .. } => curve.name().to_owned(),
        Numbers::Ed25519 { .. } => "Ed25519".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn firmware_and_tries_decide_what_can_be_done() {
        let of = |[major, minor, patch]: [u8; 3], tries| judge(7, Version { major, minor, patch }, "Yubico", tries);
        let (old, new) = (of([5, 4, 3], PinTries::Left(3)), of([5, 7, 2], PinTries::InUse));
        let alg = |of: &SurveyedYubikey, name: &str| of.algs.iter().find(|(alg, _)| alg == name).unwrap().1.clone();
        assert_eq!(alg(&old, "RS384"), Ok("2048 bits".to_owned()));
        assert_eq!(alg(&new, "PS256"), Ok("2048, 3072, 4096 bits".to_owned()));
        assert_eq!(alg(&old, "ES384"), Ok("yes".to_owned()));
        assert!(alg(&new, "EdDSA").unwrap_err().contains("whole message"));
        assert!(old.obstacles.is_empty() && new.obstacles.is_empty());
        assert_ne!(old.destroys, new.destroys);
        for (firmware, tries, word) in [
            ([5, 4, 3], PinTries::Left(0), "blocked"),
            ([5, 4, 3], PinTries::Left(1), "one try"),
            ([5, 2, 7], PinTries::Left(3), "5.3.0 or later"),
        ] {
            let obstacles = of(firmware, tries).obstacles.join("; ");
            assert!(obstacles.contains(word), "{obstacles}");
        }
    }
}
