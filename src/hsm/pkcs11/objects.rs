//! Objects on a token: what their attributes say, and how they are found.

use std::num::NonZeroUsize;

use cryptoki::{
    object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle},
    session::{Session, SessionState},
};
use hallmark_core::{
    ports::{Evidence, FaultClass, HsmFault, KeyAttributes},
    public_key::{Curve, PublicKey},
};

use super::classify::{fault, is_unreadable};

/// The DER of `CKA_EC_PARAMS`: the curve's object identifier.
pub(super) const P256: &[u8] = b"\x06\x08\x2a\x86\x48\xce\x3d\x03\x01\x07";
pub(super) const P384: &[u8] = b"\x06\x05\x2b\x81\x04\x00\x22";
pub(super) const ED25519: &[u8] = b"\x06\x03\x2b\x65\x70";
/// The other form that PKCS#11 3.0 allows (§2.3.10): a PrintableString.
pub(super) const ED25519_BY_NAME: &[u8] = b"\x13\x0cedwards25519";

/// What names an object.
pub(super) struct Named {
    pub(super) handle: ObjectHandle,
    pub(super) cka_id: Vec<u8>,
    /// Without the padding that some modules add.
    pub(super) label: String,
    key_type: Option<KeyType>,
}

/// All objects of a class, or those with a `CKA_ID`.
pub(super) fn find(
    session: &Session,
    class: ObjectClass,
    cka_id: Option<&[u8]>,
) -> Result<Vec<ObjectHandle>, HsmFault> {
    let mut template = vec![Attribute::Class(class)];
    template.extend(cka_id.map(|id| Attribute::Id(id.to_vec())));
    let objects = session.iter_objects_with_cache_size(&template, BATCH).map_err(fault)?;
    objects.collect::<Result<_, _>>().map_err(fault)
}

pub(super) fn name(session: &Session, handle: ObjectHandle) -> Result<Named, HsmFault> {
    let mut named = Named { handle, cka_id: Vec::new(), label: String::new(), key_type: None };
    for attribute in attributes(session, handle, &[AttributeType::Id, AttributeType::Label, AttributeType::KeyType])? {
        match attribute {
            Attribute::Id(id) => named.cka_id = id,
            Attribute::Label(label) => named.label = unpadded(&String::from_utf8_lossy(&label)).to_owned(),
            Attribute::KeyType(key_type) => named.key_type = Some(key_type),
            _ => {}
        }
    }
    Ok(named)
}

/// A text without the blanks or zeros that fill a field of fixed length.
pub(super) fn unpadded(text: &str) -> &str {
    text.trim_end_matches([' ', '\0'])
}

/// The key in a public object; `None` where it is of a kind that Hallmark can't use.
pub(super) fn public_key(session: &Session, object: &Named) -> Result<Option<PublicKey>, HsmFault> {
    let wanted: &[AttributeType] = match object.key_type {
        Some(KeyType::RSA) => &[AttributeType::Modulus, AttributeType::PublicExponent],
        Some(KeyType::EC | KeyType::EC_EDWARDS) => &[AttributeType::EcParams, AttributeType::EcPoint],
        _ => return Ok(None),
    };
    let key = match attributes(session, object.handle, wanted)?.as_slice() {
        [Attribute::Modulus(n), Attribute::PublicExponent(e)] => PublicKey::from_rsa(n, e).ok(),
        [Attribute::EcParams(params), Attribute::EcPoint(point)] => match params.as_slice() {
            P256 => PublicKey::from_ec_point(Curve::P256, point).ok(),
            P384 => PublicKey::from_ec_point(Curve::P384, point).ok(),
            ED25519 | ED25519_BY_NAME => PublicKey::from_ed25519(point).ok(),
            _ => None,
        },
        _ => None,
    };
    Ok(key)
}

/// What a private object shows of its birth and protection.
pub(super) fn evidence(session: &Session, private: ObjectHandle) -> Result<Evidence, HsmFault> {
    let wanted = [
        AttributeType::Local,
        AttributeType::Sensitive,
        AttributeType::AlwaysSensitive,
        AttributeType::Extractable,
        AttributeType::NeverExtractable,
        AttributeType::KeyGenMechanism,
    ];
    let mut shown = KeyAttributes::default();
    for attribute in attributes(session, private, &wanted)? {
        match attribute {
            Attribute::Local(value) => shown.local = Some(value),
            Attribute::Sensitive(value) => shown.sensitive = Some(value),
            Attribute::AlwaysSensitive(value) => shown.always_sensitive = Some(value),
            Attribute::Extractable(value) => shown.extractable = Some(value),
            Attribute::NeverExtractable(value) => shown.never_extractable = Some(value),
            // CK_UNAVAILABLE_INFORMATION: the key was not generated on the token (PKCS#11 §4.9).
            Attribute::KeyGenMechanism(value) if *value != u64::MAX => {
                shown.key_gen_mechanism = Some(value.to_string())
            }
            _ => {}
        }
    }
    Ok(Evidence { attributes: shown, attestation: Vec::new() })
}

/// Whether the key wants a login of its own before each signature (`CKA_ALWAYS_AUTHENTICATE`), to one who is logged in.
pub(super) fn wants_pin_each_time(session: &Session, private: ObjectHandle) -> bool {
    let asked = attributes(session, private, &[AttributeType::AlwaysAuthenticate]);
    asked.is_ok_and(|shown| shown.contains(&Attribute::AlwaysAuthenticate(true)))
        && is_logged_in(session).is_ok_and(|state| state == Some(true))
}

/// Whether the application is logged in at the session's token; `None` where the module does not say.
pub(super) fn is_logged_in(session: &Session) -> Result<Option<bool>, HsmFault> {
    match session.get_session_info().map_err(fault) {
        Ok(info) => Ok(Some(!matches!(info.session_state(), SessionState::RoPublic | SessionState::RwPublic))),
        Err(e) if e.class == FaultClass::Unsupported || is_unreadable(&e) => Ok(None),
        Err(e) => Err(e),
    }
}

/// The attributes that the module knows, in the order asked for.
fn attributes(session: &Session, handle: ObjectHandle, wanted: &[AttributeType]) -> Result<Vec<Attribute>, HsmFault> {
    match session.get_attributes(handle, wanted).map_err(fault) {
        // One value that can't be read fails the whole call; the others are worth asking for.
        Err(e) if e.class == FaultClass::Request || is_unreadable(&e) => match wanted {
            [] | [_] => Ok(Vec::new()),
            several => {
                let each = several.chunks(1).map(|one| attributes(session, handle, one));
                Ok(each.collect::<Result<Vec<_>, _>>()?.concat())
            }
        },
        answer => answer,
    }
}

/// How many handles one `C_FindObjects` asks for: a network HSM takes a round trip for each.
// Unwrap safety: 256 is not zero, and the compiler evaluates it.
const BATCH: NonZeroUsize = NonZeroUsize::new(256).unwrap();
