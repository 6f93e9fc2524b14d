//! One worker's session with a PKCS#11 token.

use std::{collections::HashMap, sync::Arc};

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
    binding::{self, Pair},
    classify::fault,
    generate, import,
    life::OpenSession,
    lock,
    mechanisms::Recipe,
    module::Inside,
    objects::{self, Named},
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
        self.call(|_, epoch, session| {
            let all = |class| -> Result<Vec<Named>, HsmFault> {
                objects::find(session, class, None)?.into_iter().map(|handle| objects::name(session, handle)).collect()
            };
            let mut listing = Listing::default();
            for object in all(ObjectClass::PUBLIC_KEY)? {
                listing.add_public(session, object)?;
            }
            for object in all(ObjectClass::PRIVATE_KEY)? {
                listing.pairs.entry(object.cka_id.clone()).or_default().private.push(object);
            }
            Ok(listing.finish(epoch))
        })
    }

    fn generate(&mut self, new: &NewKey<'_>) -> Result<PublicKey, HsmFault> {
        self.call(|inside, epoch, _| {
            let _one = lock(epoch.life.module.making());
            let session = epoch.open_rw(inside)?;
            generate::pair(session.get()?, new)
        })
    }

    fn sign(&mut self, key: &KeyRef<'_>, alg: Alg, message: &[u8]) -> Result<Vec<u8>, HsmFault> {
        if !key.public.suits(alg) {
            return Err(HsmFault::new(FaultClass::Request, "C_SignInit", format!("the key can't sign with `{alg}`")));
        }
        self.call(|inside, epoch, session| {
            let recipe = epoch.recipe(inside, alg)?;
            let private = epoch.bindings.private(session, key)?;
            sign_by(epoch, recipe, session, private, (alg, message)).map_err(|e| {
                if e.class != FaultClass::Handle {
                    return e;
                }
                epoch.bindings.evict(key.cka_id);
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
            let remains = binding::remains(session, key)?;
            epoch.bindings.evict(key.cka_id);
            let writer = epoch.open_rw(inside)?;
            for object in remains {
                writer.get()?.destroy_object(object).map_err(fault)?;
            }
            Ok(())
        })
    }

    fn evidence(&mut self, key: &KeyRef<'_>) -> Result<Evidence, HsmFault> {
        self.call(|_, _, session| objects::evidence(session, binding::locate(session, key)?.private))
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
            let _one = lock(epoch.life.module.making());
            let session = epoch.open_rw(inside)?;
            import::pair(session.get()?, &known, recipe, key)
        })
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

/// The objects of a token, by `CKA_ID`.
#[derive(Default)]
struct Listing {
    pairs: HashMap<Vec<u8>, Listed>,
}

#[derive(Default)]
struct Listed {
    private: Vec<Named>,
    public: Vec<(Named, Option<PublicKey>)>,
}

impl Listing {
    fn add_public(&mut self, session: &Session, object: Named) -> Result<(), HsmFault> {
        let key = objects::public_key(session, &object)?;
        self.pairs.entry(object.cka_id.clone()).or_default().public.push((object, key));
        Ok(())
    }

    /// One entry for each object that has no partner or too many of them, one for each pair; and the pairs are bound.
    fn finish(self, epoch: &Epoch) -> Vec<HsmObject> {
        let mut listed = Vec::new();
        for (cka_id, Listed { private, public }) in self.pairs {
            if let ([private], [(object, Some(key))]) = (private.as_slice(), public.as_slice())
                && private.label == object.label
            {
                let pair = Pair { private: private.handle, label: private.label.clone(), key: key.clone() };
                epoch.bindings.listed(&cka_id, pair);
            }
            let mut private = private.into_iter();
            for (object, public) in public {
                let has_private = private.next().is_some();
                listed.push(HsmObject { cka_id: object.cka_id, label: object.label, public, has_private });
            }
            listed.extend(private.map(|alone| HsmObject {
                cka_id: alone.cka_id,
                label: alone.label,
                public: None,
                has_private: true,
            }));
        }
        listed.sort_by(|a, b| (&a.label, &a.cka_id).cmp(&(&b.label, &b.cka_id)));
        listed
    }
}

/// Return values that say that the session itself is no more, unlike `CKR_OPERATION_ACTIVE`.
const CLOSED: [&str; 2] = ["CKR_SESSION_HANDLE_INVALID", "CKR_SESSION_CLOSED"];
