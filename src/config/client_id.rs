//! Reads what the authorization server calls a client: `client_id`, or the file that holds it.

use std::{
    fs::{File, Metadata},
    io::{self, Read},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use hallmark_core::client::MAX_CLIENT_ID;

use super::{problem::At, section::Section, value::Mismatch};

/// Which files a `client_id_file` may be. What they hold is published with every assertion, as `iss`.
pub(super) struct IdFiles {
    /// Where it must be. Whoever may add clients need not be who may read the host's other files.
    pub(super) within: Option<PathBuf>,
    /// What holds PINs and private keys.
    pub(super) secrets: Vec<PathBuf>,
}

/// What the authorization server calls the client; absent until it is registered there.
pub(super) fn client_id(s: &Section<'_>, id_files: &IdFiles) -> Option<String> {
    let inline = s.get::<String>("client_id");
    let file = s.get::<PathBuf>("client_id_file");
    let At { value, place } = match (inline, file) {
        (Some(_), Some(file)) => {
            let what = "[[client]] has both `client_id` and `client_id_file`";
            s.error(&file.place, what, "leave one of them out");
            return None;
        }
        (Some(inline), None) => inline,
        (None, Some(At { value: path, place })) => match id_files.read(&path) {
            Ok(text) => At { value: text.trim_end_matches(['\r', '\n']).to_owned(), place },
            Err(Mismatch { what, hint }) => {
                s.error(&place, format!("`client_id_file` in [[client]] {what}"), hint);
                return None;
            }
        },
        (None, None) => return None,
    };
    let what = if value.is_empty() {
        "`client_id` in [[client]] is empty".to_owned()
    } else if value.len() > MAX_CLIENT_ID {
        format!("`client_id` in [[client]] has `{}` bytes", value.len())
    } else if value.contains(char::is_control) {
        "`client_id` in [[client]] has a line break or another control character".to_owned()
    } else {
        return Some(value);
    };
    s.error(&place, what, format!("it can have 1 to {MAX_CLIENT_ID} bytes; leave it out until there is one"));
    None
}

impl IdFiles {
    fn read(&self, path: &Path) -> Result<String, Mismatch> {
        let unreadable = |error: io::Error| {
            let hint = "write the client_id into that file, or leave the key out until there is one";
            Mismatch::new(format!("can't be read: `{}`: {error}", path.display()), hint)
        };
        let inside = |folder: &Path| io::Result::Ok(path.canonicalize()?.starts_with(folder.canonicalize()?));
        if let Some(folder) = &self.within
            && !inside(folder).map_err(unreadable)?
        {
            let what = format!("is outside of `clients.d`: `{}`", path.display());
            let hint = format!("a client of `clients.d` has its file there too: put it into `{}`", folder.display());
            return Err(Mismatch::new(what, hint));
        }
        let mut file = File::open(path).map_err(unreadable)?;
        // Asked of the open file, for another could take its name meanwhile; by identity, for it may have two names.
        let identity = |found: Metadata| (found.dev(), found.ino());
        let opened = identity(file.metadata().map_err(unreadable)?);
        if self.secrets.iter().any(|secret| secret.metadata().is_ok_and(|found| identity(found) == opened)) {
            let what = format!("is a file that holds a PIN or a private key: `{}`", path.display());
            return Err(Mismatch::new(
                what,
                "name a file with the client_id and nothing else: it is published as `iss`",
            ));
        }
        let mut text = String::new();
        file.read_to_string(&mut text).map_err(unreadable)?;
        Ok(text)
    }
}
