//! What a PIN session with a YubiKey takes, and what the card's answer means for the PIN.

use hallmark_core::ports::{FaultClass, HsmFault, PinVerdict};
use secrecy::ExposeSecret;

use super::wire::{PinStatus, Verified, Wire};
use crate::hsm::{
    credentials::{Credentials, refused},
    pin::PinSource,
};

/// Begins a PIN session where there is none. Tries the PIN only if neither the card nor the ledger warns of it.
pub(super) fn log_in(credentials: &Credentials, wire: &mut Wire, serial: u32) -> Result<(), HsmFault> {
    match wire.pin_status()? {
        PinStatus::Verified => return Ok(()),
        PinStatus::Tries(tries) => heed(serial, tries)?,
    }
    let (source, pin) = (&credentials.source, credentials.read()?);
    if !(6..=8).contains(&pin.secret.expose_secret().len()) {
        let why = format!("`{source}` does not hold a YubiKey's PIN, which has 6 to 8 bytes");
        return Err(refused("pin-source", format!("{why}\nhint: {}", source.renew_hint())));
    }
    // The ledger may have taken its time: others may have begun a PIN session since, or spent a try.
    let ask = || wire.verify(pin.secret.expose_secret(), SPARED);
    let (answer, _) = credentials.try_once((&serial.to_string(), "VERIFY"), &pin, ask, verdict)?;
    match answer? {
        Verified::Accepted => Ok(()),
        Verified::Refused { tries } => Err(not_accepted(source, serial, tries)),
        Verified::Withheld(PinStatus::Verified) => Ok(()),
        Verified::Withheld(PinStatus::Tries(tries)) => heed(serial, tries),
        Verified::Unasked(fault) => Err(fault),
    }
}

fn not_accepted(source: &PinSource, serial: u32, tries: u8) -> HsmFault {
    let hint = source.renew_hint();
    let left = if tries == 0 { "it is blocked now".to_owned() } else { format!("{tries} tries are left") };
    refused("VERIFY", format!("YubiKey {serial} refused the PIN in `{source}`; {left}\nhint: {hint}"))
}

/// The last try is left to a person, who can see what happens.
const SPARED: u8 = 1;

fn heed(serial: u32, tries: u8) -> Result<(), HsmFault> {
    match tries {
        0 => Err(refused(
            "VERIFY",
            format!("the PIN of YubiKey {serial} is blocked\nhint: ykman --device {serial} piv access unblock-pin"),
        )),
        SPARED => Err(refused(
            "VERIFY",
            format!(
                "one try is left before YubiKey {serial} blocks its PIN, and hallmark leaves it to you\n\
                 hint: verify the PIN once by hand, which resets the count: yubico-piv-tool -a verify-pin"
            ),
        )),
        _ => Ok(()),
    }
}

fn verdict(answer: &Result<Verified, HsmFault>) -> PinVerdict {
    match answer {
        Ok(Verified::Accepted) => PinVerdict::Accepted,
        Ok(Verified::Refused { .. }) => PinVerdict::Refused,
        Ok(Verified::Withheld(_) | Verified::Unasked(_)) => PinVerdict::NotTried,
        // Reset before the command, or another application was selected: nobody looked at it.
        Err(fault) if fault.class == FaultClass::Session => PinVerdict::NotTried,
        Err(fault) if fault.class == FaultClass::Gone => PinVerdict::Unknown,
        Err(_) => PinVerdict::Refused,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_try_is_left_to_a_person() {
        assert_eq!([0, 1, 2, 3].map(|tries| heed(7, tries).is_err()), [true, true, false, false]);
        assert!(heed(7, 0).unwrap_err().code.contains("unblock-pin"));
    }

    #[test]
    fn a_pin_is_forgiven_only_where_the_card_was_gone() {
        let of = |class| verdict(&Err(HsmFault::new(class, "VERIFY", "")));
        assert_eq!(of(FaultClass::Gone), PinVerdict::Unknown);
        assert_eq!(of(FaultClass::Session), PinVerdict::NotTried);
        assert_eq!(of(FaultClass::Unspecific), PinVerdict::Refused);
        assert_eq!(verdict(&Ok(Verified::Refused { tries: 2 })), PinVerdict::Refused);
        assert_eq!(verdict(&Ok(Verified::Accepted)), PinVerdict::Accepted);
        let withheld = [PinStatus::Verified, PinStatus::Tries(1)].map(Verified::Withheld);
        let unasked = Verified::Unasked(HsmFault::new(FaultClass::Gone, "VERIFY", ""));
        for unsent in withheld.into_iter().chain([unasked]) {
            assert_eq!(verdict(&Ok(unsent)), PinVerdict::NotTried);
        }
    }
}
