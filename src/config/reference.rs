//! Secrets by reference: where a PIN or a key is, never what it is.

use std::path::{Path, PathBuf};

use super::{problem::At, section::Section, value::Mismatch};

/// What the reference leads to, in the words of a refusal.
#[derive(Clone, Copy, Debug)]
pub(super) enum What {
    Pin,
    ManagementKey,
}

impl What {
    fn name(self) -> &'static str {
        match self {
            Self::Pin => "a PIN",
            Self::ManagementKey => "a management key",
        }
    }
}

/// The source that `key` of an `[[hsm]]` names, with an absolute path; what is wrong with it is reported.
pub(super) fn required(s: &Section<'_>, key: &'static str, example: &str, what: What) -> Option<String> {
    let At { value, place } = s.required::<String>(key, example)?;
    match resolve(s, &value, what) {
        Ok(source) => Some(source),
        Err(Mismatch { what, hint }) => {
            s.error(&place, format!("`{key}` in [[hsm]]: {what}"), hint);
            None
        }
    }
}

/// The source with an absolute path. What is refused is not shown: it may be the secret itself.
fn resolve(s: &Section<'_>, text: &str, what: What) -> Result<String, Mismatch> {
    let refused = || {
        let name = what.name();
        let hint = format!("write `file:PATH`, `credential:NAME` (systemd) or `fd:NUMBER`; {name} never stands here");
        Mismatch::new(format!("not a reference to {name}"), hint)
    };
    absolute(text, |path| Some(s.resolve(path))).ok_or_else(refused)
}

/// A `pin_source` that was typed, with its path absolute, seen from the working directory. `None` for what the
/// configuration would not take either: it may be the PIN itself, and is not to be shown.
pub fn typed_pin_source(text: &str) -> Option<String> {
    absolute(text, |path| std::path::absolute(path).ok())
}

fn absolute(text: &str, resolve: impl FnOnce(&Path) -> Option<PathBuf>) -> Option<String> {
    let path = match text.split_once(':') {
        Some(("credential", name)) if is_file_name(name) => return Some(text.to_owned()),
        Some(("fd", number)) if number.parse::<u16>().is_ok() => return Some(text.to_owned()),
        Some(("file", path)) => path.strip_prefix("//").unwrap_or(path),
        // A bare word could be a PIN, so a path must look like one.
        _ if text.contains('/') && !text.contains(':') => text,
        _ => return None,
    };
    if path.is_empty() {
        return None;
    }
    Some(format!("file:{}", resolve(Path::new(path))?.to_str()?))
}

fn is_file_name(name: &str) -> bool {
    !name.is_empty() && !name.starts_with('.') && !name.contains('/')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_typed_starts_from_the_working_directory_and_a_bare_word_is_refused() {
        let here = std::env::current_dir().unwrap();
        let below = |path: &str| Some(format!("file:{}", here.join(path).display()));
        assert_eq!(typed_pin_source("file:.hallmark/pin"), below(".hallmark/pin"));
        assert_eq!(typed_pin_source(".hallmark/pin"), below(".hallmark/pin"));
        assert_eq!(typed_pin_source("file:///etc/pin").as_deref(), Some("file:/etc/pin"));
        for same in ["file:/etc/pin", "fd:3", "credential:pin"] {
            assert_eq!(typed_pin_source(same).as_deref(), Some(same));
        }
        for refused in ["", "87654321", "pin", "file:", "fd:x", "credential:a/b", "pin:87654321", "env:PIN"] {
            assert_eq!(typed_pin_source(refused), None);
        }
    }
}
