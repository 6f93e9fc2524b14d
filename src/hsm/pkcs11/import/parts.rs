//! The numbers of a key, as attributes.

use cryptoki::object::{Attribute, KeyType};
use hallmark_core::{
    ports::{FaultClass, ForeignKey, HsmFault},
    public_key::{Curve, Numbers},
};
use pkcs1::RsaPrivateKeyRef;
use pkcs8::{
    PrivateKeyInfoRef,
    der::{Decode, Encode, asn1::OctetStringRef},
};
use sec1::EcPrivateKey;

use super::{super::objects, wipe};

/// One of the forms in which tokens take a key.
pub(super) struct Form {
    pub(super) key_type: KeyType,
    pub(super) public: Vec<Attribute>,
    /// For `C_CreateObject` alone; wiped on drop.
    pub(super) secret: Vec<Attribute>,
}

impl Drop for Form {
    fn drop(&mut self) {
        self.secret.iter_mut().for_each(wipe);
    }
}

/// The forms to try in turn.
pub(super) fn forms(key: &ForeignKey<'_>) -> Result<Vec<Form>, HsmFault> {
    let unreadable = |_| HsmFault::new(FaultClass::Request, "C_CreateObject", "the private key can't be read");
    let info = PrivateKeyInfoRef::from_der(key.pkcs8).map_err(|_| unreadable(()))?;
    let inner = info.private_key.as_bytes();
    match key.public.numbers() {
        Numbers::Rsa { n, e } => {
            let rsa = RsaPrivateKeyRef::from_der(inner).map_err(|_| unreadable(()))?;
            Ok(vec![rsa_form(n, e, &rsa)])
        }
        Numbers::Ec { curve, x, y } => {
            let private = EcPrivateKey::from_der(inner).map_err(|_| unreadable(()))?.private_key;
            let params = if *curve == Curve::P256 { objects::P256 } else { objects::P384 };
            let point = octets(&[&[4], x.as_slice(), y].concat())?;
            Ok(vec![ec_form(KeyType::EC, params, point, private)])
        }
        Numbers::Ed25519 { x } => {
            let seed = <&OctetStringRef>::from_der(inner).map_err(|_| unreadable(()))?.as_bytes();
            let point = octets(x)?;
            let form = |params| ec_form(KeyType::EC_EDWARDS, params, point.clone(), seed);
            Ok([objects::ED25519, objects::ED25519_BY_NAME].map(form).into())
        }
    }
}

fn rsa_form(n: &[u8], e: &[u8], rsa: &RsaPrivateKeyRef<'_>) -> Form {
    let public = vec![Attribute::Modulus(n.to_vec()), Attribute::PublicExponent(e.to_vec())];
    let of = |number: &pkcs8::der::asn1::UintRef<'_>| number.as_bytes().to_vec();
    let secret = vec![
        Attribute::Modulus(n.to_vec()),
        Attribute::PublicExponent(e.to_vec()),
        Attribute::PrivateExponent(of(&rsa.private_exponent)),
        Attribute::Prime1(of(&rsa.prime1)),
        Attribute::Prime2(of(&rsa.prime2)),
        Attribute::Exponent1(of(&rsa.exponent1)),
        Attribute::Exponent2(of(&rsa.exponent2)),
        Attribute::Coefficient(of(&rsa.coefficient)),
    ];
    Form { key_type: KeyType::RSA, public, secret }
}

fn ec_form(key_type: KeyType, params: &[u8], point: Vec<u8>, private: &[u8]) -> Form {
    let params = || Attribute::EcParams(params.to_vec());
    let secret = vec![params(), Attribute::Value(private.to_vec())];
    Form { key_type, public: vec![params(), Attribute::EcPoint(point)], secret }
}

fn octets(bytes: &[u8]) -> Result<Vec<u8>, HsmFault> {
    let octets = OctetStringRef::new(bytes).and_then(|octets| octets.to_der());
    octets.map_err(|e| HsmFault::new(FaultClass::Request, "C_CreateObject", e))
}
