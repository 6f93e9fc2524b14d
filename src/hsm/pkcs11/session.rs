//! One worker's session with a PKCS#11 token.

use std::sync::Arc;

use cryptoki::{
    error::{Error, RvError},
    object::{ObjectClass, ObjectHandle},
    session::Session,
};
use hallmark_core::{
    key::Alg,
    ports::{Entry, Evidence, FaultClass, ForeignKey, HsmFault, HsmObject, HsmSession, ImportSession, KeyRef, NewKey},
    public_key::PublicKey,
};

use super::{
    binding,
    classify::{code, fault},
    generate, import,
    life::OpenSession,
    listing::Listing,
    lock,
    mechanisms::Recipe,
    module::Inside,
    objects,
    token::Epoch,
};

/// A session as [`HsmSession`]; opened by [`super::Pkcs11Token`].
pub struct Pkcs11Session {
    epoch: Arc<Epoch>,
    session: OpenSession,
}

impl Pkcs11Session {
    pub(super) fn new(epoch: Arc<Epoch>, session: OpenSession) -> Self {
        Self { epoch, session }
    }

    /// Makes calls inside the library, and draws from a failure what concerns more than this call.
    fn call<T>(
        &mut self,
        calls: impl FnOnce(&Inside<'_>, &Epoch, &Session) -> Result<T, HsmFault>,
    ) -> Result<T, HsmFault> {
        let inside = self.epoch.life.enter()?;
        let outcome = calls(&inside, &self.epoch, self.session.get()?);
        if let Err(e) = &outcome {
            match e.class {
                FaultClass::Login => self.epoch.logged_out(),
                FaultClass::Session if CLOSED.contains(&e.code.as_str()) => self.session.forget(),
                _ => {}
            }
        }
        outcome
    }
}

impl HsmSession for Pkcs11Session {
    fn list(&mut self) -> Result<Vec<HsmObject>, HsmFault> {
        self.call(|inside, epoch, session| {
            let mut listing = Listing::default();
            for handle in epoch.looking(inside, || objects::find(session, ObjectClass::PUBLIC_KEY, None))? {
                let read = || {
                    let object = objects::name(session, handle)?;
                    let key = objects::public_key(session, &object)?;
                    Ok((object, key))
                };
                if let Some((object, key)) = unless_gone(epoch.looking(inside, read))? {
                    listing.add_public(object, key);
                }
            }
            for handle in epoch.looking(inside, || objects::find(session, ObjectClass::PRIVATE_KEY, None))? {
                if let Some(object) = unless_gone(epoch.looking(inside, || objects::name(session, handle)))? {
                    listing.add_private(object);
                }
            }
            Ok(listing.finish(&epoch.bindings))
        })
    }

    fn generate(&mut self, new: &NewKey<'_>) -> Result<PublicKey, HsmFault> {
        self.call(|inside, epoch, _| {
            let _turn = inside.turns().change();
            let session = epoch.open_rw(inside)?;
            let session = session.get()?;
            let made = generate::pair(session, new).map_err(|e| for_others(session, e));
            lock(&epoch.making).judge(made)
        })
    }

    fn sign(&mut self, key: &KeyRef<'_>, alg: Alg, message: &[u8]) -> Result<Vec<u8>, HsmFault> {
        if !key.public.suits(alg) {
            return Err(HsmFault::new(FaultClass::Request, "C_SignInit", format!("the key can't sign with `{alg}`")));
        }
        self.call(|inside, epoch, session| {
            let recipe = epoch.recipe(inside, alg)?;
            let private = match epoch.bindings.known(key) {
                Some(private) => private,
                None => epoch.looking(inside, || epoch.bindings.search(session, key))?,
            };
            sign_by(epoch, recipe, session, private, (alg, message)).map_err(|e| {
                match e.class {
                    FaultClass::Login if objects::wants_pin_each_time(session, private) => return wants_a_person(key),
                    FaultClass::Handle => epoch.bindings.evict(key.cka_id),
                    _ => return e,
                }
                // Private objects vanish with the login, and some modules say no more than that they are gone.
                match objects::is_logged_in(session) {
                    Ok(Some(false)) => HsmFault { class: FaultClass::Login, ..e },
                    _ => e,
                }
            })
        })
    }

