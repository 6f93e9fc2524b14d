//! Making key pairs that can sign and do nothing else, and that can't leave the token.

use cryptoki::{
    error::{Error, RvError},
    mechanism::Mechanism,
    object::{Attribute, ObjectClass, ObjectHandle},
    session::Session,
};
use hallmark_core::{
    key::{Alg, KeySpec},
    ports::{FaultClass, HsmFault, NewKey},
    public_key::PublicKey,
};

use super::{binding::hex, classify::fault, objects};

/// How it went in one epoch.
#[derive(Default)]
pub(super) struct Making {
    has_made: bool,
    failed_in_a_row: u32,
}

impl Making {
    /// A library that made keys and then makes none, twice and without a reason that it could name, counts as gone: the one
    /// of TPMs keeps something of each key until it is started anew. Where that does not help, it is not asked for again.
    pub(super) fn judge<T>(&mut self, outcome: Result<T, HsmFault>) -> Result<T, HsmFault> {
        match &outcome {
            Ok(_) => *self = Self { has_made: true, failed_in_a_row: 0 },
            Err(fault) if fault.class == FaultClass::Unspecific => self.failed_in_a_row += 1,
            Err(_) => {}
        }
        let is_used_up = self.has_made && self.failed_in_a_row >= 2;
        outcome.map_err(|fault| if is_used_up { HsmFault { class: FaultClass::Gone, ..fault } } else { fault })
    }
}

/// Makes a pair through a read-write session. The caller sees to it that nobody else does at the same time.
pub(super) fn pair(session: &Session, new: &NewKey<'_>) -> Result<PublicKey, HsmFault> {
    refuse_to_overwrite(session, new)?;
    let (public, private) = generate(session, new).inspect_err(|_| remove_halves(session, new))?;
    read_back(session, new, public).inspect_err(|_| {
        // Nobody has seen its public key, so nobody needs it, and its CKA_ID is free for another try.
        for object in [private, public] {
            if let Err(error) = session.destroy_object(object) {
                tracing::warn!(label = new.label, %error, "a key pair that came out wrong is still on the token");
            }
        }
    })
}

fn refuse_to_overwrite(session: &Session, new: &NewKey<'_>) -> Result<(), HsmFault> {
    for class in [ObjectClass::PRIVATE_KEY, ObjectClass::PUBLIC_KEY] {
        if !objects::find(session, class, Some(new.cka_id))?.is_empty() {
            let why = format!("an object with CKA_ID `{}` is there already", hex(new.cka_id));
            return Err(HsmFault::new(FaultClass::Request, "C_GenerateKeyPair", why));
        }
    }
    Ok(())
}

fn generate(session: &Session, new: &NewKey<'_>) -> Result<(ObjectHandle, ObjectHandle), HsmFault> {
    let mut refused = None;
    for (mechanism, parameters) in kinds(new.spec)? {
        // Tokens differ in which uses they let a template forbid by name; what is not named is forbidden by default.
        for forbid in [true, false] {
            // Without VERIFY: it is not needed, for signatures are verified here, and the library of TPMs takes none beside a
            // private key that may not decrypt.
            let public = [names(new), vec![Attribute::Private(false)], parameters.clone()].concat();
            match session.generate_key_pair(&mechanism, &public, &private_template(new, forbid)) {
                Ok(pair) => return Ok(pair),
                Err(Error::Pkcs11(rv, function)) if concerns_template(rv) => {
                    refused.get_or_insert(fault(Error::Pkcs11(rv, function)));
                }
                Err(error) => return Err(fault(error)),
            }
        }
    }
    Err(refused.unwrap_or_else(|| HsmFault::new(FaultClass::Unsupported, "C_GenerateKeyPair", new.spec.alg)))
}

/// What a token made before it failed. The `CKA_ID` was free before, so nothing else has it.
fn remove_halves(session: &Session, new: &NewKey<'_>) {
    for class in [ObjectClass::PRIVATE_KEY, ObjectClass::PUBLIC_KEY] {
        // A token that does not answer any more is asked again by the next look, which tells of what is there.
        for object in objects::find(session, class, Some(new.cka_id)).unwrap_or_default() {
            if let Err(error) = session.destroy_object(object) {
                tracing::warn!(label = new.label, %error, "a part of a key pair that was not made is still on the token");
            }
        }
    }
}

