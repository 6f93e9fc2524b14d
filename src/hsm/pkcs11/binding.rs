//! Which objects belong to a key record. A key is its public key: an object that merely has the right `CKA_ID` is not it.

use std::{
    collections::HashMap,
    sync::{PoisonError, RwLock},
};

use cryptoki::{
    object::{ObjectClass, ObjectHandle},
    session::Session,
};
use hallmark_core::{
    client::Custody,
    ports::{Evidence, FaultClass, HsmFault, KeyRef},
    public_key::PublicKey,
};

use super::objects::{self, Named};

/// The objects found in one epoch, shared by all sessions of the token. Found at a key's first use, since a soft
/// token's search is linear, or by one listing of the whole token.
#[derive(Default)]
pub(super) struct Bindings(RwLock<HashMap<Vec<u8>, Binding>>);

#[derive(Clone)]
struct Binding {
    pair: Pair,
    /// `None` until the private object's attributes were read.
    custody: Option<Custody>,
}

/// The two objects of a key pair.
#[derive(Clone)]
pub(super) struct Pair {
    pub(super) private: ObjectHandle,
    pub(super) label: String,
    pub(super) key: PublicKey,
}

impl Bindings {
    /// The private object of `key`, whose custody suffices.
    pub(super) fn private(&self, session: &Session, key: &KeyRef<'_>) -> Result<ObjectHandle, HsmFault> {
        let known = {
            let bindings = self.0.read().unwrap_or_else(PoisonError::into_inner);
            match bindings.get(key.cka_id) {
                Some(Binding { pair, custody: Some(custody) }) if pair.is(key) && *custody <= key.custody => {
                    return Ok(pair.private);
                }
                other => other.cloned(),
            }
        };
        let pair = match known {
            Some(Binding { pair, .. }) if pair.is(key) => pair,
            _ => locate(session, key)?,
        };
        let custody = sufficient(key, &objects::evidence(session, pair.private)?)?;
        let private = pair.private;
        self.insert(key.cka_id, Binding { pair, custody: Some(custody) });
        Ok(private)
    }

    /// Takes note of a pair that a listing of the whole token found, alone of its `CKA_ID`.
    pub(super) fn listed(&self, cka_id: &[u8], pair: Pair) {
        let bindings = self.0.read().unwrap_or_else(PoisonError::into_inner);
        if bindings.get(cka_id).is_none_or(|known| known.pair.private != pair.private) {
            drop(bindings);
            self.insert(cka_id, Binding { pair, custody: None });
        }
    }

    pub(super) fn evict(&self, cka_id: &[u8]) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).remove(cka_id);
    }

    /// Forgets all: a token gives private objects new handles at each login.
    pub(super) fn clear(&self) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).clear();
    }

    fn insert(&self, cka_id: &[u8], binding: Binding) {
        self.0.write().unwrap_or_else(PoisonError::into_inner).insert(cka_id.to_vec(), binding);
    }
}

impl Pair {
    fn is(&self, key: &KeyRef<'_>) -> bool {
        self.label == objects::unpadded(key.label) && self.key.numbers() == key.public.numbers()
    }
}

/// Searches the token for the objects of `key`: exactly one private and one public one, with its public key.
pub(super) fn locate(session: &Session, key: &KeyRef<'_>) -> Result<Pair, HsmFault> {
    only_public(session, key)?;
    let private = only(session, ObjectClass::PRIVATE_KEY, key)?;
    Ok(Pair { private: private.handle, label: private.label, key: key.public.clone() })
}

/// What there is of `key`, the private object first. A destruction that broke off leaves the public one alone.
pub(super) fn remains(session: &Session, key: &KeyRef<'_>) -> Result<Vec<ObjectHandle>, HsmFault> {
    let public = only_public(session, key)?;
    // Only who is certainly logged in can say that there is no private object.
    let orphaned =
        objects::is_logged_in(session)? == Some(true) && matching(session, ObjectClass::PRIVATE_KEY, key)?.is_empty();
    let private = if orphaned { None } else { Some(only(session, ObjectClass::PRIVATE_KEY, key)?) };
    Ok(private.iter().chain([&public]).map(|object| object.handle).collect())
}

/// The one public object of `key`, which holds its public key.
fn only_public(session: &Session, key: &KeyRef<'_>) -> Result<Named, HsmFault> {
    let public = only(session, ObjectClass::PUBLIC_KEY, key)?;
    match objects::public_key(session, &public)? {
        Some(found) if found.numbers() == key.public.numbers() => Ok(public),
        Some(other) => {
            let (theirs, ours) = (other.thumbprint(), key.public.thumbprint());
            Err(absent(key, format!("holds another key than the record: its thumbprint is `{theirs}`, not `{ours}`")))
        }
        None => Err(absent(key, "holds no key that can be read")),
    }
}

/// The objects of `class` with the key's `CKA_ID` and label, however many.
fn matching(session: &Session, class: ObjectClass, key: &KeyRef<'_>) -> Result<Vec<Named>, HsmFault> {
    let mut found = Vec::new();
    // The label is compared here and not by the token, which may pad it.
    for handle in objects::find(session, class, Some(key.cka_id))? {
        let object = objects::name(session, handle)?;
        if object.label == objects::unpadded(key.label) {
            found.push(object);
        }
    }
    Ok(found)
}

fn only(session: &Session, class: ObjectClass, key: &KeyRef<'_>) -> Result<Named, HsmFault> {
    let kind = if class == ObjectClass::PRIVATE_KEY { "private" } else { "public" };
    let mut found = matching(session, class, key)?;
    match (found.pop(), found.is_empty()) {
        (Some(object), true) => Ok(object),
        (Some(last), false) => {
            found.push(last);
            let handles: Vec<_> = found.iter().map(|object| object.handle.handle().to_string()).collect();
            Err(absent(key, format!("is there {} times as a {kind} object: {}", found.len(), handles.join(", "))))
        }
        // To who is not logged in, a token denies that private objects exist.
        (None, _) if objects::is_logged_in(session)? == Some(false) => {
            Err(HsmFault::new(FaultClass::Login, "C_FindObjects", "CKR_USER_NOT_LOGGED_IN"))
        }
        (None, _) => Err(absent(key, format!("has no {kind} object on the token"))),
    }
}

/// The custody that `evidence` shows, if it is as good as what `key` must have.
fn sufficient(key: &KeyRef<'_>, evidence: &Evidence) -> Result<Custody, HsmFault> {
    let too_weak =
        |why: &str| HsmFault::new(FaultClass::CustodyTooWeak, "C_GetAttributeValue", format!("{}: {why}", named(key)));
    let shown = evidence.custody().map_err(too_weak)?;
    if shown <= key.custody {
        return Ok(shown);
    }
    Err(too_weak("it was not generated on this token, or could be read or extracted once"))
}

fn absent(key: &KeyRef<'_>, what: impl std::fmt::Display) -> HsmFault {
    HsmFault::new(FaultClass::KeyAbsent, "C_FindObjects", format!("{} {what}", named(key)))
}

fn named(key: &KeyRef<'_>) -> String {
    format!("the key with CKA_ID `{}` and label `{}`", hex(key.cka_id), key.label)
}

pub(super) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
