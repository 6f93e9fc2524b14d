//! What is in the slots, and which of it is a record's key.

use std::collections::HashSet;

use der::Encode;
use hallmark_core::{
    client::Custody,
    ports::{Evidence, FaultClass, HsmFault, HsmObject, KeyAttributes, KeyRef},
    public_key::PublicKey,
};

use yubikey::{
    Error, PinPolicy, TouchPolicy, YubiKey,
    piv::{self, Origin, SlotAlgorithmId},
};

use super::{
    classify::fault,
    hex,
    names::{Mark, Object},
    slot::Slot,
};

/// Everything in the slots that Hallmark may look at, as it was read last.
pub(super) struct Inventory(Vec<Held>);

/// One slot.
pub(super) struct Held {
    pub(super) slot: Slot,
    pub(super) key: Option<Key>,
    pub(super) object: Object,
}

/// What the card says of a key (GET METADATA).
pub(super) struct Key {
    /// `None` where it is of a kind that Hallmark can't use.
    pub(super) public: Option<PublicKey>,
    pub(super) policy: Option<(PinPolicy, TouchPolicy)>,
    pub(super) generated: bool,
}

/// Whose a slot is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    Nobody,
    /// A key pair: Hallmark's by its certificate, or another's, which goes by the number of its slot.
    Pair {
        cka_id: Vec<u8>,
        label: String,
        is_ours: bool,
    },
    /// A certificate without a key, of another program.
    Certificate(String),
}

impl Inventory {
    pub(super) fn read(yubikey: &mut YubiKey, slots: &[Slot]) -> Result<Self, HsmFault> {
        let all = slots.iter().map(|slot| Held::read(yubikey, *slot));
        Ok(Self(all.collect::<Result<_, _>>()?))
    }

    /// Reads one slot again.
    pub(super) fn renew(&mut self, yubikey: &mut YubiKey, slot: Slot) -> Result<(), HsmFault> {
        let now = Held::read(yubikey, slot)?;
        if let Some(held) = self.0.iter_mut().find(|held| held.slot == slot) {
            *held = now;
        }
        Ok(())
    }

    pub(super) fn objects(&self) -> Vec<HsmObject> {
        let pair = |held: &Held| match held.owner() {
            Owner::Pair { cka_id, label, .. } => {
                let public = held.key.as_ref().and_then(|key| key.public.clone());
                Some(HsmObject { cka_id, label, public, has_private: true })
            }
            Owner::Nobody | Owner::Certificate(_) => None,
        };
        self.0.iter().filter_map(pair).collect()
    }

    pub(super) fn has(&self, cka_id: &[u8]) -> bool {
        self.objects().iter().any(|object| object.cka_id == cka_id)
    }

    /// The one slot with the key of a record.
    pub(super) fn find(&self, wanted: &KeyRef<'_>) -> Result<&Held, HsmFault> {
        let mut found = self.0.iter().filter(|held| held.is_called(wanted.cka_id, wanted.label));
        match (found.next(), found.next()) {
            (Some(held), None) => match held.key.as_ref().and_then(|key| key.public.as_ref()) {
                Some(public) if public.numbers() == wanted.public.numbers() => Ok(held),
                Some(other) => {
                    let (theirs, ours) = (other.thumbprint(), wanted.public.thumbprint());
                    let slot = held.slot;
                    Err(absent(
                        wanted,
                        format!("is another in slot {slot}: its thumbprint is `{theirs}`, not `{ours}`"),
                    ))
                }
                None => Err(absent(wanted, format!("is of a kind in slot {} that can't be read", held.slot))),
            },
            (Some(one), Some(other)) => {
                Err(absent(wanted, format!("is there twice: slots {}, {}", one.slot, other.slot)))
            }
            (None, _) => Err(absent(wanted, "is in no slot that Hallmark may use")),
        }
    }

