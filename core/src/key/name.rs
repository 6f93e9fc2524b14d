//! Names: each a text that must match a form.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// A text that must match a form. `$rule` says which, for the person who typed it.
macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $what:literal, $rule:literal, $valid:expr) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// The text as it was configured.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = InvalidName;

            fn from_str(text: &str) -> Result<Self, InvalidName> {
                let valid: fn(&str) -> bool = $valid;
                if valid(text) { Ok(Self(text.to_owned())) } else { Err(InvalidName::new($what, text, $rule)) }
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

name!(
    /// Our name of an OAuth client: immutable, used in API, CLI, URL and audit.
    ClientName, "client name", "1 to 63 of a-z, 0-9 and -", is_dns_label
);
name!(
    /// The configured name of an HSM.
    HsmName, "HSM name", "1 to 63 of a-z, 0-9 and -", is_dns_label
);
name!(
    /// The `kid` of a key: fixed at birth, never reused, never pointed at another key.
    Kid, "kid", "1 to 64 of A-Z, a-z, 0-9, - and _", is_kid
);

/// A text that is not of the form that its use demands.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a valid {what}: `{shown}` (expected {rule})")]
pub struct InvalidName {
    what: &'static str,
    shown: String,
    rule: &'static str,
}

impl InvalidName {
    pub(crate) fn new(what: &'static str, text: &str, rule: &'static str) -> Self {
        // What is shown back is bounded: the text may come from a hostile caller.
        Self { what, shown: text.chars().take(80).collect(), rule }
    }
}

fn is_dns_label(text: &str) -> bool {
    (1..=63).contains(&text.len()) && text.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'-'))
}

fn is_kid(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text.bytes().all(|b| matches!(b, b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_keep_to_their_form() {
        assert!("epic-prod".parse::<ClientName>().is_ok());
        for bad in ["", "Epic", "a/b", "a.b", "é", &"a".repeat(64)] {
            assert!(bad.parse::<ClientName>().is_err(), "{bad:?} was taken");
        }
        assert!("8p_-Z".parse::<Kid>().is_ok());
        for bad in ["", "a b", "a.b", &"k".repeat(65)] {
            assert!(bad.parse::<Kid>().is_err(), "{bad:?} was taken");
        }
    }
}