fn read_back(session: &Session, new: &NewKey<'_>, public: ObjectHandle) -> Result<PublicKey, HsmFault> {
    let key = objects::public_key(session, &objects::name(session, public)?)?;
    key.filter(|key| key.suits(new.spec.alg)).ok_or_else(|| {
        let why = format!("the public key of the new pair can't be read, or is none for `{}`", new.spec.alg);
        HsmFault::new(FaultClass::Unsupported, "C_GetAttributeValue", why)
    })
}

/// The mechanism and the parameters of the public object, in the forms to try in turn.
fn kinds(spec: KeySpec) -> Result<Vec<(Mechanism<'static>, Vec<Attribute>)>, HsmFault> {
    let ec = |params: &[u8]| vec![Attribute::EcParams(params.to_vec())];
    Ok(match spec.alg {
        Alg::ES256 => vec![(Mechanism::EccKeyPairGen, ec(objects::P256))],
        Alg::ES384 => vec![(Mechanism::EccKeyPairGen, ec(objects::P384))],
        Alg::EdDSA => [objects::ED25519, objects::ED25519_BY_NAME]
            .map(|params| (Mechanism::EccEdwardsKeyPairGen, ec(params)))
            .into_iter()
            .collect(),
        _ if [2048, 3072, 4096].contains(&spec.rsa_bits) => {
            let bits = Attribute::ModulusBits(cryptoki::types::Ulong::new(spec.rsa_bits.into()));
            vec![(Mechanism::RsaPkcsKeyPairGen, vec![bits, Attribute::PublicExponent(vec![1, 0, 1])])]
        }
        _ => {
            let why = format!("RSA keys have 2048, 3072 or 4096 bits, not `{}`", spec.rsa_bits);
            return Err(HsmFault::new(FaultClass::Request, "C_GenerateKeyPair", why));
        }
    })
}

fn private_template(new: &NewKey<'_>, forbid_by_name: bool) -> Vec<Attribute> {
    let mut template = names(new);
    template.extend([
        Attribute::Private(true),
        Attribute::Sensitive(true),
        Attribute::Extractable(false),
        Attribute::Sign(true),
    ]);
    if forbid_by_name {
        template.extend([
            Attribute::SignRecover(false),
            Attribute::Decrypt(false),
            Attribute::Unwrap(false),
            Attribute::Derive(false),
        ]);
    }
    template
}

fn names(new: &NewKey<'_>) -> Vec<Attribute> {
    vec![Attribute::Token(true), Attribute::Id(new.cka_id.to_vec()), Attribute::Label(new.label.as_bytes().to_vec())]
}

fn concerns_template(rv: RvError) -> bool {
    matches!(
        rv,
        RvError::AttributeTypeInvalid
            | RvError::AttributeValueInvalid
            | RvError::AttributeReadOnly
            | RvError::TemplateInconsistent
            | RvError::DomainParamsInvalid
            | RvError::CurveNotSupported
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_library_that_makes_no_more_keys_counts_as_gone_once() {
        let failed = |class| Err::<(), _>(HsmFault::new(class, "C_GenerateKeyPair", "CKR_GENERAL_ERROR"));
        let class = |outcome: Result<(), HsmFault>| outcome.map_err(|fault| fault.class);
        let unspecific = || failed(FaultClass::Unspecific);
        let mut making = Making::default();
        for _ in 0..3 {
            assert_eq!(class(making.judge(unspecific())), Err(FaultClass::Unspecific), "a new start would not help");
        }
        assert_eq!(class(making.judge(Ok(()))), Ok(()));
        assert_eq!(class(making.judge(unspecific())), Err(FaultClass::Unspecific), "tried again on a new session");
        assert_eq!(class(making.judge(failed(FaultClass::Request))), Err(FaultClass::Request));
        assert_eq!(class(making.judge(unspecific())), Err(FaultClass::Gone));
    }
}
