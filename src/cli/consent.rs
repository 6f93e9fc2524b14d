//! Asking before what can't be taken back.

use std::io::{self, BufRead, IsTerminal, Write};

use super::{Failure, failure};

/// Whether someone agreed to what a command is about to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Consent {
    /// Nothing is to be asked.
    Given,
    /// Someone sits there and is to be told first.
    ToAsk,
}

impl Consent {
    /// For `command`, as it was typed. Without `--yes` and without anyone to ask it is refused here, before anything is
    /// sent.
    pub(super) fn find(yes: bool, command: &str) -> Result<Self, Failure> {
        // Asked on standard error, so that standard output can be piped.
        Self::decide(yes, io::stdin().is_terminal() && io::stderr().is_terminal(), command)
    }

    fn decide(yes: bool, terminal: bool, command: &str) -> Result<Self, Failure> {
        if yes {
            return Ok(Self::Given);
        }
        if terminal {
            return Ok(Self::ToAsk);
        }
        let text = "nothing is changed: this asks first, and there is no terminal to ask on";
        let failure = Failure::new(text).detail("reason", "CONSENT_MISSING").with_exit_code(failure::USAGE);
        Err(failure.hint(format!("if it is meant: {command} --yes")))
    }
}

/// Says what is going to happen, and waits for a word.
pub(super) fn ask(told: &str) -> Result<(), Failure> {
    let mut answer = String::new();
    let asked = io::stderr().write_all(format!("{told}Go on? [y/N] ").as_bytes());
    asked
        .and_then(|()| io::stdin().lock().read_line(&mut answer))
        .map_err(|error| Failure::new("nothing is changed: there was no answer").caused_by(&error))?;
    if is_yes(&answer) { Ok(()) } else { Err(Failure::new("nothing is changed, as you said")) }
}

fn is_yes(answer: &str) -> bool {
    matches!(answer.trim().to_ascii_lowercase().as_str(), "y" | "yes")
}

/// A word as a shell takes it.
pub(super) fn quoted(word: &str) -> String {
    let plain =
        |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'/' | b':' | b'=' | b',');
    if !word.is_empty() && word.bytes().all(plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', r"'\''"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_a_terminal_it_must_be_said_beforehand() {
        let command = "hallmark keys revoke k1 --reason 'laptop stolen'";
        assert_eq!(Consent::decide(true, false, command), Ok(Consent::Given));
        assert_eq!(Consent::decide(true, true, command), Ok(Consent::Given));
        assert_eq!(Consent::decide(false, true, command), Ok(Consent::ToAsk));
        let refused = Consent::decide(false, false, command).expect_err("nobody to ask");
        assert_eq!(refused.exit_code(), 64);
        insta::assert_snapshot!(refused.render(false), @r"
        error: nothing is changed: this asks first, and there is no terminal to ask on
        hint: if it is meant: hallmark keys revoke k1 --reason 'laptop stolen' --yes
        ");
    }

    #[test]
    fn only_a_yes_is_one() {
        assert!(["y\n", "Y\n", "yes\n", " YES \n"].into_iter().all(is_yes));
        assert!(["", "\n", "n\n", "yep\n", "no, yes\n"].into_iter().all(|answer| !is_yes(answer)));
    }

    #[test]
    fn what_is_to_be_typed_can_be_typed() {
        let words = ["k1", "laptop stolen", "it's", "", "a;b"].map(quoted);
        assert_eq!(words, ["k1", "'laptop stolen'", r"'it'\''s'", "''", "'a;b'"]);
    }
}
