//! Making a new token, for `hallmark dev`: only soft tokens have free slots that ask to be initialised.

use cryptoki::{
    context::Pkcs11,
    session::{Session, UserType},
    slot::{Slot, TokenInfo},
};
use hallmark_core::ports::{FaultClass, HsmFault};
use secrecy::SecretString;

use super::{Module, classify::fault, objects::unpadded};

/// Makes sure that `module` has a token `label` with a user PIN (`C_InitToken`, `C_InitPIN`); answers with its serial.
///
/// May be cut short anywhere and called again with the same PINs. Takes a free slot where there is no such token, sets
/// the user PIN where one was not set yet, and leaves a finished token alone.
pub fn provision_token(
    module: &Module,
    label: &str,
    so_pin: &SecretString,
    user_pin: &SecretString,
) -> Result<String, HsmFault> {
    if label.len() > 32 {
        return Err(refused(format!("a token's label has at most 32 bytes: `{label}`\nhint: choose a shorter one")));
    }
    let _turn = module.turns().change();
    let inside = module.enter()?;
    let context = inside.context();
    let (slot, info) = match token(context, label)? {
        Some(found) => found,
        None => initialise(module, context, label, so_pin)?,
    };
    if !info.user_pin_initialized() {
        let session = context.open_rw_session_no_drop(slot).map_err(fault)?;
        let outcome = set_user_pin(&session, so_pin, user_pin);
        let _ = session.close();
        outcome?;
    }
    Ok(unpadded(info.serial_number()).to_owned())
}

fn initialise(
    module: &Module,
    context: &Pkcs11,
    label: &str,
    so_pin: &SecretString,
) -> Result<(Slot, TokenInfo), HsmFault> {
    let free = tokens(context)?.into_iter().find(|(_, info)| !info.token_initialized());
    let (slot, _) = free.ok_or_else(|| {
        let path = module.path().display();
        refused(format!("`{path}` has no free slot\nhint: only soft tokens have; see its own configuration"))
    })?;
    context.init_token(slot, so_pin, label).map_err(fault)?;
    // Soft tokens move to another slot when they are initialised.
    token(context, label)?.ok_or_else(|| {
        refused(format!("the new token `{label}` does not show up\nhint: see whether its folder can be written to"))
    })
}

fn set_user_pin(session: &Session, so_pin: &SecretString, user_pin: &SecretString) -> Result<(), HsmFault> {
    session.login(UserType::So, Some(so_pin)).map_err(fault)?;
    session.init_pin(user_pin).map_err(fault)?;
    session.logout().map_err(fault)
}

fn token(context: &Pkcs11, label: &str) -> Result<Option<(Slot, TokenInfo)>, HsmFault> {
    let is_it = |info: &TokenInfo| info.token_initialized() && unpadded(info.label()) == label;
    let mut found = tokens(context)?.into_iter().filter(|(_, info)| is_it(info));
    match (found.next(), found.next()) {
        (_, Some(_)) => {
            Err(refused(format!("there is more than one token with label `{label}`\nhint: remove all but one")))
        }
        (found, None) => Ok(found),
    }
}

fn tokens(context: &Pkcs11) -> Result<Vec<(Slot, TokenInfo)>, HsmFault> {
    let slots = context.get_slots_with_token().map_err(fault)?;
    slots.into_iter().map(|slot| Ok((slot, context.get_token_info(slot).map_err(fault)?))).collect()
}

fn refused(why: String) -> HsmFault {
    HsmFault::new(FaultClass::Request, "C_InitToken", why)
}
