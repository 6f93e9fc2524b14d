//! What can be wrong with a configuration, and the list in which it is collected.

use std::{
    cell::RefCell,
    collections::BTreeSet,
    fmt,
    path::{Path, PathBuf},
    rc::Rc,
};

use serde::Serialize;

/// One thing that is wrong, where it stands, and what to do about it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Problem {
    pub file: PathBuf,
    /// Counted from 1; `None` where the file as a whole is meant.
    pub line: Option<usize>,
    pub what: String,
    pub hint: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:", self.file.display())?;
        if let Some(line) = self.line {
            write!(f, "{line}:")?;
        }
        write!(f, " {}\n  hint: {}", self.what, self.hint)
    }
}

/// Everything that is wrong with a configuration, in the order of files and lines. Never empty.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
pub struct ConfigError {
    pub problems: Vec<Problem>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.problems.len() {
            1 => writeln!(f, "the configuration has a problem")?,
            many => writeln!(f, "the configuration has {many} problems")?,
        }
        self.problems.iter().try_for_each(|problem| write!(f, "\n{problem}"))
    }
}

/// Where something stands: a file and a line, counted from 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) file: Rc<Path>,
    pub(super) line: Option<usize>,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        self.line.map_or(Ok(()), |line| write!(f, ":{line}"))
    }
}

/// A value and where it stands.
#[derive(Clone, Debug)]
pub(super) struct At<T> {
    pub(super) value: T,
    pub(super) place: Place,
}

/// Collects problems, so that all are reported together and not one a run.
#[derive(Debug, Default)]
pub(super) struct Problems {
    errors: RefCell<Vec<Problem>>,
    warnings: RefCell<Vec<Problem>>,
    known: RefCell<BTreeSet<String>>,
}

impl Problems {
    pub(super) fn error(&self, place: &Place, what: impl Into<String>, hint: impl Into<String>) {
        self.errors.borrow_mut().push(problem(place, what.into(), hint.into()));
    }

    /// Something that is allowed and probably not meant.
    pub(super) fn warn(&self, place: &Place, what: impl Into<String>, hint: impl Into<String>) {
        self.warnings.borrow_mut().push(problem(place, what.into(), hint.into()));
    }

    /// Notes that the parser knows this key; the documentation is tested against the notes.
    pub(super) fn know(&self, key: String) {
        self.known.borrow_mut().insert(key);
    }

    #[cfg(test)]
    pub(super) fn known(&self) -> BTreeSet<String> {
        self.known.borrow().clone()
    }

    /// Whether no error was reported.
    pub(super) fn is_empty(&self) -> bool {
        self.errors.borrow().is_empty()
    }

    /// The warnings, if there was no error.
    pub(super) fn finish(self) -> Result<Vec<Problem>, ConfigError> {
        let sorted = |list: RefCell<Vec<Problem>>| {
            let mut list = list.into_inner();
            list.sort();
            list.dedup();
            list
        };
        let problems = sorted(self.errors);
        if problems.is_empty() { Ok(sorted(self.warnings)) } else { Err(ConfigError { problems }) }
    }
}

fn problem(place: &Place, what: String, hint: String) -> Problem {
    Problem { file: place.file.to_path_buf(), line: place.line, what, hint }
}