    /// The slot whose certificate names the key of a record that is half destroyed: overwritten or deleted, and its name is
    /// still there.
    pub(super) fn half_destroyed(&self, wanted: &KeyRef<'_>) -> Option<Slot> {
        let is_it = |held: &&Held| {
            let public = held.key.as_ref().and_then(|key| key.public.as_ref());
            matches!(&held.object, Object::Ours(named) if named.mark == Mark::Key
                && held.object.names(wanted.cka_id, wanted.label)
                && named.spki == wanted.public.spki()
                && public.is_none_or(|public| public.numbers() != wanted.public.numbers()))
        };
        let mut found = self.0.iter().filter(is_it);
        found.next().map(|held| held.slot).filter(|_| found.next().is_none())
    }

    /// A slot for a new key: the first that is nobody's; else the first of `overwrite` that is another's and not `used`
    /// by a record.
    pub(super) fn place(&self, overwrite: &[Slot], used: &HashSet<Slot>) -> Result<&Held, HsmFault> {
        if let Some(free) = self.0.iter().find(|held| held.owner() == Owner::Nobody) {
            return Ok(free);
        }
        let is_to_go = |held: &&Held| {
            let is_ours = matches!(held.owner(), Owner::Pair { is_ours: true, .. });
            overwrite.contains(&held.slot) && !is_ours && !used.contains(&held.slot)
        };
        self.0.iter().find(is_to_go).ok_or_else(|| self.full())
    }

    /// Whether `slot` is nobody's.
    pub(super) fn is_free(&self, slot: Slot) -> bool {
        self.0.iter().any(|held| held.slot == slot && held.owner() == Owner::Nobody)
    }

    fn full(&self) -> HsmFault {
        let mut ours = 0;
        let mut others = Vec::new();
        for held in &self.0 {
            match held.owner() {
                Owner::Pair { is_ours: true, .. } => ours += 1,
                Owner::Pair { .. } => others.push(format!("slot {}: a key of another program", held.slot)),
                Owner::Certificate(what) => others.push(format!("slot {}: {what}", held.slot)),
                Owner::Nobody => {}
            }
        }
        let others = if others.is_empty() { String::new() } else { format!("; {}", others.join("; ")) };
        let why = format!(
            "no slot is free: {ours} of {} hold Hallmark's keys{others}\n\
             hint: hallmark keys destroy KID --reason TEXT for a retired key, or name slots of others in \
             `overwrite` of the [[hsm]]",
            self.0.len()
        );
        HsmFault::new(FaultClass::Request, "GENERATE ASYMMETRIC KEY PAIR", why)
    }
}

impl Held {
    pub(super) fn read(yubikey: &mut YubiKey, slot: Slot) -> Result<Self, HsmFault> {
        let object = match yubikey.fetch_object(slot.certificate_object()) {
            Ok(contents) => Object::read(&contents),
            // An object that was emptied reads as too short.
            Err(Error::NotFound | Error::SizeError) => Object::Nothing,
            Err(error) => return Err(fault("GET DATA", error)),
        };
        let key = match piv::metadata(yubikey, slot.id()?) {
            Ok(metadata) => Some(Key::of(&metadata)),
            Err(Error::NotFound) => None,
            // A kind of key that the crate does not know.
            Err(Error::AlgorithmError) => Some(Key { public: None, policy: None, generated: false }),
            Err(error) => return Err(fault("GET METADATA", error)),
        };
        Ok(Self { slot, key, object })
    }

    pub(super) fn owner(&self) -> Owner {
        let Some(key) = &self.key else {
            return match &self.object {
                // What a generation that broke off has left, or a destruction.
                Object::Nothing | Object::Ours(_) => Owner::Nobody,
                Object::Foreign(what) => Owner::Certificate(what.clone()),
            };
        };
        match &self.object {
            Object::Ours(named) if named.mark == Mark::Destroyed && key.is(&named.spki) => Owner::Nobody,
            Object::Ours(named) if named.mark == Mark::Reserved || named.mark == Mark::Key && key.is(&named.spki) => {
                Owner::Pair { cka_id: named.cka_id.clone(), label: named.label.clone(), is_ours: true }
            }
            _ => Owner::Pair { cka_id: vec![self.slot.number()], label: format!("slot-{}", self.slot), is_ours: false },
        }
    }

