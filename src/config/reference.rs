//! Secrets by reference: where a PIN or a key is, never what it is.

use std::path::Path;

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
    let path = match text.split_once(':') {
        Some(("credential", name)) if is_file_name(name) => return Ok(text.to_owned()),
        Some(("fd", number)) if number.parse::<u16>().is_ok() => return Ok(text.to_owned()),
        Some(("file", path)) => path.strip_prefix("//").unwrap_or(path),
        // A bare word could be a PIN, so a path must look like one.
        _ if text.contains('/') && !text.contains(':') => text,
        _ => return Err(refused()),
    };
    if path.is_empty() {
        return Err(refused());
    }
    let path = s.resolve(Path::new(path));
    Ok(format!("file:{}", path.to_str().ok_or_else(refused)?))
}

fn is_file_name(name: &str) -> bool {
    !name.is_empty() && !name.starts_with('.') && !name.contains('/')
}
