//! Making a new token, for `hallmark dev`: only soft tokens have free slots that ask to be initialised.

use cryptoki::{
    context::Pkcs11,
    session::{Session, UserType},
    slot::{Slot, TokenInfo},
};
use hallmark_core::ports::{FaultClass, HsmFault};
use secrecy::SecretString;

use super::{Module, classify::fault, lock, objects::unpadded};

/// Initialises a free slot of `module` (`C_InitToken`, `C_InitPIN`), and answers with the new token's serial.
///
/// Never touches a token that is initialised already, and refuses a label that is taken.
pub fn provision_token(
    module: &Module,
    label: &str,
    so_pin: &SecretString,
    user_pin: &SecretString,
) -> Result<String, HsmFault> {
    let refused = |why: String| HsmFault::new(FaultClass::Request, "C_InitToken", why);
    if label.len() > 32 {
        return Err(refused(format!("a token's label has at most 32 bytes: `{label}`")));
    }
    let _one = lock(module.making());
    let inside = module.enter()?;
    let context = inside.context();
    if token(context, label)?.is_some() {
        return Err(refused(format!("there is a token with label `{label}` already")));
    }
    let free = tokens(context)?.into_iter().find(|(_, info)| !info.token_initialized());
    let (slot, _) = free.ok_or_else(|| refused(format!("`{}` has no free slot", module.path().display())))?;
    context.init_token(slot, so_pin, label).map_err(fault)?;

    // Soft tokens move to another slot when they are initialised.
    let made = token(context, label)?;
    let (slot, info) = made.ok_or_else(|| refused(format!("the new token `{label}` does not show up")))?;
    let session = context.open_rw_session_no_drop(slot).map_err(fault)?;
    let outcome = set_user_pin(&session, so_pin, user_pin);
    let _ = session.close();
    outcome?;
    Ok(unpadded(info.serial_number()).to_owned())
}

fn set_user_pin(session: &Session, so_pin: &SecretString, user_pin: &SecretString) -> Result<(), HsmFault> {
    session.login(UserType::So, Some(so_pin)).map_err(fault)?;
    session.init_pin(user_pin).map_err(fault)?;
    session.logout().map_err(fault)
}

fn token(context: &Pkcs11, label: &str) -> Result<Option<(Slot, TokenInfo)>, HsmFault> {
    let is_it = |info: &TokenInfo| info.token_initialized() && unpadded(info.label()) == label;
    Ok(tokens(context)?.into_iter().find(|(_, info)| is_it(info)))
}

fn tokens(context: &Pkcs11) -> Result<Vec<(Slot, TokenInfo)>, HsmFault> {
    let slots = context.get_slots_with_token().map_err(fault)?;
    slots.into_iter().map(|slot| Ok((slot, context.get_token_info(slot).map_err(fault)?))).collect()
}
