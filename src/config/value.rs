//! How values are written: one [`Setting`] for each type that a key can have.

use std::{
    fmt::Display,
    net::SocketAddr,
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use hallmark_core::{
    client::{Custody, JwksHost, Provision},
    key::{Alg, ClientName, HsmName},
    policy::{Guarded, Identity, OperatorRole, Rate},
    profile::{Audience, Typ},
};
use toml::de::DeValue;

use super::{CkaId, source::Source};

/// A type that a key of the configuration can have.
pub(super) trait Setting: Sized {
    fn from_value(value: &DeValue<'_>, source: &Source) -> Result<Self, Mismatch>;
}

/// Why a value is not what its key wants.
#[derive(Debug)]
pub(super) struct Mismatch {
    pub(super) what: String,
    pub(super) hint: String,
}

impl Mismatch {
    pub(super) fn new(what: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { what: what.into(), hint: hint.into() }
    }

    fn of_type(value: &DeValue<'_>, expected: &str, hint: &str) -> Self {
        Self::new(format!("must be {expected}, not {}", type_of(value)), hint)
    }
}

impl Setting for String {
    fn from_value(value: &DeValue<'_>, _: &Source) -> Result<Self, Mismatch> {
        match value.as_str() {
            Some(text) => Ok(text.to_owned()),
            None => Err(Mismatch::of_type(value, "a text", "put it in quotes")),
        }
    }
}

impl Setting for bool {
    fn from_value(value: &DeValue<'_>, _: &Source) -> Result<Self, Mismatch> {
        value.as_bool().ok_or_else(|| Mismatch::of_type(value, "true or false", "write `true` or `false`, unquoted"))
    }
}

impl Setting for u32 {
    fn from_value(value: &DeValue<'_>, _: &Source) -> Result<Self, Mismatch> {
        let DeValue::Integer(integer) = value else {
            return Err(Mismatch::of_type(value, "a whole number", "write it in digits, unquoted"));
        };
        Self::from_str_radix(integer.as_str(), integer.radix()).map_err(|_| {
            Mismatch::new(format!("number out of range: `{integer}`"), format!("it can be 0 to {}", Self::MAX))
        })
    }
}

impl<T: Setting> Setting for Vec<T> {
    fn from_value(value: &DeValue<'_>, source: &Source) -> Result<Self, Mismatch> {
        let DeValue::Array(array) = value else {
            return Err(Mismatch::of_type(value, "a list", "put it in brackets: `[…]`"));
        };
        array.iter().map(|item| T::from_value(item.get_ref(), source)).collect()
    }
}

impl Setting for Duration {
    fn from_value(value: &DeValue<'_>, _: &Source) -> Result<Self, Mismatch> {
        const HINT: &str = "write a number and a unit in quotes, as in `\"30s\"`, `\"15m\"`, `\"24h\"` or `\"90d\"`";
        let text = value.as_str().ok_or_else(|| Mismatch::of_type(value, "a duration", HINT))?;
        // `1M` would be a month and `1m` a minute: too near to each other for times that keys live by.
        let lower = text.bytes().all(|byte| !byte.is_ascii_uppercase());
        let parsed = humantime::parse_duration(text).ok().filter(|_| lower);
        parsed.ok_or_else(|| Mismatch::new(format!("not a duration: `{text}`"), HINT))
    }
}

/// Relative paths start from the folder of the main file.
impl Setting for PathBuf {
    fn from_value(value: &DeValue<'_>, source: &Source) -> Result<Self, Mismatch> {
        let text = String::from_value(value, source)?;
        if text.is_empty() {
            return Err(Mismatch::new("the path is empty", "write the path of a file or folder"));
        }
        Ok(source.resolve(Path::new(&text)))
    }
}

/// Types that are written as a text, with the hint for a text that is not one.
macro_rules! from_text {
    ($($type:ty: $hint:literal;)*) => {$(
        impl Setting for $type {
            fn from_value(value: &DeValue<'_>, source: &Source) -> Result<Self, Mismatch> {
                parse(&String::from_value(value, source)?, $hint)
            }
        }
    )*};
}

from_text! {
    ClientName: "choose a short name; it is used in URLs and never changes";
    HsmName: "choose a short name; key records refer to it";
    Identity: "see `docs/config.md`, section `[[workload]]`";
    CkaId: "write the CKA_ID of the key pair in hexadecimal, as `hallmark hsm probe` and `pkcs11-tool --list-objects` print it";
    Alg: "write it as in RFC 7518, e.g. `\"RS384\"` or `\"ES384\"`";
}

impl Setting for SocketAddr {
    fn from_value(value: &DeValue<'_>, source: &Source) -> Result<Self, Mismatch> {
        let text = String::from_value(value, source)?;
        text.parse().map_err(|_| {
            let hint = "write an IP address and a port: `127.0.0.1:8443`, `0.0.0.0:8443` or `[::]:8443`";
            Mismatch::new(format!("not an address to listen on: `{text}`"), hint)
        })
    }
}

/// Types that are one of a few words.
macro_rules! one_of {
    ($($type:ty: $($word:literal => $value:expr),*;)*) => {$(
        impl Setting for $type {
            fn from_value(value: &DeValue<'_>, source: &Source) -> Result<Self, Mismatch> {
                let text = String::from_value(value, source)?;
                match text.as_str() {
                    $($word => Ok($value),)*
                    _ => Err(Mismatch::new(format!("unknown value: `{text}`"), nearest(&text, &[$($word),*]))),
                }
            }
        }
    )*};
}

/// What kind of HSM.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Pkcs11,
    Yubikey,
    Elsewhere,
}

/// One of the roles that a trust gives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    Workload,
    Operator,
}

