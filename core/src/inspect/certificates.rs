//! `x5c`, `x5t` and `x5t#S256`: what they show, and whether it fits together.

use aws_lc_rs::digest::{Algorithm, SHA1_FOR_LEGACY_USE_ONLY, SHA256, digest};
use base64::{
    Engine,
    alphabet::STANDARD,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig, general_purpose::URL_SAFE_NO_PAD},
};
use der::{Decode, Encode};
use serde_json::Value;
use x509_cert::Certificate as X509;

use super::{
    Cited, Context, Part, Report, Severity,
    text::{kind, quoted, span},
};
use crate::{
    known_keys,
    profile::{Certificate, Rule},
    public_key::PublicKey,
};

/// What the header shows of a certificate.
#[derive(Debug, Default)]
pub(super) struct Shown {
    /// The key of the leaf in `x5c`.
    pub(super) leaf_key: Option<PublicKey>,
}

pub(super) fn check(header: &Part, context: &Context<'_>, report: &mut Report) -> Shown {
    presence(header, context, report);
    let chain = header.get("x5c").map(|x5c| read(x5c, report)).unwrap_or_default();
    let parsed: Vec<_> = chain.iter().filter_map(|der| X509::from_der(der).ok()).collect();
    if parsed.len() < chain.len() {
        let hint = "each element is one DER certificate in standard base64";
        report.add(Severity::Error, "x5c", "an element of `x5c` is no certificate", hint, X5C);
    }
    for (at, certificate) in parsed.iter().enumerate() {
        dates(at, certificate, context, report);
    }
    order(&parsed, report);
    let leaf = chain.first().or(context.expect.chain.first());
    thumbprints(header, leaf.map(Vec::as_slice), report);
    registered(chain.first(), context, report);
    let leaf_key = parsed.first().filter(|_| parsed.len() == chain.len()).and_then(key_of);
    let leaf_sha1 = chain.first().map(|der| URL_SAFE_NO_PAD.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, der)));
    let known = leaf_key.as_ref().and_then(known_keys::known);
    if let Some(origin) = known.or_else(|| known_keys::known_certificate(leaf_sha1.as_deref()?)) {
        let what = format!("everybody has the private half of its key: it is {origin}");
        report.add(
            Severity::Error,
            "x5c",
            what,
            "make a key of your own, in an HSM",
            Cited::specified("RFC 7515 §10.1"),
        );
    }
    Shown { leaf_key }
}

fn presence(header: &Part, context: &Context<'_>, report: &mut Report) {
    let rule = &context.profile.accepts.certificate;
    let has = |name: &str| header.get(name).is_some();
    let mut missing = |name: &str, rule: &Rule<Certificate>| {
        let hint = "give the client's key its certificate: hallmark csr CLIENT, then \
                    hallmark cert install CLIENT FILE --reason TEXT";
        report.broken(name, format!("`{name}` is missing"), hint, Cited::of(rule));
    };
    match rule.is {
        Certificate::X5c if !has("x5c") => missing("x5c", rule),
        Certificate::X5t if !has("x5t") && !has("x5c") => missing("x5t", rule),
        Certificate::X5tS256 if !has("x5t#S256") => missing("x5t#S256", rule),
        _ => {}
    }
}

/// The DER of each element, as far as it can be decoded.
fn read(x5c: &Value, report: &mut Report) -> Vec<Vec<u8>> {
    let Some(elements) = x5c.as_array().filter(|elements| !elements.is_empty()) else {
        let what = format!("`x5c` is {}, and not an array of certificates", kind(x5c));
        report.add(Severity::Error, "x5c", what, "an array of strings, the leaf first", X5C);
        return Vec::new();
    };
    let mut chain = Vec::new();
    for element in elements.iter().take(LONGEST_CHAIN) {
        let Some(text) = element.as_str() else {
            report.add(Severity::Error, "x5c", "an element of `x5c` is no string", "an array of strings", X5C);
            continue;
        };
        chain.push(decode(text, report));
    }
    chain
}

/// An empty certificate, which does not parse, where it is no base64 at all.
fn decode(text: &str, report: &mut Report) -> Vec<u8> {
    let mut say = |what: &str, hint: &str| report.add(Severity::Error, "x5c", what, hint, X5C);
    let mut body = text;
    if text.contains("-----") {
        say("`x5c` has PEM headers in it", "only the base64 between the lines, without line breaks");
        body = text.split("-----").nth(2).unwrap_or_default();
    }
    if body.contains(char::is_whitespace) {
        say("`x5c` has line breaks or blanks in it", "one line of base64 for each certificate");
    }
    if body.contains(['-', '_']) {
        say("`x5c` is in base64url", "certificates are in standard base64: `+` and `/`, with padding");
    }
    let body: String = body.split_whitespace().collect();
    STANDARD_LENIENT.decode(body.replace('-', "+").replace('_', "/")).unwrap_or_default()
}

