//! What is to go wrong: the text of a plan, one thing a line.
//!
//! ```text
//! C_Sign return CKR_DEVICE_ERROR                     instead of the call, each time
//! C_Sign return CKR_DEVICE_ERROR every=3 times=5     each third call, five times in all
//! C_Sign return CKR_GENERAL_ERROR key=demo           only for keys whose label starts so, or with that CKA_ID in hex
//! C_OpenSession return-after CKR_HOST_MEMORY         the call is made, and its answer thrown away
//! C_Sign corrupt                                     the signature is changed
//! C_Login hang                                       until there is another plan; then the call goes on
//! * drop-sessions times=1                            all sessions are closed, and then the call is made
//! C_Finalize crash                                   the process aborts
//! token absent                                       as if pulled out
//! token absent-until-finalize                        and seen again only after C_Finalize, whatever the plan says by then
//! token no-rng                                       its flags say that it makes no random numbers
//! session refuse-read-only                           only sessions that may write are opened
//! pin final-try                                      the token's flags say so; `pin locked` likewise
//! mechanism hide 0x1041                              not in the list, and refused
//! mechanism claim 0x1044                             in the list, and refused
//! ```
//!
//! Lines count in their order: the first rule that concerns a call and is not used up decides. `key=` can be had at
//! `C_SignInit` and `C_Sign`. Empty lines and those that begin with `#` say nothing.

use cryptoki_sys::{CK_MECHANISM_TYPE, CK_RV};

use crate::functions::{Function, return_value};

/// All that is to go wrong.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Faults of calls.
    pub rules: Vec<Rule>,
    /// The token is not there.
    pub absent: bool,
    /// And stays away until the program calls `C_Finalize`.
    pub until_finalize: bool,
    /// Without `CKF_RNG`.
    pub no_rng: bool,
    /// Only `CKF_RW_SESSION` opens a session.
    pub refuse_read_only: bool,
    /// `CKF_USER_PIN_FINAL_TRY`.
    pub final_try: bool,
    /// `CKF_USER_PIN_LOCKED`.
    pub locked: bool,
    /// Mechanisms that the list lacks.
    pub hidden: Vec<CK_MECHANISM_TYPE>,
    /// Mechanisms that the list has, and that are refused.
    pub claimed: Vec<CK_MECHANISM_TYPE>,
}

/// One kind of fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// `None`: any function.
    pub function: Option<Function>,
    /// What happens.
    pub act: Act,
    /// At each so-many-th call that the rule concerns.
    pub every: u64,
    /// Not more often than that; `None`: without end.
    pub times: Option<u64>,
    /// Only for this key.
    pub key: Option<String>,
}

/// What becomes of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// This is returned, and the real module not called.
    Return(CK_RV),
    /// The real module is called, and this returned.
    ReturnAfter(CK_RV),
    /// The call waits until there is another plan.
    Hang,
    /// All sessions of the program are closed before.
    DropSessions,
    /// A bit of the signature is turned.
    Corrupt,
    /// The process aborts.
    Crash,
}

impl Plan {
    /// Reads a plan; the error names the line that does not say anything.
    pub fn parse(text: &str) -> Result<Self, String> {
        let mut plan = Self::default();
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
            plan.add(line).ok_or_else(|| format!("not a line of a plan: `{line}`"))?;
        }
        Ok(plan)
    }

    /// Whether the name of a key matters.
    pub fn asks_for_keys(&self) -> bool {
        self.rules.iter().any(|rule| rule.key.is_some())
    }

    /// Whether a signature with this mechanism is refused.
    pub fn refuses(&self, mechanism: CK_MECHANISM_TYPE) -> bool {
        self.hidden.contains(&mechanism) || self.claimed.contains(&mechanism)
    }

    fn add(&mut self, line: &str) -> Option<()> {
        let words: Vec<_> = line.split_whitespace().collect();
        match words.as_slice() {
            ["token", "absent"] => self.absent = true,
            ["token", "absent-until-finalize"] => (self.absent, self.until_finalize) = (true, true),
            ["token", "no-rng"] => self.no_rng = true,
            ["session", "refuse-read-only"] => self.refuse_read_only = true,
            ["pin", "final-try"] => self.final_try = true,
            ["pin", "locked"] => self.locked = true,
            ["mechanism", "hide", number] => self.hidden.push(mechanism(number)?),
            ["mechanism", "claim", number] => self.claimed.push(mechanism(number)?),
            [function, rest @ ..] => self.rules.push(Rule::parse(function, rest)?),
            [] => return None,
        }
        Some(())
    }
}

impl Rule {
    fn parse(function: &str, words: &[&str]) -> Option<Self> {
        let function = if function == "*" { None } else { Some(Function::named(function)?) };
        let (act, options) = match words {
            ["return", value, options @ ..] => (Act::Return(return_value(value)?), options),
            ["return-after", value, options @ ..] => (Act::ReturnAfter(return_value(value)?), options),
            ["hang", options @ ..] => (Act::Hang, options),
            ["drop-sessions", options @ ..] => (Act::DropSessions, options),
            ["corrupt", options @ ..] => (Act::Corrupt, options),
            ["crash", options @ ..] => (Act::Crash, options),
            _ => return None,
        };
        let mut rule = Self { function, act, every: 1, times: None, key: None };
        for option in options {
            match option.split_once('=')? {
                ("every", count) => rule.every = count.parse().ok().filter(|count| *count > 0)?,
                ("times", count) => rule.times = Some(count.parse().ok()?),
                ("key", key) => rule.key = Some(key.to_owned()),
                _ => return None,
            }
        }
        Some(rule)
    }
}

fn mechanism(number: &str) -> Option<CK_MECHANISM_TYPE> {
    CK_MECHANISM_TYPE::from_str_radix(number.strip_prefix("0x")?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_plan_of_the_documentation_reads() {
        let documentation = include_str!("plan.rs").split("```").nth(1).unwrap().lines().skip(1);
        let text: String = documentation
            .filter_map(|line| line.strip_prefix("//! ")?.split("  ").next())
            .map(|line| format!("{line}\n"))
            .collect();
        let plan = Plan::parse(&text).unwrap();
        assert_eq!(plan.rules.len(), 8, "{text}");
        assert_eq!(plan.rules[1].act, Act::Return(0x30));
        assert_eq!((plan.rules[1].every, plan.rules[1].times), (3, Some(5)));
        assert_eq!(plan.rules[2].key.as_deref(), Some("demo"));
        assert!(plan.absent && plan.until_finalize && plan.final_try && plan.no_rng && plan.refuse_read_only);
        assert!(plan.refuses(0x1041) && plan.refuses(0x1044));
    }

    #[test]
    fn a_line_that_says_nothing_is_named() {
        for line in ["C_Sing return CKR_DEVICE_ERROR", "C_Sign return CKR_NO_SUCH", "C_Sign corrupt often=1", "token"] {
            assert_eq!(Plan::parse(line), Err(format!("not a line of a plan: `{line}`")));
        }
    }
}
