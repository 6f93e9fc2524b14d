//! Keys that are no secret: their private halves are printed in tutorials, specifications and test suites.
//!
//! Whoever signs with one signs for everybody. They are known by their RFC 7638 SHA-256 thumbprints, which do not depend
//! on how a key was written down; nothing of the keys themselves is kept here.
//!
//! Not in the list, because no copy of the public key was at hand: the key of CareEvolution's `jwt.pfx` (its certificate
//! is known by the SHA-1 thumbprint that test suites send, see [`known_certificate`]); the other keys of RFC 7520, among
//! them those on P-521, and jwt.io's ES512 key (Hallmark has no P-521); what key generators such as mkjwk make, which is
//! different each time.

use crate::public_key::PublicKey;

/// Where `key` was published together with its private half; `None` if it is not known to have been.
pub fn known(key: &PublicKey) -> Option<&'static str> {
    let thumbprint = key.thumbprint();
    KEYS.iter().find(|(known, _)| *known == thumbprint.as_str()).map(|(_, origin)| *origin)
}

/// As [`known`], by the value of an `x5t` header member: the SHA-1 thumbprint of a certificate in base64url.
pub fn known_certificate(x5t: &str) -> Option<&'static str> {
    let x5t = x5t.trim_end_matches('=');
    CERTIFICATES.iter().find(|(known, _)| *known == x5t).map(|(_, origin)| *origin)
}

const KEYS: &[(&str, &str)] = &[
    ("oGDmHqCJ7yzMkWEkrlZVHkvrHIyQwtlDmeq5ForUHeY", "jwt.io's example for RS256, RS384, RS512 and PS256 to PS512"),
    ("pdmN_UI10XD6wy44jm-JkHmJOFxevse_2jio8cH1lRw", "jwt.io's former example for RS256"),
    ("19J8y7Zprt2-QKLjF2I5pVk0OELX6cY2AfaAv1LC_w8", "jwt.io's example for ES256"),
    ("iTqXXI0zbAnJCKDaobfhkM1f-6rMSpTfyZMRp_2tKI8", "jwt.io's example for ES384"),
    ("I99tVmIhN2uhvx12lO4Zrjk9OhGDH6LvIyYALIZivws", "the RS384 example of SMART App Launch"),
    ("gpusNZnFRvG96B1APEttC6NcJetjhM0q2LJagnlW6Tc", "the ES384 example of SMART App Launch"),
    ("vuFywpebEYk5UFJxTyNrh_wRi2QAlxJQo5mTvYk8oTs", "the ES384 example of SMART's bulk data server and client"),
    ("Q7fgcIzqt0bVAKsWaw_FyUFSDDpOTfsGdGtjJmAnzFY", "the RS384 key of the Inferno test kits"),
    ("RBFgQFFUIf4hfG8iUUZrf3vFZ_V2r3YRGPx9nKJXk5M", "the ES384 key of the Inferno test kits"),
    ("6jxBwaAh5e-xDCoL0opLW3SepITdkIppXboiPizCO9s", "the fixture of OpenEMR's tests"),
    ("UviYyBVGat8m2TzRpcyQTZ_rZV4YShQZ9tT9j-irwTE", "the OAuth tutorial of MIE WebChart"),
    ("IsUn6_e04MaShXFIISMp4kG62LWzMIPy_MvSA5pJgX8", "RFC 7515 appendix A.2"),
    ("oKIywvGUpTVTyxMQ3bwIIeQUudfr_CkLMjCE19ECD-U", "RFC 7515 appendix A.3"),
    ("cn-I_WNMClehiVp51i_0VpOENW1upEerA8sEam5hn-s", "RFC 7517 appendix A.1, the EC key"),
    ("NzbLsXh8uDCcd-6MNwXF4W_7noWXFZAfHkxZsRGC9Xs", "RFC 7517 appendix A.1, the RSA key, also of RFC 7638"),
    ("DdsFv-2-wgcPoDcyS6OXOWVh00JdbWkkVXDCYdxJ3uM", "RFC 7517 appendix B"),
    ("D8R4-FeTJfzuDUy8bZ0c4hcwpul-Q11gCPs3mw6-R9Q", "RFC 7517 appendix C"),
    ("_GK0r6GCoJt9zcssg9lay4obIxgCq05ntiRymRHADSU", "RFC 7518 appendix C, Alice's"),
    ("Vy57XrArUrW0NbpI12tEzDHABxMwrTh6HHXRenSpnCo", "RFC 7518 appendix C, Bob's"),
    ("9jg46WB3rR_AHD-EBXdN7cBkH1WOu0tA3M9fm21mqTI", "RFC 7520 §3.3"),
    ("YlKlB7M2wnS0cPn_V7OW-FuDLuWdJ9z4OvPHmhGDfeE", "RFC 7520 §5.4"),
    ("HsSFalww3yP-dO-lWGYgFcyV5H22oScIFc4V2Y6GOto", "RFC 7520 §5.5"),
    ("kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k", "RFC 8037 appendix A.1"),
];