fn dates(at: usize, certificate: &X509, context: &Context<'_>, report: &mut Report) {
    let validity = certificate.tbs_certificate().validity();
    let seconds = |time: x509_cert::time::Time| i64::try_from(time.to_unix_duration().as_secs()).unwrap_or(i64::MAX);
    let (begin, end, now) = (seconds(validity.not_before), seconds(validity.not_after), context.now.secs());
    let which = if at == 0 { "the certificate".to_owned() } else { format!("certificate {} of the chain", at + 1) };
    let rule = || Cited::specified("RFC 5280 §4.1.2.5");
    if now > end {
        let what = format!("{which} expired {} ago", span(now.saturating_sub(end)));
        report.add(Severity::Error, "x5c", what, "get a new one, and register it where it is registered", rule());
    } else if now < begin {
        let what = format!("{which} is not valid yet: it will be in {}", span(begin.saturating_sub(now)));
        report.add(Severity::Error, "x5c", what, "wait, or look at the clocks", rule());
    }
}

fn order(chain: &[X509], report: &mut Report) {
    let follows = |pair: &[X509]| pair[0].tbs_certificate().issuer() == pair[1].tbs_certificate().subject();
    if chain.windows(2).all(follows) {
        return;
    }
    let reversed: Vec<_> = chain.windows(2).map(|pair| [&pair[1], &pair[0]]).collect();
    let reversed = reversed.iter().all(|[a, b]| a.tbs_certificate().issuer() == b.tbs_certificate().subject());
    let what = if reversed {
        "the chain in `x5c` is the wrong way round: the root comes first"
    } else {
        "the chain in `x5c` is out of order: one certificate is not issued by the next"
    };
    report.add(Severity::Error, "x5c", what, "the leaf first, then whoever issued it, and so on", X5C);
}

fn thumbprints(header: &Part, leaf: Option<&[u8]>, report: &mut Report) {
    let kinds: [(&str, &'static Algorithm, usize); 2] =
        [("x5t", &SHA1_FOR_LEGACY_USE_ONLY, 40), ("x5t#S256", &SHA256, 64)];
    for (name, algorithm, hex_len) in kinds {
        let Some(value) = header.get(name) else { continue };
        let rule = Cited::specified(if hex_len == 40 { "RFC 7515 §4.1.7" } else { "RFC 7515 §4.1.8" });
        let Some(text) = value.as_str() else {
            let what = format!("`{name}` is {}, not a string", kind(value));
            report.add(Severity::Error, name, what, "the thumbprint in base64url", rule);
            continue;
        };
        if let Some(origin) = known_keys::known_certificate(text) {
            let what = format!("everybody has the private key of this certificate: it is {origin}");
            report.add(Severity::Error, name, what, "make a key of your own, in an HSM", rule);
            continue;
        }
        if text.len() == hex_len && text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            let what = format!("`{name}` is in hexadecimal: {}", quoted(text));
            report.add(Severity::Error, name, what, "base64url of the hash's bytes", rule);
            continue;
        }
        let Some(leaf) = leaf else { continue };
        let right = URL_SAFE_NO_PAD.encode(digest(algorithm, leaf));
        if text != right {
            let what = format!("`{name}` is {}, and the certificate's is `{right}`", quoted(text));
            report.add(Severity::Error, name, what, "take the thumbprint of the DER of the leaf, in base64url", rule);
        }
    }
}

/// Where the authorization server holds a certificate, it must be this one.
fn registered(leaf: Option<&Vec<u8>>, context: &Context<'_>, report: &mut Report) {
    let (Some(leaf), Some(registered)) = (leaf, context.expect.chain.first()) else { return };
    if leaf != registered {
        let what = "the certificate in `x5c` is not the one that is registered";
        let rule = Cited::of(&context.profile.accepts.certificate);
        report.add(Severity::Error, "x5c", what, "a new certificate must be registered again", rule);
    }
}

fn key_of(certificate: &X509) -> Option<PublicKey> {
    let spki = certificate.tbs_certificate().subject_public_key_info().to_der().ok()?;
    PublicKey::from_spki(&spki).ok()
}

const X5C: Cited = Cited::specified("RFC 7515 §4.1.6");
/// More are not looked at.
const LONGEST_CHAIN: usize = 10;
const STANDARD_LENIENT: GeneralPurpose = GeneralPurpose::new(
    &STANDARD,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);
