//! Putting the key on the token, or finding it there.

use hallmark_core::{
    client::Custody,
    key::{Alg, ClientName},
    ports::{Entry, FaultClass, ForeignKey, Hsm, HsmFault, HsmObject, HsmSession, ImportSession, KeyRef},
    public_key::PublicKey,
};
use uuid::Uuid;

use super::{super::super::Failure, refused};
use crate::{config, hsm::pkcs11::Pkcs11Token};

/// Where the key is now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Placed {
    pub(super) cka_id: Vec<u8>,
    pub(super) label: String,
    /// `None`: it was there already.
    pub(super) entry: Option<Entry>,
}

/// Blocks. A key that is there already, by its public key, is not put there twice.
pub(super) fn place(
    token: &Pkcs11Token,
    client: &ClientName,
    alg: Alg,
    pkcs8: &[u8],
    public: &PublicKey,
) -> Result<Placed, HsmFault> {
    token.connect()?;
    let mut session = token.open_session()?;
    let objects = session.list()?;
    let same: Vec<_> = objects
        .iter()
        .filter(|object| object.public.as_ref().is_some_and(|of| of.numbers() == public.numbers()))
        .collect();
    let (cka_id, label) = match same.as_slice() {
        [] => names(client, alg),
        [HsmObject { cka_id, label, has_private: false, .. }] => (cka_id.clone(), label.clone()),
        [HsmObject { cka_id, label, .. }] => {
            let placed = Placed { cka_id: cka_id.clone(), label: label.clone(), entry: None };
            check(&mut session, &placed, alg, public)?;
            return Ok(placed);
        }
        several => {
            let why =
                format!("the key is there {} times\nhint: remove all but one with the HSM's tools", several.len());
            return Err(HsmFault::new(FaultClass::KeyAbsent, "C_FindObjects", why));
        }
    };
    let key = ForeignKey { cka_id: &cka_id, label: &label, alg, pkcs8, public };
    let entry = Some(session.import(&key)?);
    Ok(Placed { cka_id, label, entry })
}

/// That what was found is the key, and can sign.
fn check(session: &mut dyn HsmSession, placed: &Placed, alg: Alg, public: &PublicKey) -> Result<(), HsmFault> {
    let key = KeyRef { cka_id: &placed.cka_id, label: &placed.label, public, custody: Custody::Imported };
    let message = [b"hallmark-possession-v1\0", Uuid::new_v4().as_bytes().as_slice()].concat();
    let signature = session.sign(&key, alg, &message)?;
    if public.verifier(alg).is_ok_and(|verifier| verifier.verifies(&message, &signature)) {
        return Ok(());
    }
    Err(HsmFault::new(
        FaultClass::KeyAbsent,
        "C_Sign",
        "the key that is there already makes signatures that don't verify",
    ))
}

/// As the objects of generated keys are named, so that people and the server see whose they are.
fn names(client: &ClientName, alg: Alg) -> (Vec<u8>, String) {
    let end = Uuid::new_v4().simple().to_string();
    (Uuid::new_v4().as_bytes().to_vec(), format!("hallmark:{client}:{alg}:{}", &end[..8]))
}

pub(super) fn failed(hsm: &config::Hsm, fault: HsmFault) -> Failure {
    let text = fault.to_string();
    let (why, hint) = text.split_once("\nhint: ").unwrap_or((&text, ""));
    let failure =
        refused(format!("HSM `{}` did not take the key", hsm.name)).because(why).detail("class", fault.class.as_str());
    match (hint, fault.class) {
        ("", FaultClass::Request | FaultClass::Unsupported) => failure.hint(
            "some HSMs take no keys from outside, or only of some kinds: see its manual, or have a key made in it: hallmark \
             keys create CLIENT --reason TEXT",
        ),
        ("", _) => failure.hint("see that the HSM works, then type the same command again"),
        (hint, _) => failure.hint(hint),
    }
}
