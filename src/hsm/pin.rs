//! Where a PIN comes from. It is read anew at each login, and lives no longer than that login.

#[cfg(test)]
mod tests;

use std::{
    fmt,
    fs::{File, Metadata},
    io::{self, Read},
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
};

use secrecy::SecretBox;

use crate::hardening::{Locked, private_buffer};

/// A `pin-source` (RFC 7512 §2.3): a file, an inherited descriptor, or a systemd credential. Never a command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PinSource {
    path: PathBuf,
    kind: Kind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    File,
    Descriptor,
    Credential(String),
}

/// A PIN, and what its source looked like when it was read.
pub struct Pin {
    /// The bytes as the token is to see them. Zeroised on drop.
    pub secret: SecretBox<Vec<u8>>,
    /// Identifies this state of the source for the [`PinLedger`](hallmark_core::ports::PinLedger). Made from what the
    /// file system says of it, never from the PIN.
    pub source_id: String,
    /// Below the secret: it is wiped before its memory may be swapped out.
    _lock: Option<Locked>,
}

/// The source is not of a known form, or can't be trusted, or holds no PIN.
#[derive(Debug, thiserror::Error)]
pub enum PinError {
    #[error(
        "not a PIN source\nhint: use an absolute path, `file:/PATH`, `fd:N`, or `credential:NAME` \
         (systemd's `LoadCredential=`)"
    )]
    /// Not shown: it may be the PIN itself.
    Form,
    #[error("`{0}`: there is no credentials directory\nhint: add `LoadCredential=` to the systemd unit")]
    NoCredentials(PinSource),
    #[error(
        "can't read the PIN from `{0}`: {1}\n\
         hint: `pin_source` must name a file that exists and that the user who runs hallmark can read"
    )]
    Read(PinSource, #[source] io::Error),
    #[error(
        "`{0}` is no regular file, and can be read only once\n\
         hint: the PIN is needed again at each login; use a file, a memfd or a systemd credential"
    )]
    NotAFile(PinSource),
    #[error("`{source_}` can be read by others (mode {mode:04o})\nhint: chmod 600 `{}`", source_.path.display())]
    Exposed { source_: PinSource, mode: u32 },
    #[error("`{source_}` belongs to uid {uid}\nhint: it must belong to root or to the user that runs hallmark")]
    Owner { source_: PinSource, uid: u32 },
    #[error("`{0}` is empty\nhint: write the PIN into it")]
    Empty(PinSource),
    #[error(
        "`{0}` is longer than {MAX_PIN} bytes: it does not hold a PIN\nhint: let `pin_source` name the file with the PIN"
    )]
    TooLong(PinSource),
    #[error("`{0}` changed while it was read\nhint: hallmark reads it again; write it once, and leave it alone")]
    Changed(PinSource),
}

impl PinSource {
    /// Reads the setting `pin_source`. `credentials` is `$CREDENTIALS_DIRECTORY`, where systemd set it.
    ///
    /// Paths are taken literally, also after `file:`; percent-encoding is not undone.
    pub fn parse(text: &str, credentials: Option<&Path>) -> Result<Self, PinError> {
        let refused = || PinError::Form;
        if let Some(number) = text.strip_prefix("fd:") {
            let number: u32 = number.parse().map_err(|_| refused())?;
            // Opened by path, each read starts at the beginning, whatever was read from the descriptor before.
            return Ok(Self { path: format!("/proc/self/fd/{number}").into(), kind: Kind::Descriptor });
        }
        if let Some(name) = text.strip_prefix("credential:") {
            if name.is_empty() || name.contains('/') || name.starts_with('.') {
                return Err(refused());
            }
            let kind = Kind::Credential(name.to_owned());
            let source = |path| Self { path, kind };
            return match credentials {
                Some(directory) => Ok(source(directory.join(name))),
                None => Err(PinError::NoCredentials(source(PathBuf::new()))),
            };
        }
        let path = text.strip_prefix("file:").map_or(text, |rest| rest.strip_prefix("//").unwrap_or(rest));
        if !path.starts_with('/') {
            return Err(refused());
        }
        Ok(Self { path: path.into(), kind: Kind::File })
    }

