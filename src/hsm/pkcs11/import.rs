//! Putting keys on a token that were made elsewhere.

mod parts;
mod wrap;

use aws_lc_rs::rand;
use cryptoki::{
    mechanism::MechanismType,
    object::{Attribute, ObjectClass, ObjectHandle},
    session::Session,
};
use hallmark_core::{
    client::Custody,
    ports::{Entry, FaultClass, ForeignKey, HsmFault, KeyRef},
};
use zeroize::Zeroize;

use self::parts::Form;
use super::{binding, binding::hex, classify::fault, mechanisms::Recipe, objects};

/// Makes the pair through a read-write session. The caller sees to it that nobody else makes one at the same time.
///
/// The public object comes first: a private one alone would not say which key it is, and could not be found again.
pub(super) fn pair(
    session: &Session,
    known: &[MechanismType],
    recipe: Recipe,
    key: &ForeignKey<'_>,
) -> Result<Entry, HsmFault> {
    let forms = parts::forms(key)?;
    let left = remains(session, key)?;
    let mut last = None;
    for form in &forms {
        let mut made = Made { session, objects: Vec::new() };
        if left.is_none() {
            match session.create_object(&public_template(key, form)).map_err(fault) {
                Ok(object) => made.objects.push(object),
                Err(e) if may_take_another(&e) => {
                    last = Some(e);
                    continue;
                }
                Err(e) => return Err(e),
            }
        }
        match private(&mut made, known, recipe, key, form) {
            Ok(entry) => {
                made.objects.clear();
                return Ok(entry);
            }
            Err(e) if may_take_another(&e) => last = Some(e),
            Err(e) => return Err(e),
        }
    }
    Err(last.unwrap_or_else(|| HsmFault::new(FaultClass::Unsupported, "C_CreateObject", "no form of the key")))
}

/// The private object: by the way on which nobody can read it, if the token knows it.
fn private(
    made: &mut Made<'_>,
    known: &[MechanismType],
    recipe: Recipe,
    key: &ForeignKey<'_>,
    form: &Form,
) -> Result<Entry, HsmFault> {
    if wrap::MECHANISMS.iter().all(|mechanism| known.contains(mechanism)) {
        match wrap::unwrap(made.session, key, &private_template(key, form)) {
            Ok(object) => match signs(made.session, recipe, key) {
                Ok(()) => return Ok(Entry::Unwrapped),
                Err(error) => {
                    tracing::warn!(%error, "the token unwrapped the key and can't use it; trying C_CreateObject");
                    made.session.destroy_object(object).map_err(fault)?;
                }
            },
            Err(e) if may_take_another(&e) => {
                tracing::debug!(error = %e, "the token does not unwrap the key; trying C_CreateObject");
            }
            Err(e) => return Err(e),
        }
    }
    let mut template = [private_template(key, form), form.secret.clone()].concat();
    let created = made.session.create_object(&template).map_err(fault);
    template.iter_mut().for_each(wipe);
    made.objects.push(created?);
    signs(made.session, recipe, key)?;
    Ok(Entry::Created)
}

/// A pair that can't sign, or is another key, is worse than none.
fn signs(session: &Session, recipe: Recipe, key: &ForeignKey<'_>) -> Result<(), HsmFault> {
    let wrong = |why: &str| HsmFault::new(FaultClass::Unsupported, "C_Sign", format!("of the imported key: {why}"));
    let of = KeyRef { cka_id: key.cka_id, label: key.label, public: key.public, custody: Custody::Imported };
    let private = binding::locate(session, &of)?.private;
    objects::evidence(session, private)?.custody().map_err(wrong)?;
    let message = possession(key).map_err(|_| wrong("no random bytes"))?;
    let signature = recipe.sign(session, private, &message).map_err(fault)?;
    let verifier = key.public.verifier(key.alg).map_err(|e| wrong(&e.to_string()))?;
    match verifier.verifies(&message, &signature) {
        true => Ok(()),
        false => Err(wrong("the signature does not verify")),
    }
}

