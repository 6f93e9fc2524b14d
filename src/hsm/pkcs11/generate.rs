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

/// Makes a pair through a read-write session. The caller sees to it that nobody else does at the same time.
pub(super) fn pair(session: &Session, new: &NewKey<'_>) -> Result<PublicKey, HsmFault> {
    refuse_to_overwrite(session, new)?;
    let (public, private) = generate(session, new)?;
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
