//! What must hold of a chain before it is installed: the questions that an authorization server would ask, asked while
//! somebody is there to mend it.

use base64::{Engine, engine::general_purpose::STANDARD};
use der::Decode;
use x509_cert::ext::pkix::{BasicConstraints, KeyUsage};

use super::{
    Certificate, InvalidCertificate,
    algorithm::{self, SignedRef},
    decode, public_key,
};
use crate::{
    error::{Error, Reason},
    public_key::PublicKey,
    time::Timestamp,
};

/// A chain has no more certificates.
pub const MOST: usize = 10;
/// Nor more bytes, as a file or as DER.
pub const LONGEST: usize = 64 * 1024;

/// Reads the certificates of a file, in its order: PEM with anything in between, or one as DER. Refuses a private key,
/// which is nothing to be handed around, without repeating any of it.
pub fn read(file: &[u8]) -> Result<Vec<Vec<u8>>, Error> {
    if file.len() > LONGEST {
        return Err(too_large());
    }
    if file.first() == Some(&DER_SEQUENCE) {
        decode(file).map_err(|error| unreadable(1, &error))?;
        return Ok(vec![file.to_vec()]);
    }
    let text = String::from_utf8_lossy(file);
    let blocks = blocks(&text)?;
    if blocks.iter().any(|block| block.label.contains("PRIVATE KEY")) {
        let text = "the file holds a private key: nothing was sent or kept; take the key out of the file, and find out \
                    why it is there, for the key of a client never leaves its HSM";
        return Err(refused(text));
    }
    if let Some(other) = blocks.iter().find(|block| block.label != "CERTIFICATE") {
        return Err(refused(wrong_label(other.label)));
    }
    if blocks.is_empty() {
        return Err(refused("the file holds no certificate: it should have `-----BEGIN CERTIFICATE-----` in it"));
    }
    let bytes = |(block, number): (&Block<'_>, usize)| {
        let compact: String = block.body.split_whitespace().collect();
        let bad = |_| refused(format!("certificate {number} of the file is damaged: it is not base64"));
        STANDARD.decode(compact).map_err(bad)
    };
    blocks.iter().zip(1..).map(bytes).collect()
}

/// Whether `chain`, leaf first, may stand for `key` at `now`. Gives what its leaf says.
pub fn check(chain: &[Vec<u8>], key: &PublicKey, now: Timestamp) -> Result<Certificate, Error> {
    if chain.is_empty() {
        return Err(refused("there is no certificate"));
    }
    if chain.len() > MOST || chain.iter().map(Vec::len).sum::<usize>() > LONGEST {
        return Err(too_large());
    }
    let links = chain.iter().zip(1..).map(|(der, number)| Link::read(der, number)).collect::<Result<Vec<_>, _>>()?;
    check_leaf(&links, key)?;
    check_order(&links)?;
    for link in &links {
        if let Some(objection) = link.shown.validity.objection(now) {
            return Err(refused(format!("{} can't be used: {objection}", link.name())));
        }
    }
    links.into_iter().next().map(|leaf| leaf.shown).ok_or_else(|| Error::internal("a chain without a leaf"))
}

/// One certificate of a chain.
struct Link<'a> {
    number: usize,
    decoded: x509_cert::Certificate,
    signed: SignedRef<'a>,
    shown: Certificate,
}

impl<'a> Link<'a> {
    fn read(der: &'a [u8], number: usize) -> Result<Self, Error> {
        let decoded = decode(der).map_err(|error| unreadable(number, &error))?;
        let signed = SignedRef::from_der(der);
        let signed = signed.map_err(|error| unreadable(number, &InvalidCertificate(error.to_string())))?;
        let shown = Certificate::of(&decoded, der);
        Ok(Self { number, decoded, signed, shown })
    }

    /// For messages. What a certificate says of itself is a stranger's text.
    fn name(&self) -> String {
        let subject: String = self.shown.subject.chars().take(120).collect();
        format!("certificate {} (`{}`)", self.number, subject.escape_debug())
    }

    fn is_ca(&self) -> bool {
        self.constraints().is_some_and(|constraints| constraints.ca)
    }

    fn constraints(&self) -> Option<BasicConstraints> {
        self.decoded.tbs_certificate().get_extension::<BasicConstraints>().ok().flatten().map(|(_, found)| found)
    }

    fn is_self_issued(&self) -> bool {
        self.decoded.tbs_certificate().subject() == self.decoded.tbs_certificate().issuer()
    }

    fn names_issuer(&self, issuer: &Self) -> bool {
        self.decoded.tbs_certificate().issuer() == issuer.decoded.tbs_certificate().subject()
    }

    fn check_signature(&self, issuer: &Self) -> Result<(), Error> {
        match algorithm::is_signed_by(&self.signed, issuer.decoded.tbs_certificate().subject_public_key_info()) {
            Ok(true) => Ok(()),
            Ok(false) => Err(refused(format!(
                "{} is not signed by the key of {}; take the chain from the CA that issued it",
                self.name(),
                issuer.name()
            ))),
            Err(unknown) => Err(refused(format!(
                "the signature of {} can't be checked: its algorithm {} is too weak or not known (SHA-1 is refused); \
                 have it issued with SHA-256 or better",
                self.name(),
                unknown.0
            ))),
        }
    }
}

