//! What the registration endpoint answered: what of it is shown, what is recorded, and what is kept where only its owner
//! can read it.

use std::{
    fs::{self, File, OpenOptions},
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use hallmark_core::{client::is_client_id, profile::Profile};
use serde_json::Value;

use super::{Failure, inert, printable};
use crate::{cli::failure::USAGE, verifier::HttpAnswer};

/// A file that is made before anything is sent: a secret that came back would be lost without it.
pub(super) struct Keeper {
    path: PathBuf,
    file: File,
}

/// An answer, taken apart.
pub(super) struct Answer {
    pub(super) status: u16,
    /// Without secrets.
    pub(super) shown: String,
    pub(super) client_id: Option<String>,
    pub(super) registration_uri: Option<String>,
    /// The names of members that only the file has.
    pub(super) secrets: Vec<String>,
}

impl Keeper {
    pub(super) fn new(path: &Path) -> Result<Self, Failure> {
        let made = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path);
        let file = made.map_err(|error| {
            let text =
                format!("nothing is sent: the answer may hold secrets, and can't be kept in `{}`", path.display());
            let hint = "name a file that is not there yet: --answer FILE";
            Failure::new(text).caused_by(&error).hint(hint).with_exit_code(USAGE)
        })?;
        Ok(Self { path: path.to_owned(), file })
    }

    /// Keeps the whole answer if there is a secret in it. Gives the file.
    pub(super) fn keep(mut self, answer: &Answer, body: &[u8]) -> Result<Option<PathBuf>, Failure> {
        if answer.secrets.is_empty() {
            self.discard();
            return Ok(None);
        }
        let written = self.file.write_all(body).and_then(|()| self.file.sync_all());
        written.map_err(|error| {
            let (what, path) = (answer.secrets.join(", "), self.path.display());
            let text = format!("the answer holds {what} and can't be written into `{path}`");
            Failure::new(text).caused_by(&error)
        })?;
        Ok(Some(self.path))
    }

    /// Nothing came back.
    pub(super) fn discard(self) {
        // An empty file does no harm.
        let _ = fs::remove_file(&self.path);
    }
}

impl Answer {
    pub(super) fn read(answer: &HttpAnswer) -> Self {
        let body = answer.body.as_deref().unwrap_or_default();
        let Ok(Value::Object(mut members)) = serde_json::from_slice(body) else {
            return Self::unread(answer.status, body);
        };
        let text = |name: &str| members.get(name)?.as_str().map(str::to_owned);
        let client_id = text("client_id").filter(|id| is_client_id(id));
        let registration_uri = text("registration_client_uri").filter(|uri| is_url(uri));
        let mut secrets = Vec::new();
        for (name, value) in &mut members {
            hide(name, name, value, &mut secrets);
        }
        let shown = inert(&format!("{:#}", Value::Object(members)));
        Self { status: answer.status, shown, client_id, registration_uri, secrets }
    }

    /// Who registered something may have answered with secrets in a form that is not known here.
    fn unread(status: u16, body: &[u8]) -> Self {
        let (shown, secrets) = if (200..300).contains(&status) && !body.is_empty() {
            ("(no JSON object: not shown)".to_owned(), vec!["an answer that is no JSON object".to_owned()])
        } else {
            (printable(&String::from_utf8_lossy(body)), Vec::new())
        };
        Self { status, shown, client_id: None, registration_uri: None, secrets }
    }

    /// Whether there is a registration.
    pub(super) fn is_registered(&self) -> bool {
        matches!(self.status, 200 | 201) && self.client_id.is_some()
    }

    /// Why there is none, as far as the profile knows.
    pub(super) fn refusal(&self, profile: &Profile) -> Failure {
        let text = match self.status {
            300..400 => "it answers with a redirect, which is not followed: name the other place with --url".to_owned(),
            200 | 201 => "the answer has no `client_id` that can be one".to_owned(),
            status => format!("the registration is refused: status {status}"),
        };
        let failure = Failure::new(text).because(self.shown.clone()).detail("status", self.status);
        let says = |says: &str| !says.is_empty() && self.shown.contains(says);
        match profile.refusals.iter().find(|refusal| says(refusal.says)) {
            Some(refusal) => failure.because(refusal.means).hint(refusal.remedy),
            None => failure,
        }
    }
}