const CERTIFICATES: &[(&str, &str)] =
    &[("kd_Uob1ueoByiUFZQaiS8tPdto4", "CareEvolution's published test certificate, jwt.careevolution.com")];

#[cfg(test)]
mod tests {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};

    use super::*;
    use crate::public_key::Curve;

    fn bytes(text: &str) -> Vec<u8> {
        URL_SAFE_NO_PAD.decode(text).unwrap()
    }

    fn p256(x: &str, y: &str) -> PublicKey {
        PublicKey::from_ec_point(Curve::P256, &[&[4], &bytes(x)[..], &bytes(y)].concat()).unwrap()
    }

    fn rsa(n: &str) -> PublicKey {
        PublicKey::from_rsa(&bytes(n), &[1, 0, 1]).unwrap()
    }

    /// The public numbers as the RFCs print them.
    #[test]
    fn keys_of_the_rfcs_are_known() {
        let keys = [
            rsa(concat!(
                "ofgWCuLjybRlzo0tZWJjNiuSfb4p4fAkd_wWJcyQoTbji9k0l8W26mPddxHmfHQp-Vaw-4qPCJrcS2mJPMEzP1Pt0Bm4d4QlL-yRT-SF",
                "d2lZS-pCgNMsD1W_YpRPEwOWvG6b32690r2jZ47soMZo9wGzjb_7OMg0LOL-bSf63kpaSHSXndS5z5rexMdbBYUsLA9e-KXBdQOS-UTo",
                "7WTBEMa2R2CapHg665xsmtdVMTBQY4uDZlxvb3qCo5ZwKh9kG4LT6_I5IhlJH7aGhyxXFvUK-DWNmoudF8NAco9_h9iaGNj8q2ethFkM",
                "Ls91kzk2PAcDTW9gb54h4FRWyuXpoQ"
            )),
            p256("f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU", "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"),
            p256("MKBCTNIcKUSDii11ySs3526iDZ8AiTo7Tu6KPAqv7D4", "4Etl6SRW2YiLUrN5vfvVHuhp7x8PxltmWWlbbM4IFyM"),
            rsa(concat!(
                "0vx7agoebGcQSuuPiLJXZptN9nndrQmbXEps2aiAFbWhM78LhWx4cbbfAAtVT86zwu1RK7aPFFxuhDR1L6tSoc_BJECPebWKRXjBZCiF",
                "V4n3oknjhMstn64tZ_2W-5JsGY4Hc5n9yBXArwl93lqt7_RN5w6Cf0h4QyQ5v-65YGjQR0_FDW2QvzqY368QQMicAtaSqzs8KJZgnYb9",
                "c7d0zgdAZHzu6qMQvRL5hajrn1n91CbOpbISD08qNLyrdkt-bFTWhAI4vMQFh6WeZu0fM4lFd2NcRwr3XPksINHaQ-G_xBniIqbw0Ls1",
                "jF44-csFCur-kEgU8awapJzKnqDKgw"
            )),
            PublicKey::from_ed25519(&bytes("11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo")).unwrap(),
        ];
        let origins: Vec<_> = keys.iter().map(|key| known(key).unwrap_or("unknown")).collect();
        assert_eq!(
            origins,
            [
                "RFC 7515 appendix A.2",
                "RFC 7515 appendix A.3",
                "RFC 7517 appendix A.1, the EC key",
                "RFC 7517 appendix A.1, the RSA key, also of RFC 7638",
                "RFC 8037 appendix A.1",
            ]
        );
    }

    #[test]
    fn a_key_of_ones_own_is_not() {
        assert_eq!(known(&PublicKey::from_ed25519(&[7; 32]).unwrap()), None);
    }

    #[test]
    fn every_thumbprint_is_one_and_stands_once() {
        for (at, (thumbprint, _)) in KEYS.iter().enumerate() {
            assert_eq!(bytes(thumbprint).len(), 32, "{thumbprint}");
            assert!(KEYS[..at].iter().all(|(earlier, _)| earlier != thumbprint), "{thumbprint}");
        }
        assert_eq!(bytes(CERTIFICATES[0].0).len(), 20);
    }
}