/// How an issuer names whom it vouches for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum IssuerKind {
    Generic,
    Kubernetes,
    Spiffe,
}

one_of! {
    IssuerKind: "generic" => Self::Generic, "kubernetes" => Self::Kubernetes, "spiffe" => Self::Spiffe;
    Kind: "pkcs11" => Self::Pkcs11, "yubikey" => Self::Yubikey, "elsewhere" => Self::Elsewhere;
    Role: "workload" => Self::Workload, "operator" => Self::Operator;
    OperatorRole: "follow" => Self::Follow, "view" => Self::View, "rotate" => Self::Rotate, "destroy" => Self::Destroy;
    Guarded: "destroy" => Self::Destroy, "force" => Self::Force, "revoke" => Self::Revoke;
    Custody: "attested" => Self::Attested, "local" => Self::Local, "imported" => Self::Imported;
    Typ: "JWT" => Self::Jwt, "client-authentication+jwt" => Self::ClientAuthentication, "none" => Self::Absent;
    Audience: "token-endpoint" => Self::TokenEndpoint, "issuer" => Self::Issuer;
    Provision: "manual" => Self::Manual, "auto" => Self::Auto;
    JwksHost: "hallmark" => Self::Hallmark, "static" => Self::Static;
}

impl Setting for Rate {
    fn from_value(value: &DeValue<'_>, source: &Source) -> Result<Self, Mismatch> {
        let text = String::from_value(value, source)?;
        rate(&text).ok_or_else(|| {
            let hint = "write a number above zero and `s`, `m` or `h`: `\"100/s\"`, `\"10/m\"`";
            Mismatch::new(format!("not a rate: `{text}`"), hint)
        })
    }
}

fn rate(text: &str) -> Option<Rate> {
    let (count, unit) = text.split_once('/')?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        _ => return None,
    };
    let count = count.parse().ok().filter(|count| *count > 0)?;
    Some(Rate { count, per: Duration::from_secs(seconds) })
}

fn parse<T: FromStr<Err: Display>>(text: &str, hint: &str) -> Result<T, Mismatch> {
    text.parse().map_err(|error: T::Err| Mismatch::new(error.to_string(), hint))
}

/// A duration in the largest unit that divides it, as the configuration has it: `15m`.
pub(super) fn show_duration(duration: Duration) -> String {
    const UNITS: [(u128, &str); 4] = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "m"), (1000, "s")];
    let ms = duration.as_millis();
    match UNITS.into_iter().find(|(unit, _)| ms >= *unit && ms.is_multiple_of(*unit)) {
        Some((unit, name)) => format!("{}{name}", ms / unit),
        None if ms == 0 => "0s".to_owned(),
        None => format!("{ms}ms"),
    }
}

/// The hint that names the word which was probably meant, or all of them where none is near.
pub(super) fn nearest(word: &str, known: &[&str]) -> String {
    let near = |candidate: &&&str| strsim::jaro_winkler(word, candidate);
    let best = known.iter().max_by(|a, b| near(a).total_cmp(&near(b)));
    match best.filter(|best| near(best) > 0.8) {
        Some(best) => format!("did you mean `{best}`?"),
        None => {
            let all: Vec<_> = known.iter().map(|word| format!("`{word}`")).collect();
            format!("it is one of {}", all.join(", "))
        }
    }
}

/// What a value is, in the reader's words.
pub(super) fn type_of(value: &DeValue<'_>) -> &'static str {
    match value {
        DeValue::String(_) => "a text",
        DeValue::Integer(_) => "a whole number",
        DeValue::Float(_) => "a fraction",
        DeValue::Boolean(_) => "true or false",
        DeValue::Datetime(_) => "a date",
        DeValue::Array(_) => "a list",
        DeValue::Table(_) => "a table",
    }
}
