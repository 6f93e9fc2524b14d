//! How commands fail: for a person at 3 a.m., or as JSON.

use std::error::Error as StdError;

use hallmark_core::diagnosis::printable;
use serde_json::{Map, Value, json};

use super::output::inert;

/// Bad usage (EX_USAGE of sysexits).
pub const USAGE: u8 = 64;
/// Not now: the supervisor is to start us again (EX_TEMPFAIL).
pub(super) const TEMPORARY: u8 = 75;
/// The configuration is wrong (EX_CONFIG).
pub(super) const CONFIG: u8 = 78;

/// Why a command failed: what happened, why, and what to type next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Failure {
    message: String,
    causes: Vec<String>,
    hint: Option<String>,
    exit_code: u8,
    /// What is there to read beside the causes, in lines. Boxed, for failures are handed up through many functions.
    note: Option<Box<str>>,
    /// Members of the JSON form beside the common ones.
    details: Map<String, Value>,
}

impl Failure {
    /// Exit code 1, unless [`Self::with_exit_code`] says otherwise.
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), causes: Vec::new(), hint: None, exit_code: 1, note: None, details: Map::new() }
    }

    /// `error` and its own causes.
    #[must_use]
    pub fn caused_by(mut self, error: &dyn StdError) -> Self {
        let mut next = Some(error);
        while let Some(error) = next {
            self = self.because(error.to_string());
            next = error.source();
        }
        self
    }

    /// A cause in words. Those that the text above them holds already are left out.
    #[must_use]
    pub fn because(mut self, cause: impl Into<String>) -> Self {
        let cause = cause.into().trim_end().to_owned();
        let said = self.causes.last().unwrap_or(&self.message);
        if !cause.is_empty() && !said.contains(&cause) {
            self.causes.push(cause);
        }
        self
    }

    /// Makes what was said the cause of `text`.
    #[must_use]
    pub(super) fn in_context(mut self, text: impl Into<String>) -> Self {
        self.causes.insert(0, std::mem::replace(&mut self.message, text.into()));
        self
    }

    /// What to type next.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// What the process ends with.
    #[must_use]
    pub fn with_exit_code(mut self, code: u8) -> Self {
        self.exit_code = code;
        self
    }

    /// Lines for people, between the causes and the hint. Programs find the same in the details.
    #[must_use]
    pub(super) fn note(mut self, note: impl Into<String>) -> Self {
        self.note = Some(note.into().into_boxed_str());
        self
    }

    #[must_use]
    pub(super) fn detail(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.details.insert(name.to_owned(), value.into());
        self
    }

    /// What the process ends with.
    pub fn exit_code(&self) -> u8 {
        self.exit_code
    }

    /// The text for standard error, with its line ends.
    pub fn render(&self, json: bool) -> String {
        if json {
            let Self { message, causes, hint, details, .. } = self;
            let mut error = json!({ "message": message, "caused_by": causes, "hint": hint });
            error.as_object_mut().into_iter().for_each(|error| error.extend(details.clone()));
            return inert(&json!({ "error": error }).to_string()) + "\n";
        }
        let mut text = format!("error: {}\n", self.message);
        for cause in &self.causes {
            text += &format!("  caused by: {}\n", cause.replace('\n', "\n    "));
        }
        if let Some(note) = &self.note {
            text += &format!("{}\n", note.trim_end());
        }
        if let Some(hint) = &self.hint {
            text += &format!("hint: {hint}\n");
        }
        // Servers' words are in it.
        text.lines().map(|line| printable(line, usize::MAX) + "\n").collect()
    }
}
