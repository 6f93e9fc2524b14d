//! The last set on the disk: there after any crash, whole or not at all.
//!
//! ```text
//! hallmark-jwks-set 1 SHA-256-IN-HEX LENGTH\n
//! {"max_age_ms":…,"ahead_ms":…,"documents":[{"path":…},…]}
//! ```

use std::{
    fs::{self, DirBuilder, File},
    io::{self, Write},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    time::{Duration, UNIX_EPOCH},
};

use aws_lc_rs::digest;
use hallmark_core::time::Timestamp;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::lock::ProcessLock;

/// The folder of one follower; no other process has it.
#[derive(Debug)]
pub struct StateDir {
    folder: PathBuf,
    instance: String,
    _lock: ProcessLock,
}

/// Everything that is served, as it was received.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoredSet {
    pub max_age_ms: u64,
    /// The clock of the source, minus our own.
    pub ahead_ms: i64,
    pub documents: Vec<StoredDocument>,
}

/// What is served at one path.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StoredDocument {
    pub path: String,
    pub client: String,
    pub kind: StoredKind,
    /// JSON or PEM.
    pub body: String,
    pub etag: String,
    /// By the clock of the source.
    pub next_change: Option<Timestamp>,
    pub edge_ttl_ms: Option<u64>,
}

/// What a stored document is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StoredKind {
    Jwks,
    Pem,
}

/// Why there is no set, or no folder for it.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    #[error("`{}`: {cause}", path.display())]
    Io { path: PathBuf, cause: io::Error },
    #[error("`{}` is not what was written: {why}", path.display())]
    Corrupt { path: PathBuf, why: String },
    #[error("it is another process's: {0}")]
    InUse(Box<dyn std::error::Error + Send + Sync>),
}

impl StateDir {
    /// Makes the folder where it is missing, takes it for this process, and clears away what a crash left half written.
    pub fn open(folder: &Path) -> Result<Self, DiskError> {
        let failed = |cause| io_error(folder, cause);
        DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(failed)?;
        let lock = ProcessLock::acquire(&folder.join("lock")).map_err(|error| DiskError::InUse(error.into()))?;
        for entry in fs::read_dir(folder).map_err(failed)? {
            let path = entry.map_err(failed)?.path();
            if path.extension().is_some_and(|extension| extension == UNFINISHED) {
                fs::remove_file(&path).map_err(|cause| io_error(&path, cause))?;
            }
        }
        let instance = instance(folder)?;
        Ok(Self { folder: folder.to_owned(), instance, _lock: lock })
    }

    /// Tells this follower from others of its identity; the same for ever.
    pub fn instance(&self) -> &str {
        &self.instance
    }

    /// The last set that was saved, and when it was last known to hold. `None` where there never was one.
    pub fn load(&self) -> Result<Option<(StoredSet, Timestamp)>, DiskError> {
        let path = self.set();
        let bytes = match fs::read(&path) {
            Ok(bytes) => bytes,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(cause) => return Err(io_error(&path, cause)),
        };
        let set = decode(&bytes).map_err(|why| DiskError::Corrupt { path: path.clone(), why })?;
        let changed = fs::metadata(&path).and_then(|file| file.modified()).map_err(|cause| io_error(&path, cause))?;
        let heard = changed.duration_since(UNIX_EPOCH).unwrap_or_default().as_millis();
        Ok(Some((set, Timestamp::from_millis(i64::try_from(heard).unwrap_or(i64::MAX)))))
    }

    /// Puts a set that can't be read aside, for people to look at.
    pub fn set_aside(&self) -> Result<PathBuf, DiskError> {
        let aside = self.folder.join("jwks-set.corrupt");
        fs::rename(self.set(), &aside).map_err(|cause| io_error(&aside, cause))?;
        Ok(aside)
    }

    /// Replaces the set. Whatever happens on the way, the old one or the new one is there, and once this has returned
    /// the new one is.
    pub fn save(&self, set: &StoredSet) -> Result<(), DiskError> {
        replace(&self.folder, "jwks-set", &encode(set))
    }

    /// Notes that the set still held at `at`.
    pub fn confirm(&self, at: Timestamp) -> Result<(), DiskError> {
        let path = self.set();
        let at = UNIX_EPOCH + at.since(Timestamp::from_millis(0));
        let file = File::options().write(true).open(&path).and_then(|file| file.set_modified(at));
        file.map_err(|cause| io_error(&path, cause))
    }

    fn set(&self) -> PathBuf {
        self.folder.join("jwks-set")
    }
}

impl StoredSet {
    /// The longest time that a verifier may keep a document.
    pub fn max_age(&self) -> Duration {
        Duration::from_millis(self.max_age_ms)
    }
}

const MAGIC: &str = "hallmark-jwks-set 1";
/// The extension of a file that is being written.
const UNFINISHED: &str = "new";

#[expect(clippy::unwrap_used, reason = "`Unwrap safety` below")]
fn encode(set: &StoredSet) -> Vec<u8> {
    // Unwrap safety: texts and numbers; such a value always has a JSON form.
    let body = serde_json::to_vec(set).unwrap();
    let mut bytes = format!("{MAGIC} {} {}\n", checksum(&body), body.len()).into_bytes();
    bytes.extend(body);
    bytes
}

