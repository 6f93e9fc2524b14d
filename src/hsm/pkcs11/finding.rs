//! Finding a token by serial or label, and saying what is there where it is not.

use cryptoki::{
    context::Pkcs11,
    slot::{Slot, TokenInfo},
};
use hallmark_core::ports::{FaultClass, HsmFault};

use super::{
    classify::{fault, is_unreadable},
    module::Module,
    objects,
    token::TokenSelector,
};

/// A token that was looked for.
pub(super) struct Found {
    pub(super) slot: Slot,
    pub(super) serial: String,
    /// `None` where the token's info can't be read.
    pub(super) info: Option<TokenInfo>,
}

/// The one token that `selector` names.
pub(super) fn find(context: &Pkcs11, selector: &TokenSelector, module: &Module) -> Result<Found, HsmFault> {
    let slots = context.get_slots_with_token().map_err(fault)?;
    let mut readable = Vec::new();
    let mut failures = Vec::new();
    for slot in &slots {
        match context.get_token_info(*slot).map_err(fault) {
            Ok(info) if info.token_initialized() => readable.push((*slot, info)),
            Ok(_) => {}
            Err(e) => failures.push((*slot, e)),
        }
    }
    let matches = |info: &TokenInfo| match selector {
        TokenSelector::Serial(serial) => objects::unpadded(info.serial_number()) == objects::unpadded(serial),
        TokenSelector::Label(label) => objects::unpadded(info.label()) == objects::unpadded(label),
    };
    let mut chosen: Vec<_> = readable.iter().filter(|(_, info)| matches(info)).collect();
    match (chosen.pop(), chosen.as_slice(), slots.as_slice(), failures.as_slice()) {
        (Some((slot, info)), [], ..) => {
            let serial = objects::unpadded(info.serial_number()).to_owned();
            Ok(Found { slot: *slot, serial, info: Some(info.clone()) })
        }
        // Some tokens have a clock that does not parse, and then show nothing at all. Where it is the only token there
        // is, it is taken at the configuration's word; its keys must still be those of the records.
        (None, _, [slot], [(_, e)]) if is_unreadable(e) => {
            tracing::warn!(module = %module.path().display(), error = %e, "the token's info can't be read; serial and PIN state are unknown");
            let serial = match selector {
                TokenSelector::Serial(serial) => serial.clone(),
                TokenSelector::Label(label) => format!("label:{label}"),
            };
            Ok(Found { slot: *slot, serial, info: None })
        }
        (Some(last), others, ..) => {
            let serials = others.iter().chain([&last]).map(|(_, info)| format!("`{}`", info.serial_number()));
            Err(ambiguous(selector, &serials.collect::<Vec<_>>()))
        }
        (None, ..) => Err(not_there(selector, module, &readable, failures)),
    }
}

fn ambiguous(selector: &TokenSelector, serials: &[String]) -> HsmFault {
    let (count, serials) = (serials.len(), serials.join(", "));
    let what = format!("{selector} is there {count} times, with the serials {serials}");
    let hint = "name one by `token_serial` instead of `token_label`";
    HsmFault::new(FaultClass::Gone, "C_GetSlotList", format!("{what}\nhint: {hint}"))
}

fn not_there(
    selector: &TokenSelector,
    module: &Module,
    readable: &[(Slot, TokenInfo)],
    failures: Vec<(Slot, HsmFault)>,
) -> HsmFault {
    if let (true, Some((_, first))) = (readable.is_empty(), failures.into_iter().next()) {
        return first;
    }
    let shown = |(_, info): &(Slot, TokenInfo)| format!("`{}` (serial `{}`)", info.label(), info.serial_number());
    let there = match readable {
        [] => "it shows no initialised token\nhint: is the token plugged in, and its service up?".to_owned(),
        some => format!(
            "it has {}\nhint: correct `token_serial` or `token_label` in the [[hsm]] section",
            some.iter().map(shown).collect::<Vec<_>>().join(", ")
        ),
    };
    let path = module.path().display();
    HsmFault::new(FaultClass::Gone, "C_GetSlotList", format!("{selector} is not there in `{path}`: {there}"))
}