    fn destroy(&mut self, key: &KeyRef<'_>) -> Result<(), HsmFault> {
        self.call(|inside, epoch, session| {
            let _turn = inside.turns().change();
            let remains = binding::remains(session, key)?;
            epoch.bindings.evict(key.cka_id);
            let writer = epoch.open_rw(inside)?;
            for object in remains {
                writer.get()?.destroy_object(object).map_err(|e| for_others(session, fault(e)))?;
            }
            Ok(())
        })
    }

    fn evidence(&mut self, key: &KeyRef<'_>) -> Result<Evidence, HsmFault> {
        self.call(|inside, epoch, session| {
            let private = epoch.looking(inside, || binding::locate(session, key))?.private;
            // A first signature may succeed all the same, as long as the login is fresh.
            if objects::wants_pin_each_time(session, private) {
                return Err(wants_a_person(key));
            }
            objects::evidence(session, private)
        })
    }
}

impl ImportSession for Pkcs11Session {
    fn import(&mut self, key: &ForeignKey<'_>) -> Result<Entry, HsmFault> {
        if !key.public.suits(key.alg) {
            let why = format!("the key can't sign with `{}`", key.alg);
            return Err(HsmFault::new(FaultClass::Request, "C_CreateObject", why));
        }
        self.call(|inside, epoch, _| {
            let recipe = epoch.recipe(inside, key.alg)?;
            let known = inside.context().get_mechanism_list(epoch.slot()).map_err(fault)?;
            let _turn = inside.turns().change();
            let session = epoch.open_rw(inside)?;
            import::pair(session.get()?, &known, recipe, key)
        })
    }
}

/// `None` for an object that somebody destroyed since it was found.
fn unless_gone<T>(read: Result<T, HsmFault>) -> Result<Option<T>, HsmFault> {
    match read {
        Err(fault) if fault.class == FaultClass::Handle => Ok(None),
        other => other.map(Some),
    }
}

/// Signs, by another mechanism where the token refuses one that it listed.
fn sign_by(
    epoch: &Epoch,
    recipe: Recipe,
    session: &Session,
    private: ObjectHandle,
    (alg, message): (Alg, &[u8]),
) -> Result<Vec<u8>, HsmFault> {
    let first = match recipe.sign(session, private, message) {
        Err(first @ Error::Pkcs11(RvError::MechanismInvalid, _)) => first,
        answer => return answer.map_err(fault),
    };
    match epoch.without(alg, recipe) {
        Some(other) => other.sign(session, private, message).map_err(fault),
        None => Err(fault(first)),
    }
}

/// Some tokens let no one but their security officer make or destroy keys, and say so in one of two ways.
fn for_others(session: &Session, refused: HsmFault) -> HsmFault {
    let login = refused.class == FaultClass::Login && objects::is_logged_in(session) == Ok(Some(true));
    if !login && refused.code != code(RvError::UserTypeInvalid) {
        return refused;
    }
    let why = format!(
        "{} to a user who is logged in: the token wants its security officer for this\n\
         hint: do it with the token's own tool. Keys that were made so are taken in by `hallmark keys adopt`, and one by \
         `custody_key` in [[hsm]]",
        refused.code
    );
    HsmFault { class: FaultClass::Request, code: why, ..refused }
}

/// What no login of ours mends.
fn wants_a_person(key: &KeyRef<'_>) -> HsmFault {
    let why = format!(
        "the key with CKA_ID `{}` wants the PIN before each signature (CKA_ALWAYS_AUTHENTICATE)\n\
         hint: make another, which does not (on a YubiKey: PIN policy `once`, and not in slot 9c)",
        binding::hex(key.cka_id)
    );
    HsmFault::new(FaultClass::Request, "C_Sign", why)
}

/// Return values that say that the session itself is no more, unlike `CKR_OPERATION_ACTIVE`.
const CLOSED: [&str; 2] = ["CKR_SESSION_HANDLE_INVALID", "CKR_SESSION_CLOSED"];
