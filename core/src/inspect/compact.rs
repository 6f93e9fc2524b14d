//! The three parts of a compact JWS (RFC 7515 §7.1), as far as they can be read.

use std::fmt;

use base64::{
    Engine,
    alphabet::URL_SAFE,
    engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig},
};
use serde::{
    Deserialize, Deserializer, Serialize, Serializer,
    de::{MapAccess, Visitor},
};
use serde_json::Value;

use super::{Cited, Report, Severity, text::quoted};

/// A JSON object as it was written: in its order, and with names that stand twice.
#[derive(Clone, Debug, PartialEq)]
pub struct Part {
    members: Vec<(String, Value)>,
}

impl Part {
    /// All members, in their order.
    pub fn members(&self) -> impl Iterator<Item = (&str, &Value)> {
        self.members.iter().map(|(name, value)| (name.as_str(), value))
    }

    /// The member of that name: of several the last, as most parsers have it.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.members.iter().rev().find(|(other, _)| other == name).map(|(_, value)| value)
    }

    /// The text of a member that is a string.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.get(name)?.as_str()
    }
}

/// What there is of a JWT.
#[derive(Debug, Default)]
pub(super) struct Compact {
    pub(super) header: Option<Part>,
    pub(super) claims: Option<Part>,
    /// What the signature is over.
    pub(super) signed: String,
    pub(super) signature: Option<Vec<u8>>,
}

pub(super) fn read(text: &str, report: &mut Report) -> Compact {
    let text = stripped(text, report);
    let parts: Vec<&str> = text.splitn(7, '.').collect();
    match parts.as_slice() {
        [header, claims, signature] => three(&text, [header, claims, signature], report),
        [header, claims] => {
            let what = "it has two parts: the signature is missing, and with it the second dot";
            report.add(Severity::Error, "format", what, "sign it; an unsigned JWT proves nothing", COMPACT);
            let (header, claims) = (object("header", header, report), object("claims", claims, report));
            Compact { header, claims, ..Compact::default() }
        }
        [header, _, _, _, _] => {
            let what = "it has five parts: this is a JWE, an encrypted JWT, and not a signed one";
            report.add(Severity::Error, "format", what, "sign the assertion, and do not encrypt it", COMPACT);
            Compact { header: object("header", header, report), ..Compact::default() }
        }
        other => {
            let count = match other.len() {
                0 | 1 => "one part".to_owned(),
                count @ 2..=5 => format!("{count} parts"),
                _ => "more than five parts".to_owned(),
            };
            let what = format!("it has {count} between dots, and a signed JWT has three");
            report.add(Severity::Error, "format", what, "copy it whole: header.claims.signature", COMPACT);
            Compact { header: other.first().and_then(|part| object("header", part, report)), ..Compact::default() }
        }
    }
}

fn three(text: &str, [header, claims, signature]: [&str; 3], report: &mut Report) -> Compact {
    if signature.is_empty() {
        let hint = "sign it; with `alg` none any text is as good as any other";
        report.add(
            Severity::Error,
            "signature",
            "the signature is empty",
            hint,
            Cited::specified("RFC 7523 §3, point 9"),
        );
    }
    let signed = text[..header.len() + 1 + claims.len()].to_owned();
    let header = object("header", header, report);
    let claims = object("claims", claims, report);
    let signature = bytes("signature", signature, report).filter(|bytes| !bytes.is_empty());
    Compact { header, claims, signed, signature }
}

/// Without what copying leaves around and inside it.
fn stripped(text: &str, report: &mut Report) -> String {
    let mut rest = text.trim().trim_matches(['"', '\'']).trim();
    for prefix in ["Authorization:", "Bearer ", "client_assertion="] {
        if rest.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix)) {
            rest = rest[prefix.len()..].trim_start();
            if prefix != "client_assertion=" {
                let hint = "send it as the form field `client_assertion`, with `client_assertion_type`";
                let what = "a client assertion does not go into an `Authorization` header";
                report.add(Severity::Note, "format", what, hint, Cited::specified("RFC 7523 §2.2"));
            }
        }
    }
    if !rest.contains(char::is_whitespace) {
        return rest.to_owned();
    }
    let hint = "send it without: a JWT has none, and most servers refuse it so";
    report.add(Severity::Warning, "format", "there are line breaks or blanks inside it", hint, COMPACT);
    rest.split_whitespace().collect()
}

fn object(name: &str, part: &str, report: &mut Report) -> Option<Part> {
    let json = bytes(name, part, report)?;
    let part: Part = match serde_json::from_slice(&json) {
        Ok(part) => part,
        Err(error) => {
            let what = format!("the {name} part is no JSON object: {}", quoted(&error.to_string()));
            let hint = "encode a JSON object in UTF-8, once, in base64url";
            report.add(Severity::Error, name, what, hint, Cited::specified("RFC 7519 §7.2"));
            return None;
        }
    };
    let mut names: Vec<_> = part.members.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    let mut twice: Vec<_> = names.windows(2).filter(|pair| pair[0] == pair[1]).map(|pair| pair[0]).collect();
    twice.dedup();
    for duplicate in twice.into_iter().take(MOST_DUPLICATES) {
        let what = format!("{} stands twice in the {name}: parsers differ in which one they take", quoted(duplicate));
        report.add(Severity::Error, duplicate, what, "write each name once", Cited::specified("RFC 7519 §4"));
    }
    Some(part)
}

fn bytes(name: &str, part: &str, report: &mut Report) -> Option<Vec<u8>> {
    let hint = "use base64url without padding: `-` and `_` for `+` and `/`, and no `=`";
    if part.contains(['+', '/', '=']) {
        let what = format!("the {name} part is in standard base64 or has padding");
        report.add(Severity::Error, name, what, hint, Cited::specified("RFC 7515 §2"));
    }
    match LENIENT.decode(part.replace('+', "-").replace('/', "_")) {
        Ok(bytes) => Some(bytes),
        Err(error) => {
            let what = format!("the {name} part is no base64url: {error}");
            report.add(Severity::Error, name, what, hint, Cited::specified("RFC 7515 §2"));
            None
        }
    }
}

impl<'de> Deserialize<'de> for Part {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Members;

        impl<'de> Visitor<'de> for Members {
            type Value = Part;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Part, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Part { members })
            }
        }

        deserializer.deserialize_map(Members)
    }
}

impl Serialize for Part {
    /// As it was, names that stand twice included.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.members())
    }
}

/// Nobody reads more of them.
const MOST_DUPLICATES: usize = 10;
const COMPACT: Cited = Cited::specified("RFC 7515 §7.1");

/// Base64url however it was made.
pub(super) const LENIENT: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true),
);
