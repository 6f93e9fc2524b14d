//! A maker of YubiKeys: a root of its own, and what a YubiKey of it attests of a key. The tests of `hallmark-core` take this
//! file in as it is, so it speaks of DER and nothing of ours.

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, CustomExtension, DnType, IsCa, KeyPair, KeyUsagePurpose,
    PublicKeyData, SignatureAlgorithm,
};

type Authority = CertifiedIssuer<'static, KeyPair>;

/// A root, and slot f9 of one YubiKey.
pub struct Maker {
    root: Authority,
    device: Authority,
}

/// What a YubiKey says of a key in one of its slots. Each member that is `None` is left out.
#[derive(Clone)]
pub struct Says {
    pub slot: &'static str,
    pub serial: Option<u32>,
    pub firmware: Option<[u8; 3]>,
    /// For PIN and touch.
    pub policies: Option<[u8; 2]>,
    /// Whether the values are in an OCTET STRING of their own.
    pub wrapped: bool,
    /// Whether the certificate calls itself that of a CA.
    pub ca: bool,
    /// Until when it is valid, a year.
    pub until: i32,
    /// An extension that nobody knows, and must.
    pub critical: bool,
}

impl Default for Says {
    /// A YubiKey 5.7.1 that asks for the PIN once, and for no touch.
    fn default() -> Self {
        Self {
            slot: "9a",
            serial: Some(7_654_321),
            firmware: Some([5, 7, 1]),
            policies: Some([2, 1]),
            wrapped: false,
            ca: false,
            until: 2052,
            critical: false,
        }
    }
}

impl Maker {
    /// One that nobody knows before.
    pub fn unknown() -> Self {
        Self::with(true, Some(0))
    }

    /// Whose slot f9 is a CA's or not, and may have so many CAs below it.
    pub fn with(device_is_ca: bool, path_len: Option<u8>) -> Self {
        let root = Authority::self_signed(params("Test YubiKey Root", Some(Some(1))), KeyPair::generate().unwrap());
        let root = root.unwrap();
        let constraints = device_is_ca.then_some(path_len);
        let params = params("Yubico PIV Attestation", constraints);
        let device = Authority::signed_by(params, KeyPair::generate().unwrap(), &root).unwrap();
        Self { root, device }
    }

    /// The root's certificate.
    pub fn root_pem(&self) -> String {
        self.root.pem()
    }

    /// The certificate of slot f9, DER.
    pub fn device(&self) -> Vec<u8> {
        self.device.der().to_vec()
    }

    /// What the YubiKey attests of the key with this SubjectPublicKeyInfo: its certificate, and that of slot f9.
    pub fn attest(&self, spki: &[u8], says: &Says) -> Vec<Vec<u8>> {
        vec![certify(spki, says, &self.device), self.device()]
    }
}

/// As [`Maker::attest`], signed by any key that calls itself `name`: such as one that was attested itself.
pub fn attest_with(name: &str, pair: KeyPair, spki: &[u8], says: &Says) -> Vec<u8> {
    let issuer = Authority::self_signed(params(name, None), pair).unwrap();
    certify(spki, says, &issuer)
}

fn certify(spki: &[u8], says: &Says, issuer: &Authority) -> Vec<u8> {
    let name = format!("YubiKey PIV Attestation {}", says.slot);
    let mut params = params(&name, says.ca.then_some(None));
    params.not_after = rcgen::date_time_ymd(says.until, 1, 1);
    let value = |bytes: &[u8]| match says.wrapped {
        true => [&[4, u8::try_from(bytes.len()).unwrap()], bytes].concat(),
        false => bytes.to_vec(),
    };
    let mut add = |arc: u64, content: Vec<u8>| {
        params.custom_extensions.push(CustomExtension::from_oid_content(&[1, 3, 6, 1, 4, 1, 41482, 3, arc], content));
    };
    if let Some(firmware) = says.firmware {
        add(3, value(&firmware));
    }
    if let Some(serial) = says.serial {
        add(7, [&[2, 4], &serial.to_be_bytes()[..]].concat());
    }
    if let Some(policies) = says.policies {
        add(8, value(&policies));
    }
    add(9, value(&[3]));
    if says.critical {
        let mut unknown = CustomExtension::from_oid_content(&[1, 2, 3, 4], vec![5, 0]);
        unknown.set_criticality(true);
        params.custom_extensions.push(unknown);
    }
    params.signed_by(&Spki(spki), issuer).unwrap().der().to_vec()
}

/// `ca`: `None` for what is no CA's; else how many CAs may be below it.
fn params(name: &str, ca: Option<Option<u8>>) -> CertificateParams {
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    if let Some(path_len) = ca {
        params.is_ca = IsCa::Ca(path_len.map_or(BasicConstraints::Unconstrained, BasicConstraints::Constrained));
        params.key_usages.push(KeyUsagePurpose::KeyCertSign);
    }
    params
}

/// A SubjectPublicKeyInfo that `rcgen` certifies.
struct Spki<'a>(&'a [u8]);

impl PublicKeyData for Spki<'_> {
    fn der_bytes(&self) -> &[u8] {
        let (_, inside, _) = element(self.0);
        let (_, _, after_algorithm) = element(inside);
        // A BIT STRING, whose first byte counts the bits that are not used.
        &element(after_algorithm).1[1..]
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        let has = |oid: &[u8]| self.0.windows(oid.len()).take(30).any(|window| window == oid);
        match () {
            () if has(&[0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7]) => &rcgen::PKCS_ECDSA_P256_SHA256,
            () if has(&[0x2b, 0x81, 4, 0, 0x22]) => &rcgen::PKCS_ECDSA_P384_SHA384,
            () if has(&[0x2b, 0x65, 0x70]) => &rcgen::PKCS_ED25519,
            () => &rcgen::PKCS_RSA_SHA256,
        }
    }
}

/// The first DER element of `bytes`: its tag, what is in it, and what comes after it.
fn element(bytes: &[u8]) -> (u8, &[u8], &[u8]) {
    let (header, len) = match bytes[1] {
        short @ 0..0x80 => (2, usize::from(short)),
        long => {
            let count = usize::from(long & 0x7f);
            (2 + count, bytes[2..2 + count].iter().fold(0, |len, byte| len << 8 | usize::from(*byte)))
        }
    };
    (bytes[0], &bytes[header..header + len], &bytes[header + len..])
}
