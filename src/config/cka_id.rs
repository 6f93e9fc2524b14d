//! How the name of an object on a token is written.

use std::str::FromStr;

/// A `CKA_ID`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CkaId(pub Vec<u8>);

/// It is not hexadecimal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("it is not hexadecimal, such as `00ff`")]
pub struct NotHexadecimal;

impl FromStr for CkaId {
    type Err = NotHexadecimal;

    /// `00ff`, `00:ff` and `00 ff` alike, for that is how other tools print it.
    fn from_str(text: &str) -> Result<Self, NotHexadecimal> {
        let digits: Vec<u8> = text.bytes().filter(|byte| !matches!(byte, b':' | b' ')).collect();
        if digits.is_empty() || !digits.len().is_multiple_of(2) {
            return Err(NotHexadecimal);
        }
        let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
        let byte = |pair: &[u8]| Some(digit(pair[0])? << 4 | digit(pair[1])?);
        digits.chunks(2).map(byte).collect::<Option<_>>().map(Self).ok_or(NotHexadecimal)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hexadecimal_is_taken_as_other_tools_print_it() {
        for good in ["00ff", "00:FF", "00 ff"] {
            assert_eq!(good.parse(), Ok(CkaId(vec![0, 255])), "{good}");
        }
        for bad in ["", "0", "0g", "é0", "0x00"] {
            assert_eq!(bad.parse::<CkaId>(), Err(NotHexadecimal), "{bad}");
        }
    }
}