    fn is_called(&self, wanted_id: &[u8], wanted_label: &str) -> bool {
        matches!(self.owner(), Owner::Pair { cka_id, label, .. } if cka_id == wanted_id && label == wanted_label)
    }

    /// Why the key can't serve a machine: nobody is there to touch it, or to type a PIN for each signature.
    pub(super) fn check_policy(&self) -> Result<(), HsmFault> {
        let Some((pin, touch)) = self.key.as_ref().and_then(|key| key.policy) else { return Ok(()) };
        let why = match (pin, touch) {
            (_, TouchPolicy::Always | TouchPolicy::Cached) => "it wants a touch, and nobody is there to give it",
            (PinPolicy::Always, _) => "it wants the PIN anew for each signature (PIN policy `always`)",
            _ => return Ok(()),
        };
        let what = format!("the key in slot {} can't sign for a service: {why}", self.slot);
        let hint =
            "make another: `hallmark keys create` and rotation make keys with PIN policy `once`, touch policy `never`";
        Err(HsmFault::new(FaultClass::Request, "GET METADATA", format!("{what}\nhint: {hint}")))
    }

    /// What the card says of it, without its attestation.
    pub(super) fn evidence(&self) -> Evidence {
        let born_here = self.key.as_ref().is_some_and(|key| key.generated);
        let attributes = KeyAttributes {
            local: Some(born_here),
            // PIV has no command that reads a private key.
            sensitive: Some(true),
            extractable: Some(false),
            always_sensitive: Some(born_here),
            never_extractable: Some(born_here),
            key_gen_mechanism: born_here.then(|| "GENERATE ASYMMETRIC KEY PAIR".to_owned()),
        };
        Evidence { attributes, attestation: Vec::new() }
    }

    /// That its custody is as good as what `wanted` must have.
    pub(super) fn check_custody(&self, wanted: &KeyRef<'_>) -> Result<(), HsmFault> {
        let too_weak =
            |why: &str| HsmFault::new(FaultClass::CustodyTooWeak, "GET METADATA", format!("{}: {why}", called(wanted)));
        if self.evidence().custody().map_err(too_weak)? <= wanted.custody {
            return Ok(());
        }
        Err(too_weak(match wanted.custody {
            Custody::Attested => "its attestation was not checked",
            _ => "it was not made on this YubiKey",
        }))
    }
}

impl Key {
    fn of(metadata: &piv::SlotMetadata) -> Self {
        let spki = metadata.public.as_ref().and_then(|public| public.to_der().ok());
        let is_signing_key = matches!(metadata.algorithm, SlotAlgorithmId::Asymmetric(_));
        Self {
            public: spki.filter(|_| is_signing_key).and_then(|spki| PublicKey::from_spki(&spki).ok()),
            policy: metadata.policy,
            generated: metadata.origin == Some(Origin::Generated),
        }
    }

    fn is(&self, spki: &[u8]) -> bool {
        let theirs = PublicKey::from_spki(spki).ok();
        self.public.as_ref().zip(theirs).is_some_and(|(ours, theirs)| *ours.numbers() == *theirs.numbers())
    }
}

fn absent(key: &KeyRef<'_>, what: impl std::fmt::Display) -> HsmFault {
    HsmFault::new(FaultClass::KeyAbsent, "GET METADATA", format!("{} {what}", called(key)))
}

fn called(key: &KeyRef<'_>) -> String {
    format!("the key with CKA_ID `{}` and label `{}`", hex(key.cka_id), key.label)
}

#[cfg(test)]
mod tests;