/// Takes secrets out of `value`, however deep they are, and adds where they were to `secrets`.
fn hide(path: &str, name: &str, value: &mut Value, secrets: &mut Vec<String>) {
    match value {
        Value::Null | Value::Bool(_) => {}
        value if is_secret(name) => {
            *value = Value::from("(not shown)");
            secrets.push(path.to_owned());
        }
        Value::Object(members) => {
            members.iter_mut().for_each(|(name, value)| hide(&format!("{path}.{name}"), name, value, secrets));
        }
        Value::Array(items) => items.iter_mut().for_each(|item| hide(path, "", item, secrets)),
        _ => {}
    }
}

/// `registration_access_token`, `clientSecret`, and whatever else is called like that. `token_endpoint_auth_method` is
/// none, nor is the date on which a secret ends.
fn is_secret(name: &str) -> bool {
    let name = name.to_lowercase().replace(['_', '-'], "");
    name.ends_with("token") || name.ends_with("secret") || name.contains("password")
}

/// As Hallmark takes it.
fn is_url(uri: &str) -> bool {
    let is_absolute = ["https://", "http://"].iter().any(|scheme| uri.starts_with(scheme));
    is_absolute && uri.bytes().all(|byte| byte.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn answer(status: u16, body: &str) -> Answer {
        Answer::read(&HttpAnswer { status, headers: Vec::new(), body: Some(body.as_bytes().to_vec()) })
    }

    const WHOLE: &str = r#"{"client_id": "c-1", "client_secret": "s3cr3t", "registration_access_token": "t0k3n",
        "registration_client_uri": "https://as.example/r/c-1", "client_secret_expires_at": 0,
        "token_endpoint_auth_method": "private_key_jwt", "client_name": "a\u001b[2Jb"}"#;

    #[test]
    fn secrets_are_kept_and_not_shown() {
        let read = answer(201, WHOLE);
        assert!(read.is_registered());
        assert_eq!(
            (read.client_id.as_deref(), read.registration_uri.as_deref()),
            (Some("c-1"), Some("https://as.example/r/c-1"))
        );
        assert_eq!(read.secrets, ["client_secret", "registration_access_token"]);
        assert!(
            !read.shown.contains("s3cr3t") && !read.shown.contains("t0k3n") && !read.shown.contains('\u{1b}'),
            "{}",
            read.shown
        );
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("answer.json");
        let kept = Keeper::new(&path).unwrap().keep(&read, WHOLE.as_bytes()).unwrap();
        assert_eq!(kept.as_ref(), Some(&path));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::read_to_string(&path).unwrap(), WHOLE);
        assert_eq!(Keeper::new(&path).err().unwrap().exit_code(), USAGE, "nothing is written over");
    }

    #[test]
    fn secrets_are_found_wherever_they_are() {
        let read = answer(
            201,
            r#"{"client_id": "c-1", "registrationAccessToken": "s3cr3t", "registration_client_uri": "/r",
            "more": [{"Client-Secret": ["s3cr3t"]}]}"#,
        );
        assert_eq!(read.secrets.len(), 2, "{:?}", read.secrets);
        assert!(!read.shown.contains("s3cr3t"), "{}", read.shown);
        assert!(read.is_registered() && read.registration_uri.is_none(), "the client_id counts all the same");
        let other = answer(201, "client_secret=s3cr3t");
        assert!(!other.secrets.is_empty() && !other.shown.contains("s3cr3t"), "kept, and not shown");
    }

    #[test]
    fn without_secrets_nothing_is_kept() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("answer.json");
        let read = answer(201, r#"{"client_id": "c-1"}"#);
        assert_eq!(Keeper::new(&path).unwrap().keep(&read, b"").unwrap(), None);
        assert!(!path.exists());
    }

    #[test]
    fn a_refusal_is_explained() {
        let refused = answer(400, r#"{"error": "Unsupported token_endpoint_auth_method value : private_key_jwt"}"#);
        let failure = refused.refusal(Profile::find("openemr-7").unwrap()).render(false);
        insta::assert_snapshot!(failure);
        let page = answer(302, "<html>\u{1b}[2J").refusal(Profile::find("generic").unwrap()).render(false);
        assert!(page.contains("--url") && !page.contains('\u{1b}'), "{page}");
        for useless in [r#"{"client_id": ""}"#, r#"{"client_id": 7}"#, "[]", "{\"client_id\": \"a\\nb\"}"] {
            assert!(!answer(201, useless).is_registered(), "{useless}");
        }
    }
}
