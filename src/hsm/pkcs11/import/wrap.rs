//! A key's way into a token on which nobody can read it: what `CKM_RSA_AES_KEY_WRAP` (PKCS#11 §6.1.27) does in one call,
//! in two, which more tokens know.
//!
//! ```text
//! token: an RSA pair for this session ──── public half ───▶ us: a random AES key
//! token: unwraps the AES key (OAEP)   ◀─── AES key, OAEP ──┤
//! token: unwraps the private key      ◀─── PKCS#8, AES-KWP ┘   (RFC 5649)
//! ```

use aws_lc_rs::{
    key_wrap::{AES_256, AesKek, KeyWrapPadded},
    rand,
    rsa::{OAEP_SHA1_MGF1SHA1, OAEP_SHA256_MGF1SHA256, OaepAlgorithm, OaepPublicEncryptingKey, PublicEncryptingKey},
};
use cryptoki::{
    mechanism::{
        Mechanism, MechanismType,
        rsa::{PkcsMgfType, PkcsOaepParams, PkcsOaepSource},
    },
    object::{Attribute, KeyType, ObjectClass, ObjectHandle},
    session::Session,
    types::Ulong,
};
use hallmark_core::ports::{FaultClass, ForeignKey, HsmFault};
use zeroize::Zeroizing;

use super::super::{classify::fault, objects};

/// What a token must know.
pub(super) const MECHANISMS: [MechanismType; 3] =
    [MechanismType::RSA_PKCS_KEY_PAIR_GEN, MechanismType::RSA_PKCS_OAEP, MechanismType::AES_KEY_WRAP_PAD];

/// Makes the private object of `template` from an encrypted form of the key.
pub(super) fn unwrap(
    session: &Session,
    key: &ForeignKey<'_>,
    template: &[Attribute],
) -> Result<ObjectHandle, HsmFault> {
    let mut helpers = Helpers { session, objects: Vec::new() };
    let private = receiver(&mut helpers)?;
    let secret = secret()?;
    let aes = send(&mut helpers, private, &*secret)?;

    let mut wrapped = vec![0; key.pkcs8.len() + 15];
    let kek = AesKek::new(&AES_256, &*secret).map_err(|_| failed("AES"))?;
    let wrapped = kek.wrap_with_padding(key.pkcs8, &mut wrapped).map_err(|_| failed("AES key wrap"))?;
    session.unwrap_key(&Mechanism::AesKeyWrapPad, aes, wrapped, template).map_err(fault)
}

/// An RSA pair that lives no longer than the session. Gives the private half; the helpers hold both.
fn receiver(helpers: &mut Helpers<'_>) -> Result<ObjectHandle, HsmFault> {
    let public = [
        Attribute::Token(false),
        Attribute::Private(false),
        Attribute::Wrap(true),
        Attribute::ModulusBits(Ulong::new(2048)),
        Attribute::PublicExponent(vec![1, 0, 1]),
    ];
    let private = [
        Attribute::Token(false),
        Attribute::Private(true),
        Attribute::Sensitive(true),
        Attribute::Extractable(false),
        Attribute::Unwrap(true),
    ];
    let (public, private) =
        helpers.session.generate_key_pair(&Mechanism::RsaPkcsKeyPairGen, &public, &private).map_err(fault)?;
    helpers.objects.extend([public, private]);
    Ok(private)
}

/// Brings the AES key onto the token.
fn send(helpers: &mut Helpers<'_>, private: ObjectHandle, secret: &[u8]) -> Result<ObjectHandle, HsmFault> {
    let session = helpers.session;
    let public = helpers.objects.first().ok_or_else(|| failed("RSA"))?;
    let public = objects::public_key(session, &objects::name(session, *public)?)?;
    let public = public.and_then(|key| PublicEncryptingKey::from_der(key.spki()).ok());
    let public = OaepPublicEncryptingKey::new(public.ok_or_else(|| failed("RSA"))?).map_err(|_| failed("RSA"))?;
    let template = [
        Attribute::Class(ObjectClass::SECRET_KEY),
        Attribute::KeyType(KeyType::AES),
        Attribute::Token(false),
        Attribute::Private(true),
        Attribute::Sensitive(true),
        Attribute::Extractable(false),
        Attribute::Unwrap(true),
    ];
    let mut last = failed("OAEP");
    for (oaep, hash, mgf) in OAEP {
        let mut encrypted = vec![0; public.ciphertext_size()];
        let encrypted = public.encrypt(oaep, secret, &mut encrypted, None).map_err(|_| failed("OAEP"))?;
        let parameters = PkcsOaepParams::new(*hash, *mgf, PkcsOaepSource::empty());
        match session.unwrap_key(&Mechanism::RsaPkcsOaep(parameters), private, encrypted, &template) {
            Ok(aes) => {
                helpers.objects.push(aes);
                return Ok(aes);
            }
            Err(error) => last = fault(error),
        }
    }
    Err(last)
}

fn secret() -> Result<Zeroizing<[u8; 32]>, HsmFault> {
    let mut secret = Zeroizing::new([0; 32]);
    rand::fill(&mut *secret).map_err(|_| failed("no random bytes"))?;
    Ok(secret)
}

fn failed(what: &str) -> HsmFault {
    HsmFault::new(FaultClass::Unsupported, "C_UnwrapKey", format!("the key can't be encrypted for the token: {what}"))
}

/// Soft tokens know the second alone.
const OAEP: [(&OaepAlgorithm, &MechanismType, &PkcsMgfType); 2] = [
    (&OAEP_SHA256_MGF1SHA256, &MechanismType::SHA256, &PkcsMgfType::MGF1_SHA256),
    (&OAEP_SHA1_MGF1SHA1, &MechanismType::SHA1, &PkcsMgfType::MGF1_SHA1),
];

/// Session objects; the session's end would take them too, a little later.
struct Helpers<'a> {
    session: &'a Session,
    objects: Vec<ObjectHandle>,
}

impl Drop for Helpers<'_> {
    fn drop(&mut self) {
        for object in self.objects.drain(..) {
            // Gone with the session, if not now.
            let _ = self.session.destroy_object(object);
        }
    }
}