    /// Reads the PIN; one newline at its end is not part of it.
    pub fn read(&self) -> Result<Pin, PinError> {
        let failed = |e| PinError::Read(self.clone(), e);
        // Without O_NONBLOCK a FIFO in the place of the file would hang us here.
        let flags = rustix::fs::OFlags::NONBLOCK.bits() as i32;
        let mut file = File::options().read(true).custom_flags(flags).open(&self.path).map_err(failed)?;
        let before = file.metadata().map_err(failed)?;
        self.check(&before)?;

        // Room for one byte too many, and for good: a growing buffer would leave copies behind.
        let (lock, mut bytes) = private_buffer(MAX_PIN + 1);
        (&mut file).take(MAX_PIN as u64 + 1).read_to_end(&mut bytes).map_err(failed)?;
        if bytes.len() > MAX_PIN {
            return Err(PinError::TooLong(self.clone()));
        }
        let source_id = self.identity(&before);
        if self.identity(&file.metadata().map_err(failed)?) != source_id {
            return Err(PinError::Changed(self.clone()));
        }
        let without_newline = bytes.strip_suffix(b"\n").map(|rest| rest.strip_suffix(b"\r").unwrap_or(rest));
        if let Some(len) = without_newline.map(<[u8]>::len) {
            bytes.truncate(len);
        }
        if bytes.is_empty() {
            return Err(PinError::Empty(self.clone()));
        }
        Ok(Pin { secret: SecretBox::new(Box::new(std::mem::take(&mut *bytes))), source_id, _lock: lock })
    }

    /// What to type once the PIN has been corrected, for a source that was tried and refused.
    pub fn renew_hint(&self) -> String {
        match &self.kind {
            Kind::File => format!("correct the PIN, then write the file anew (touch `{}`)", self.path.display()),
            Kind::Descriptor => "correct the PIN and hand it over by a file instead".to_owned(),
            Kind::Credential(name) => format!("correct the PIN, and give the credential another name than `{name}`"),
        }
    }

    /// As [`PinSource::renew_hint`], for a PIN that may well be right.
    pub fn again_hint(&self) -> String {
        match &self.kind {
            Kind::File => format!("touch `{}`", self.path.display()),
            Kind::Descriptor => "hand it over by a file instead".to_owned(),
            Kind::Credential(name) => format!("give the credential another name than `{name}`"),
        }
    }

    fn check(&self, found: &Metadata) -> Result<(), PinError> {
        if !found.is_file() {
            return Err(PinError::NotAFile(self.clone()));
        }
        if ![0, rustix::process::geteuid().as_raw()].contains(&found.uid()) {
            return Err(PinError::Owner { source_: self.clone(), uid: found.uid() });
        }
        let forbidden = match self.kind {
            // systemd lets the service in by an ACL, whose mask stat shows as the group's bits. The directory is closed.
            Kind::Credential(_) => 0o007,
            // A memfd has no name by which others could open it, and its mode is 0777.
            Kind::Descriptor if found.nlink() == 0 => 0,
            Kind::File | Kind::Descriptor => 0o077,
        };
        match found.mode() & forbidden {
            0 => Ok(()),
            _ => Err(PinError::Exposed { source_: self.clone(), mode: found.mode() & 0o7777 }),
        }
    }

    /// A file is new once it was written or touched. Credentials and files without a name are made anew at each start
    /// of the service: were their times part of the identity, each restart would try a wrong PIN once more.
    fn identity(&self, found: &Metadata) -> String {
        match &self.kind {
            Kind::Credential(name) => format!("credential:{name}"),
            Kind::Descriptor if found.nlink() == 0 => "descriptor".to_owned(),
            Kind::File | Kind::Descriptor => format!(
                "file:dev={},ino={},mtime={}.{:09},ctime={}.{:09}",
                found.dev(),
                found.ino(),
                found.mtime(),
                found.mtime_nsec(),
                found.ctime(),
                found.ctime_nsec()
            ),
        }
    }
}

impl fmt::Display for PinSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            Kind::Credential(name) => write!(f, "credential:{name}"),
            Kind::File | Kind::Descriptor => self.path.display().fmt(f),
        }
    }
}

impl fmt::Debug for Pin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Pin").field("source_id", &self.source_id).finish_non_exhaustive()
    }
}

/// PKCS#11 tokens take PINs of up to 255 bytes.
const MAX_PIN: usize = 255;