fn check_leaf(links: &[Link<'_>], key: &PublicKey) -> Result<(), Error> {
    let has_key = |link: &Link<'_>| public_key(&link.decoded).is_some_and(|of| of.numbers() == key.numbers());
    let Some(leaf) = links.first() else { return Ok(()) };
    if !has_key(leaf) {
        return Err(match links.iter().find(|link| has_key(link)) {
            Some(elsewhere) => refused(format!(
                "the certificates are in the wrong order: {} has this key and must come first, then its issuer, and so \
                 on up to the root",
                elsewhere.name()
            )),
            None => refused(format!(
                "{} is for another key: its public key is not that of `{}`; ask for one with `hallmark csr`",
                leaf.name(),
                key.thumbprint()
            )),
        });
    }
    if leaf.is_ca() {
        return Err(refused(format!(
            "{} is a CA's own: a client needs one that is not allowed to issue others",
            leaf.name()
        )));
    }
    let usage = leaf.decoded.tbs_certificate().get_extension::<KeyUsage>();
    let usage = usage.map_err(|_| refused(format!("the key usage of {} can't be read", leaf.name())))?;
    if usage.is_some_and(|(_, usage)| !usage.digital_signature()) {
        return Err(refused(format!(
            "{} does not allow signatures: its key usage lacks digitalSignature; have it issued anew with it",
            leaf.name()
        )));
    }
    Ok(())
}

/// Each is signed by the next; nothing is put right in silence.
fn check_order(links: &[Link<'_>]) -> Result<(), Error> {
    for pair in links.windows(2) {
        let [link, issuer] = pair else { continue };
        if !link.names_issuer(issuer) {
            return Err(wrong_order(links, link));
        }
        if issuer.constraints().is_some_and(|constraints| !constraints.ca) {
            return Err(refused(format!("{} is not a CA's, and can't have issued another", issuer.name())));
        }
        link.check_signature(issuer)?;
    }
    // A root's own signature proves nothing; that of a lone certificate shows that it is whole.
    match links {
        [alone] if alone.is_self_issued() => alone.check_signature(alone),
        _ => Ok(()),
    }
}

fn wrong_order(links: &[Link<'_>], at: &Link<'_>) -> Error {
    let issuer: String = at.shown.issuer.chars().take(120).collect();
    let found = match links.iter().find(|other| at.names_issuer(other) && other.number != at.number) {
        Some(other) => format!("that is certificate {} here", other.number),
        None if at.is_self_issued() => "it is a root, which comes last".to_owned(),
        None => "that one is missing; ask the CA for its chain".to_owned(),
    };
    refused(format!(
        "the certificates are in the wrong order: each must be followed by its issuer, from the leaf up to the root; after \
         {} comes `{}`: {found}",
        at.name(),
        issuer.escape_debug()
    ))
}

/// One PEM block: what is between its lines.
struct Block<'a> {
    label: &'a str,
    body: &'a str,
}

fn blocks(text: &str) -> Result<Vec<Block<'_>>, Error> {
    let (mut blocks, mut rest) = (Vec::new(), text);
    while let Some((_, after)) = rest.split_once("-----BEGIN ") {
        let Some((label, body)) = after.split_once("-----") else { return Err(cut_short()) };
        let label = label.trim();
        let Some((body, after)) = body.split_once("-----END ") else { return Err(cut_short_block(label)) };
        blocks.push(Block { label, body });
        rest = after;
    }
    Ok(blocks)
}

fn wrong_label(label: &str) -> String {
    match label {
        "CERTIFICATE REQUEST" | "NEW CERTIFICATE REQUEST" => {
            "the file holds the request, not the certificate: send it to the CA, and install what comes back".to_owned()
        }
        "PKCS7" | "CMS" => {
            "the file is PKCS#7: turn it into PEM with `openssl pkcs7 -print_certs -in FILE -out chain.pem`".to_owned()
        }
        "TRUSTED CERTIFICATE" => {
            "the file is in OpenSSL's own form: turn it into PEM with `openssl x509 -in FILE -out cert.pem`".to_owned()
        }
        other => {
            let shown: String = other.chars().take(40).collect();
            format!("the file holds something else than certificates: `{}`; leave that out", shown.escape_debug())
        }
    }
}

fn cut_short() -> Error {
    refused("the file is cut short: a `-----BEGIN` line has no end")
}

/// A private key is one, whole or not.
fn cut_short_block(label: &str) -> Error {
    if label.contains("PRIVATE KEY") {
        return refused("the file holds part of a private key; nothing was sent or kept");
    }
    refused("the file is cut short: a `-----BEGIN` line has no `-----END`")
}

fn unreadable(number: usize, error: &InvalidCertificate) -> Error {
    refused(format!("certificate {number} of the file is {error}"))
}

fn too_large() -> Error {
    refused(format!("a chain has at most {MOST} certificates in {} KiB", LONGEST / 1024))
}

fn refused(text: impl Into<String>) -> Error {
    Error::new(Reason::InvalidCertificate, text)
}

/// How every DER certificate begins, and no PEM file.
const DER_SEQUENCE: u8 = 0x30;