fn decode(bytes: &[u8]) -> Result<StoredSet, String> {
    let end = bytes.iter().position(|byte| *byte == b'\n').ok_or("it has no first line")?;
    let (head, body) = (&bytes[..end], &bytes[end + 1..]);
    let head = std::str::from_utf8(head).map_err(|error| error.to_string())?;
    let rest = head.strip_prefix(MAGIC).and_then(|rest| rest.strip_prefix(' '));
    let (sum, length) = rest.and_then(|rest| rest.split_once(' ')).ok_or("its first line is of another format")?;
    if length != body.len().to_string() {
        return Err(format!("it has {} bytes, and its first line says {length}", body.len()));
    }
    if sum != checksum(body) {
        return Err("its checksum is another one".to_owned());
    }
    serde_json::from_slice(body).map_err(|error| error.to_string())
}

fn checksum(bytes: &[u8]) -> String {
    digest::digest(&digest::SHA256, bytes).as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

fn instance(folder: &Path) -> Result<String, DiskError> {
    let path = folder.join("instance");
    match fs::read_to_string(&path) {
        Ok(text) if Uuid::parse_str(text.trim()).is_ok() => Ok(text.trim().to_owned()),
        Ok(_) => Err(DiskError::Corrupt { path, why: "it holds no UUID; remove it for a new one".to_owned() }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let new = Uuid::new_v4().to_string();
            replace(folder, "instance", new.as_bytes())?;
            Ok(new)
        }
        Err(cause) => Err(io_error(&path, cause)),
    }
}

fn replace(folder: &Path, name: &str, bytes: &[u8]) -> Result<(), DiskError> {
    let fresh = folder.join(name).with_extension(UNFINISHED);
    let failed = |cause| io_error(&fresh, cause);
    let mut file = File::create(&fresh).map_err(failed)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(failed)?;
    fs::rename(&fresh, folder.join(name)).map_err(failed)?;
    // The name is on the disk only when the folder is.
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed)
}

fn io_error(path: &Path, cause: io::Error) -> DiskError {
    DiskError::Io { path: path.to_owned(), cause }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn set(n: usize) -> StoredSet {
        let document = |n| StoredDocument {
            path: format!("/clients/c{n}/jwks.json"),
            client: format!("c{n}"),
            kind: StoredKind::Jwks,
            body: r#"{"keys":[]}"#.to_owned(),
            etag: "\"e\"".to_owned(),
            next_change: Some(Timestamp::from_secs(1)),
            edge_ttl_ms: None,
        };
        StoredSet { max_age_ms: 300_000, ahead_ms: -5, documents: (0..n).map(document).collect() }
    }

    #[test]
    fn a_set_comes_back_as_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateDir::open(&folder.path().join("state")).unwrap();
        assert!(state.load().unwrap().is_none());
        state.save(&set(2)).unwrap();
        state.save(&set(3)).unwrap();
        let confirmed = Timestamp::from_secs(1_800_000_000);
        state.confirm(confirmed).unwrap();
        assert_eq!(state.load().unwrap(), Some((set(3), confirmed)));

        let instance = state.instance().to_owned();
        assert!(StateDir::open(&folder.path().join("state")).is_err(), "it is another process's");
        drop(state);
        assert_eq!(StateDir::open(&folder.path().join("state")).unwrap().instance(), instance);
    }

    /// A disk that fails, a hand that edits, a copy that was cut short: nothing of it is served.
    #[test]
    fn what_was_not_written_so_is_not_read() {
        let good = encode(&set(1));
        assert_eq!(decode(&good), Ok(set(1)));
        for cut in 0..good.len() {
            assert!(decode(&good[..cut]).is_err(), "cut at {cut}");
        }
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            assert!(decode(&bad).is_err(), "byte {at} is another");
        }
        let mut longer = good.clone();
        longer.push(b' ');
        assert!(decode(&longer).is_err());
        let body = br#"{"max_age_ms":1,"ahead_ms":0,"documents":[],"more":1}"#;
        let unknown = format!("{MAGIC} {} {}\n", checksum(body), body.len()).into_bytes();
        assert!(decode(&[&unknown[..], body].concat()).is_err(), "a member that nobody knows");
    }

    #[test]
    fn what_a_crash_left_is_cleared_away() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateDir::open(folder.path()).unwrap();
        state.save(&set(1)).unwrap();
        drop(state);
        fs::write(folder.path().join("jwks-set.new"), "half a s").unwrap();
        let state = StateDir::open(folder.path()).unwrap();
        assert_eq!(state.load().unwrap().unwrap().0, set(1));
        assert!(!folder.path().join("jwks-set.new").exists());
        fs::write(folder.path().join("jwks-set"), "garbage").unwrap();
        assert!(matches!(state.load(), Err(DiskError::Corrupt { .. })));
        assert!(state.set_aside().unwrap().exists());
        assert!(state.load().unwrap().is_none());
    }
}