/// Proof of possession: nothing that could be taken for a JWS.
fn possession(key: &ForeignKey<'_>) -> Result<Vec<u8>, aws_lc_rs::error::Unspecified> {
    let mut nonce = [0; 32];
    rand::fill(&mut nonce)?;
    Ok([b"hallmark-possession-v1\0", key.public.thumbprint().as_str().as_bytes(), &nonce].concat())
}

/// The public object of this very key, from a try that broke off. Anything else with its `CKA_ID` is an error.
fn remains(session: &Session, key: &ForeignKey<'_>) -> Result<Option<ObjectHandle>, HsmFault> {
    let there = || {
        let why = format!("an object with CKA_ID `{}` is there already", hex(key.cka_id));
        HsmFault::new(FaultClass::Request, "C_CreateObject", why)
    };
    if !objects::find(session, ObjectClass::PRIVATE_KEY, Some(key.cka_id))?.is_empty() {
        return Err(there());
    }
    match objects::find(session, ObjectClass::PUBLIC_KEY, Some(key.cka_id))?.as_slice() {
        [] => Ok(None),
        [one] => {
            let object = objects::name(session, *one)?;
            let same = objects::public_key(session, &object)?.is_some_and(|of| of.numbers() == key.public.numbers());
            if same && object.label == key.label { Ok(Some(*one)) } else { Err(there()) }
        }
        _ => Err(there()),
    }
}

fn public_template(key: &ForeignKey<'_>, form: &Form) -> Vec<Attribute> {
    let kind = [
        Attribute::Class(ObjectClass::PUBLIC_KEY),
        Attribute::KeyType(form.key_type),
        Attribute::Private(false),
        Attribute::Verify(true),
    ];
    [&kind, names(key).as_slice(), &form.public].concat()
}

fn private_template(key: &ForeignKey<'_>, form: &Form) -> Vec<Attribute> {
    let kind = [
        Attribute::Class(ObjectClass::PRIVATE_KEY),
        Attribute::KeyType(form.key_type),
        Attribute::Private(true),
        Attribute::Sensitive(true),
        Attribute::Extractable(false),
        Attribute::Sign(true),
        // Left out, some tokens let an imported key do everything.
        Attribute::Decrypt(false),
        Attribute::Unwrap(false),
        Attribute::Derive(false),
        Attribute::SignRecover(false),
    ];
    [&kind, names(key).as_slice()].concat()
}

fn names(key: &ForeignKey<'_>) -> Vec<Attribute> {
    vec![Attribute::Token(true), Attribute::Id(key.cka_id.to_vec()), Attribute::Label(key.label.as_bytes().to_vec())]
}

/// Whether another way or another form may succeed where this one failed.
fn may_take_another(fault: &HsmFault) -> bool {
    matches!(
        fault.class,
        FaultClass::Request | FaultClass::Unsupported | FaultClass::Unspecific | FaultClass::CustodyTooWeak
    )
}

/// Overwrites what an attribute holds of a private key.
fn wipe(attribute: &mut Attribute) {
    if let Attribute::PrivateExponent(secret)
    | Attribute::Prime1(secret)
    | Attribute::Prime2(secret)
    | Attribute::Exponent1(secret)
    | Attribute::Exponent2(secret)
    | Attribute::Coefficient(secret)
    | Attribute::Value(secret) = attribute
    {
        secret.zeroize();
    }
}

/// What was made so far; removed unless it is taken out.
struct Made<'a> {
    session: &'a Session,
    objects: Vec<ObjectHandle>,
}

impl Drop for Made<'_> {
    fn drop(&mut self) {
        for object in self.objects.drain(..).rev() {
            if let Err(error) = self.session.destroy_object(object) {
                tracing::warn!(%error, "a part of a key that could not be imported is still on the token");
            }
        }
    }
}
