//! Which objects belong to a key record.
//!
//! The halves of a pair are matched by `CKA_ID`, and by nothing else: some modules give each half a label of its own. The
//! record's label is the private object's. A key is its public key: a public object that merely has the right `CKA_ID` is
//! not it, whatever its label.

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
    /// The private object's.
    pub(super) label: String,
    pub(super) key: PublicKey,
}

impl Bindings {
    /// The private object of `key`, where it was found before and its custody suffices.
    pub(super) fn known(&self, key: &KeyRef<'_>) -> Option<ObjectHandle> {
        let bindings = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let Binding { pair, custody } = bindings.get(key.cka_id)?;
        let suffices = custody.is_some_and(|custody| custody <= key.custody);
        (pair.is(key) && suffices).then_some(pair.private)
    }

    /// Finds the private object of `key`, whose custody suffices.
    pub(super) fn search(&self, session: &Session, key: &KeyRef<'_>) -> Result<ObjectHandle, HsmFault> {
        let listed = self.0.read().unwrap_or_else(PoisonError::into_inner).get(key.cka_id).cloned();
        let pair = match listed {
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

/// Searches the token for the objects of `key`: exactly one public one with its public key, and one private one with its
/// label. That the two belong together is shown by signatures alone, which the pool verifies.
pub(super) fn locate(session: &Session, key: &KeyRef<'_>) -> Result<Pair, HsmFault> {
    only_public(session, key)?;
    let private = only_private(session, key)?;
    Ok(Pair { private: private.handle, label: private.label, key: key.public.clone() })
}

/// What there is of `key`, the private object first. A destruction that broke off leaves the public one alone.
pub(super) fn remains(session: &Session, key: &KeyRef<'_>) -> Result<Vec<ObjectHandle>, HsmFault> {
    let public = only_public(session, key)?;
    // Only who is certainly logged in can say that there is no private object.
    let orphaned = objects::is_logged_in(session)? == Some(true) && privates(session, key)?.is_empty();
    let private = if orphaned { None } else { Some(only_private(session, key)?.handle) };
    Ok(private.into_iter().chain([public]).collect())
}

/// The one public object under the key's `CKA_ID` that holds its public key.
fn only_public(session: &Session, key: &KeyRef<'_>) -> Result<ObjectHandle, HsmFault> {
    let (mut ours, mut others) = (Vec::new(), Vec::new());
    for handle in objects::find(session, ObjectClass::PUBLIC_KEY, Some(key.cka_id))? {
        match objects::public_key(session, &objects::name(session, handle)?)? {
            Some(found) if found.numbers() == key.public.numbers() => ours.push(handle),
            other => others.push(other),
        }
    }
    let what = match (ours.as_slice(), others.as_slice()) {
        ([public], _) => return Ok(*public),
        ([], []) => return Err(not_there(session, key, "public")?),
        ([], [.., Some(other)]) => {
            let (theirs, ours) = (other.thumbprint(), key.public.thumbprint());
            format!("holds another key than the record: its thumbprint is `{theirs}`, not `{ours}`")
        }
        ([], _) => "holds no key that can be read".to_owned(),
        _ => several("public", &ours),
    };
    Err(absent(key, what))
}

/// The one private object under the key's `CKA_ID` that has its label.
fn only_private(session: &Session, key: &KeyRef<'_>) -> Result<Named, HsmFault> {
    let mut found = privates(session, key)?;
    match (found.pop(), found.is_empty()) {
        (Some(object), true) => Ok(object),
        (Some(last), false) => {
            let handles: Vec<_> = found.iter().chain([&last]).map(|object| object.handle).collect();
            Err(absent(key, several("private", &handles)))
        }
        (None, _) => Err(not_there(session, key, "private")?),
    }
}

fn privates(session: &Session, key: &KeyRef<'_>) -> Result<Vec<Named>, HsmFault> {
    let mut found = Vec::new();
    // The label is compared here and not by the token, which may pad it.
    for handle in objects::find(session, ObjectClass::PRIVATE_KEY, Some(key.cka_id))? {
        let object = objects::name(session, handle)?;
        if object.label == objects::unpadded(key.label) {
            found.push(object);
        }
    }
    Ok(found)
}

/// To who is not logged in, a token denies that private objects exist.
fn not_there(session: &Session, key: &KeyRef<'_>, kind: &str) -> Result<HsmFault, HsmFault> {
    Ok(match objects::is_logged_in(session)? {
        Some(false) => HsmFault::new(FaultClass::Login, "C_FindObjects", "CKR_USER_NOT_LOGGED_IN"),
        _ => absent(key, format!("has no {kind} object on the token")),
    })
}

fn several(kind: &str, handles: &[ObjectHandle]) -> String {
    let shown: Vec<_> = handles.iter().map(|handle| handle.handle().to_string()).collect();
    format!("is there {} times as a {kind} object: {}", handles.len(), shown.join(", "))
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
